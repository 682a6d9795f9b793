"""MaxPool, AveragePool, LpPool: kernel, stride, dilation, padding of every kind, ceil_mode, time on any axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.errors import Refusal
from tests.contexts import CONTEXTS, batches, contexts, pulses, verify
from tests.contract_check import check, check_least_delay
from tests.graphs import G
from tests.profiles import examples

OPS = ("MaxPool", "AveragePool", "LpPool")


@st.composite
def pools(draw: st.DrawFn, spatial: int, op: str | None = None) -> dict[str, Any]:
    """An operator under ``op``, its opset under ``opset``, and its attributes."""
    op = op or draw(st.sampled_from(OPS))
    opset = draw(st.sampled_from([18, 19, 22]))
    kernel = draw(st.lists(st.integers(1, 4), min_size=spatial, max_size=spatial))
    strides = draw(st.lists(st.integers(1, 4), min_size=spatial, max_size=spatial))
    dilations = draw(st.lists(st.integers(1, 3), min_size=spatial, max_size=spatial))
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    out: dict[str, Any] = {"op": op, "opset": opset, "kernel_shape": kernel}
    if auto.startswith("SAME"):
        # onnxruntime takes no kernel smaller than its stride there
        strides = [min(s, k) for s, k in zip(strides, kernel, strict=True)]
    if max(strides) > 1 or draw(st.booleans()):
        out["strides"] = strides
    if not auto.startswith("SAME") and (op != "AveragePool" or opset > 18) and draw(st.booleans()):
        out["dilations"] = dilations
    if auto != "NOTSET":
        out["auto_pad"] = auto
    elif draw(st.booleans()):
        out["pads"] = [draw(st.integers(0, k - 1)) for k in kernel * 2]
    if draw(st.booleans()):
        out["ceil_mode"] = 1
    if op == "AveragePool":
        out["count_include_pad"] = draw(st.integers(0, 1))
    if op == "LpPool":
        out["p"] = draw(st.integers(1, 3))
    return out


def pool(a: dict[str, Any]):
    """The operator."""
    attributes = {k: v for k, v in a.items() if k not in ("op", "opset")}
    return lambda g, x: g(a["op"], x, **attributes)


def stride(a: dict[str, Any], time: int) -> int:
    return a.get("strides", [1] * 3)[time]


def exact_start(a: dict[str, Any], time: int) -> bool:
    """Whether the delay is the least: not where padding depends on the length modulo the stride."""
    return not a.get("auto_pad", "").startswith("SAME") or stride(a, time) == 1


@pytest.mark.parametrize(("spatial", "time"), [(1, 0), (2, 0), (2, 1), (3, 1)])
@given(data=st.data())
@examples(25)
def test_any_attributes(spatial: int, time: int, data: st.DataObject) -> None:
    a = data.draw(pools(spatial))
    shape: list[Any] = [data.draw(batches), 2, *(10 + i for i in range(spatial))]
    shape[2 + time] = "S"
    verify(
        pool(a), shape, data.draw(contexts), data.draw(pulses()), axis=2 + time, multiple=stride(a, time),
        least=False, opset=a["opset"],
    )  # fmt: skip


@pytest.mark.parametrize("context", CONTEXTS)
@given(a=pools(1), fill=st.sampled_from([0.0, 1.5]), batch=batches, at=pulses())
@examples(14)
def test_every_place(context: str, a: dict[str, Any], fill: float, batch: Any, at: Any) -> None:
    verify(pool(a), [batch, 2, "S"], context, at, multiple=stride(a, 0), fill=fill, least=False, opset=a["opset"])


@given(op=st.sampled_from(OPS), k=st.integers(1, 5), before=st.integers(0, 4), after=st.integers(0, 4), ceil=st.integers(0, 1))
@examples(15)
def test_least_delay(op: str, k: int, before: int, after: int, ceil: int) -> None:
    g = G()
    y = g(op, g.input("x", [1, 1, "S"]), kernel_shape=[k], pads=[min(before, k - 1), min(after, k - 1)], ceil_mode=ceil)
    check_least_delay(g.model(y))


@given(a=pools(1), b=pools(1), at=pulses(), batch=batches)
@examples(25)
def test_chains(a: dict[str, Any], b: dict[str, Any], at: Any, batch: Any) -> None:
    """A pool behind a pool: the masks of the second see the length law of the first."""

    def op(g: G, x: str) -> str:
        return pool(b)(g, g("Tanh", pool(a)(g, x)))

    opset = max(a["opset"], b["opset"])
    verify(op, [batch, 2, "S"], "alone", at, multiple=stride(a, 0) * stride(b, 0), least=False, opset=opset)


@pytest.mark.parametrize("dtype", [TensorProto.INT8, TensorProto.UINT8, TensorProto.FLOAT16, TensorProto.DOUBLE])
@pytest.mark.parametrize("context", ["alone", "late"])
@pytest.mark.parametrize("batch", ["N", 1])
def test_maximum_of_any_type(dtype: int, context: str, batch: Any) -> None:
    """Padding is the lowest number of the type, below every frame."""

    def op(g: G, x: str) -> str:
        low = g.const(np.asarray(120), {2: np.uint8, 3: np.int8}.get(dtype, np.float16 if dtype == 10 else np.float64))
        x = x if dtype == TensorProto.UINT8 else g("Sub", x, low)
        return g("MaxPool", x, kernel_shape=[3], pads=[2, 1], strides=[2], ceil_mode=1)

    if dtype == TensorProto.INT8:

        def op(g: G, x: str) -> str:
            wide = g("Sub", g("Cast", x, to=TensorProto.INT32), g.const(120, np.int32))
            return g("MaxPool", g("Cast", wide, to=TensorProto.INT8), kernel_shape=[3], pads=[2, 1], strides=[2])

    verify(op, [batch, 2, "S"], context, (1, 3, "P"), multiple=2, dtype=dtype, result=dtype)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("axis", [0, 1])
def test_time_in_batch_or_channels(op: str, axis: int) -> None:
    """Each frame is pooled by itself."""
    shape: list[Any] = [3, 3, 7]
    shape[axis] = "S"
    verify(lambda g, x: g(op, x, kernel_shape=[3], pads=[1, 1], ceil_mode=1, strides=[2]), shape, "late", axis=axis)


def nodes(c: Any) -> list[str]:
    return [n.op_type for n in c.model.graph.node]


@pytest.mark.parametrize("op", ["LpPool", "mean with padding", "maximum of what is never negative"])
def test_causal_is_free(op: str) -> None:
    """Zero padding in front costs neither counter nor mask; nor does a maximum over rectified frames."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    for _ in range(2):
        if op == "LpPool":
            x = g(op, x, kernel_shape=[4], pads=[3, 0])
        elif op == "mean with padding":
            x = g("AveragePool", x, kernel_shape=[4], pads=[3, 0], count_include_pad=1)
        else:
            x = g("MaxPool", g("Relu", x), kernel_shape=[4], pads=[3, 0])
    c = check(g.model(x), "S", (1, 4, "P"))
    assert c.manifest["outputs"][0]["delay"] == 0
    assert c.manifest["valid"] is None
    assert {s["kind"] for s in c.manifest["states"]} == {"buffer"}
    assert "Where" not in nodes(c)


