"""Depthwise convolutions as onnxruntime's CausalConvWithState: exact wherever it stands, and only where it is right."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import depthwise
from pulsify import StreamBatch, StreamSession
from pulsify.api import Conversion, convert
from pulsify.errors import ModelError, UsageError
from pulsify.rewrites import causal_convs
from pulsify.runtime import model as client_model
from tests.contexts import pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

OP = "CausalConvWithState"


def forced() -> mock._patch[Callable[..., bool]]:
    """Wherever it may stand, whatever it costs."""
    return mock.patch.object(causal_convs, "_pays", lambda g, node, conv: True)


def count(c: Conversion, op: str = OP) -> int:
    return sum(n.op_type == op for n in c.model.graph.node)


def mamba(batch: int | str = "N") -> onnx.ModelProto:
    return depthwise.mamba(6, 8, depth=1, batch=batch)


def tcn(batch: int | str = 1, inner: int = 8) -> onnx.ModelProto:
    return depthwise.tcn(4, inner, depth=3, batch=batch)


@pytest.mark.parametrize("batch", [1, "N"])
def test_mamba(batch: int | str) -> None:
    with forced():
        c = check(mamba(batch), pulses=(5, 2, 1), target="onnxruntime")
    assert count(c) == 1 and count(c, "Sigmoid") == 1, "one node has the history, the convolution and its SiLU"
    assert not {"Concat", "Conv", "Slice"} & {n.op_type for n in c.model.graph.node}
    (state,) = c.manifest["states"]
    assert state["shape"] == [batch, 8, 3] and (state["kind"], state["axis"], state["dtype"]) == ("buffer", 2, "float32")
    assert c.manifest["needs"] == {"domains": {"com.microsoft": 1}, "onnxruntime": "1.26"}
    assert {o.domain: o.version for o in c.model.opset_import}["com.microsoft"] == 1
    plain = convert(mamba(batch), axis="S", pulse=1)
    assert c.manifest["state_bytes"] == plain.manifest["state_bytes"] and plain.manifest["needs"] is None


@pytest.mark.parametrize("batch", [1, "N"])
def test_tcn(batch: int | str) -> None:
    with forced():
        c = check(tcn(batch), pulses=(4, 1), target="onnxruntime")
    assert count(c) == 3 and c.manifest["needs"]["onnxruntime"] == "1.30", "dilations came later"


def test_streams_of_a_client() -> None:
    """Sessions, batches whose rows start anew, and saved streams, by the project's own client."""
    c = convert(mamba(), axis="S", pulse=1, target="onnxruntime")
    data = c.model.SerializeToString()
    x = np.random.default_rng(0).standard_normal((1, 23, 6)).astype(np.float32)
    want = StreamSession(convert(mamba(), axis="S", pulse=3).model.SerializeToString())
    (name,) = (o["name"] for o in c.manifest["outputs"])
    expected = np.concatenate([want.feed(x=x)[name], want.finish()[name]], axis=1)
    first = StreamSession(data)
    head = first.feed(x=x[:, :9])[name]
    second = StreamSession(data)
    second.load(first.save())
    got = np.concatenate([head, second.feed(x=x[:, 9:])[name], second.finish()[name]], axis=1)
    assert np.allclose(got, expected, atol=1e-5)
    batch = StreamBatch(data)
    early = batch.add()
    batch.feed({early: {"x": x[:, :5]}})
    late = batch.add()
    part = batch.feed({late: {"x": x}, early: {"x": -x}})[late][name]
    assert np.allclose(np.concatenate([part, batch.finish(late)[name]], axis=1), expected, atol=1e-5)