@pytest.mark.parametrize("before", [2, 3])
@pytest.mark.parametrize("cut", [False, True])
def test_a_causal_mean_only_counts_from_the_start(before: int, cut: bool) -> None:
    """Its divisor needs the position of a frame; where the stream ends is no business of it."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    x = g("AveragePool", x, kernel_shape=[4], pads=[before, 3 if cut else 0])
    if cut:
        x = g("Slice", x, g.ints(0), g.ints(-3), g.ints(2))
    c = check(g.model(x), "S", (1, 4, "P"))
    assert c.manifest["valid"] is None
    assert sorted(s["kind"] for s in c.manifest["states"]) == ["buffer", "counter"]


def test_no_padding_no_counter() -> None:
    g = G()
    c = check(g.model(g("AveragePool", g.input("x", ["N", 2, "S"]), kernel_shape=[4])), "S", (1, "P"))
    assert sorted(nodes(c)) == ["AveragePool", "Concat", "Slice"]


def test_partial_windows_on_another_axis() -> None:
    """ceil_mode stands for all axes: with time it is written as padding, and so it is on the others."""
    for op in OPS:
        for include in (0, 1):
            g = G()
            extra = {"count_include_pad": include} if op == "AveragePool" else {}
            x = g.input("x", [1, 2, "S", 8])
            y = g(op, x, kernel_shape=[2, 3], strides=[1, 3], ceil_mode=1, pads=[1, 1, 0, 0], **extra)
            check(g.model(y), "S", (1, 3, "P"))


def test_minus_infinity_is_data_too() -> None:
    """Frames of -inf before and after padding."""
    g = G()
    x = g("Log", g("Relu", g.input("x", [1, 2, "S"])))
    check(g.model(g("MaxPool", x, kernel_shape=[2], dilations=[2], pads=[1, 1])), "S", (1, 3))


def test_unused_indices_are_dropped() -> None:
    g = G()
    y, _ = g("MaxPool", g.input("x", [1, 2, "S"]), n=2, kernel_shape=[3])
    (node,) = (n for n in check(g.model(y), "S", (2,)).model.graph.node if n.op_type == "MaxPool")
    assert len(node.output) == 1


def test_indices_are_refused() -> None:
    g = G()
    y, where = g("MaxPool", g.input("x", [1, 2, "S"]), n=2, kernel_shape=[3])
    with pytest.raises(Refusal, match="its second output holds indices into the whole stream") as e:
        check(g.model(y, where, **{where: TensorProto.INT64}))
    assert "MaxPool node" in str(e.value)
    assert "on axis 2" in str(e.value)


def test_same_padding_with_dilation_is_refused() -> None:
    g = G(opset=22)
    y = g("MaxPool", g.input("x", [1, 2, "S"]), kernel_shape=[3], dilations=[2], auto_pad="SAME_UPPER")
    with pytest.raises(Refusal, match="ambiguous with dilation"):
        check(g.model(y))


def test_rounding_up_over_an_unknown_axis_is_refused() -> None:
    g = G()
    y = g("AveragePool", g.input("x", [1, 2, "S", "H"]), kernel_shape=[2, 3], strides=[1, 3], ceil_mode=1)
    with pytest.raises(Refusal, match="rounds up over an axis of H"):
        check(g.model(y), ["x:2"])