@given(data=st.data())
@examples(40)
def test_any_shape(data: st.DataObject) -> None:
    """Kernels, dilations, paddings on either side, a bias or none, what stands before and behind, several in a row, an axis of
    length 1 beside time."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"), opset=18)
    channels = data.draw(st.integers(2, 9), "channels")
    y = g.input("x", [data.draw(st.sampled_from(["N", 1, 2]), "batch"), channels, "S"])
    wide = data.draw(st.sampled_from([None, 2, 3]), "axis beside")
    one = [1] * (wide is not None)

    def along(values: list[int], other: int) -> list[int]:
        """Attributes per axis, from those along time."""
        return values if wide is None else [other, *values] if wide == 2 else [*values, other]

    if wide is not None:
        y = g("Unsqueeze", y, g.ints(wide))
    outputs = []
    layers = data.draw(st.integers(1, 3), "layers")
    for _ in range(layers):
        k, d = data.draw(st.integers(2, 6), "kernel"), data.draw(st.integers(1, 4), "dilation")
        before = data.draw(st.integers(0, (k - 1) * d), "before")
        if data.draw(st.booleans(), "layer before"):
            y = g("Conv", y, g.weight(channels, channels, 1, *one), g.weight(channels))
        bias = [g.weight(channels)] if data.draw(st.booleans(), "bias") else []
        pads = [*along([before], 0), *along([(k - 1) * d - before], 0)]
        y = g("Conv", y, g.weight(channels, 1, *along([k], 1)), *bias, group=channels, dilations=along([d], 1), pads=pads)
        end = data.draw(st.sampled_from(["", "silu", "turned silu", "seen silu", "output", "Tanh"]), "end")
        if "silu" in end:
            gate = g("Sigmoid", y)
            outputs += [gate] if "seen" in end else []
            y = g("Mul", gate, y) if "turned" in end else g("Mul", y, gate)
        elif end == "output":
            outputs.append(y)
            y = g("Relu", y)
        elif end:
            y = g(end, y)
    with forced():
        c = check(g.model(*outputs, y), "S", data.draw(pulses()), target="onnxruntime")
    assert count(c) == layers


def test_swish() -> None:
    """One operator from opset 24 on; with another slope it stays what it is."""
    for alpha, left in ((1.0, 0), (0.5, 1)):
        g = G(opset=24)
        y = g("Conv", g.input("x", [1, 4, "S"]), g.weight(4, 1, 3), group=4, pads=[2, 0])
        c = convert(g.model(g("Swish", y, alpha=alpha)), axis="S", pulse=1, target="onnxruntime")
        (node,) = (n for n in c.model.graph.node if n.op_type == OP)
        assert [a.s for a in node.attribute if a.name == "activation"] == [b"none" if left else b"silu"]
        assert count(c, "Swish") == left


def conv(g: G, x: str, taps: int = 3, **attributes: object) -> str:
    name: str = g("Conv", x, g.weight(4, 1, taps), **{"group": 4, "pads": [taps - 1, 0], **attributes})
    return name


def picture(g: G, x: str, width: int) -> str:
    """``[N, C, S, width]``."""
    y: str = g("Unsqueeze", x, g.ints(3))
    return g("Concat", *[y] * width, axis=3)  # type: ignore[no-any-return]


#: What keeps the plain form: the nodes behind an input of four channels.
PLAIN: dict[str, Callable[[G, str], list[str]]] = {
    "two views": lambda g, x: [conv(g, x), conv(g, x, 5)],
    "two readers": lambda g, x: [conv(g, x), conv(g, x)],
    "late reader": lambda g, x: [g("Add", x, conv(g, x, pads=[0, 2]))],
    "strides": lambda g, x: [conv(g, x, strides=[2])],
    "groups": lambda g, x: [g("Conv", x, g.weight(4, 2, 3), group=2, pads=[2, 0])],
    "several of each": lambda g, x: [g("Conv", x, g.weight(8, 1, 3), group=4, pads=[2, 0])],
    "a start": lambda g, x: [conv(g, g("Pad", x, g.ints(0, 0, 2, 0, 0, 0), g.const(0.5, np.float32)), pads=[0, 0])],
    "two dimensions": lambda g, x: [g("Conv", picture(g, x, 3), g.weight(4, 1, 3, 1), group=4, pads=[2, 0, 0, 0])],
    "a kernel of two": lambda g, x: [g("Conv", picture(g, x, 2), g.weight(4, 1, 3, 2), group=4, pads=[2, 0, 0, 0])],
}


@pytest.mark.parametrize("what", PLAIN)
def test_plain(what: str) -> None:
    g = G()
    outputs = PLAIN[what](g, g.input("x", ["N", 4, "S"]))
    with forced():
        c = check(g.model(*outputs), pulses=(2, 4), target="onnxruntime")
    assert count(c) == 0 and c.manifest["needs"] is None


@pytest.mark.parametrize("dtype", [onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16])
def test_other_types(dtype: int) -> None:
    g = G()
    w = g.weight(4, 1, 3, dtype=onnx.helper.tensor_dtype_to_np_dtype(dtype))
    y = g("Conv", g.input("x", [1, 4, "S"], dtype), w, group=4, pads=[2, 0])
    assert count(convert(g.model(y, **{y: dtype}), axis="S", pulse=1, target="onnxruntime")) == 0


def test_only_if_asked_for() -> None:
    for asked in ({}, {"optimize": "none", "target": "onnxruntime"}, {"target": "onnx"}):
        c = convert(mamba(), axis="S", pulse=1, **asked)  # type: ignore[arg-type]
        assert count(c) == 0 and all(n.domain == "" for n in c.model.graph.node)
    assert count(convert(mamba(), axis="S", pulse=1, optimize="size", target="onnxruntime")) == 1


def test_only_where_it_pays() -> None:
    """With few frames and a batch; not where rows do as well, or blocks of channels stay in their order; never at any pulse."""
    used = {pulse: count(convert(mamba(), axis="S", pulse=pulse, target="onnxruntime")) for pulse in (1, 4, 512, "P")}
    assert used == {1: 1, 4: 1, 512: 0, "P": 0}
    assert count(convert(mamba(1), axis="S", pulse=1, target="onnxruntime")) == 0, "rows"
    assert count(convert(tcn(inner=64), axis="S", pulse=4, target="onnxruntime")) == 0, "blocks"


def test_a_target_that_is_none() -> None:
    with pytest.raises(UsageError, match="target 'tract'\n  why:  the targets are onnx, onnxruntime"):
        convert(mamba(), axis="S", target="tract")


@pytest.mark.parametrize(("op", "attributes"), [("CausalConvOfTomorrow", {}), (OP, {"of_tomorrow": 1})])
def test_an_older_runtime_says_so(op: str, attributes: dict[str, int]) -> None:
    """As an old onnxruntime sees an operator, or an attribute, that it has not."""
    g = G()
    model = g.model(g(op, g.input("x", [1, 4, 8]), g.weight(4, 1, 3), domain="com.microsoft", **attributes))
    with pytest.raises(ModelError, match=r"a newer onnxruntime \(this is .*\); a pulsed model, also to convert it without --target"):
        client_model.open_session(model.SerializeToString())
