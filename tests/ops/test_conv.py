"""Conv: rank, stride, dilation, group, padding of every kind, time on any axis."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.errors import Refusal
from tests.contexts import CONTEXTS, batches, contexts, pulses, verify
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


@st.composite
def attributes(draw: st.DrawFn, spatial: int, time: int) -> dict[str, Any]:
    """Kernel, and attributes in any spelling."""
    kernel = draw(st.lists(st.integers(1, 4), min_size=spatial, max_size=spatial))
    strides = draw(st.lists(st.integers(1, 3), min_size=spatial, max_size=spatial))
    dilations = draw(st.lists(st.integers(1, 3), min_size=spatial, max_size=spatial))
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    out: dict[str, Any] = {"kernel": kernel}
    if draw(st.booleans()) or max(strides) > 1:
        out["strides"] = strides
    if auto.startswith("SAME"):
        # onnxruntime takes no dilation there
        dilations = [1] * spatial
    if max(dilations) > 1:
        out["dilations"] = dilations
    if auto != "NOTSET":
        out["auto_pad"] = auto
    else:
        reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        pads = [draw(st.integers(0, r + (2 if a % spatial == time else 0))) for a, r in enumerate([*reach, *reach])]
        if any(pads) or draw(st.booleans()):
            out["pads"] = pads
    if draw(st.booleans()):
        out["kernel_shape"] = kernel
    return out


def conv(channels: int, group: int, bias: bool, a: dict[str, Any]):
    """The operator with weights; ``a`` holds ``kernel`` beside its attributes."""
    attrs = {k: v for k, v in a.items() if k != "kernel"}

    def op(g: G, x: str) -> str:
        extra = [g.weight(2 * group)] if bias else []
        return g("Conv", x, g.weight(2 * group, channels // group, *a["kernel"]), *extra, group=group, **attrs)

    return op


def multiple(a: dict[str, Any], time: int) -> int:
    return a.get("strides", [1] * 3)[time]


@pytest.mark.parametrize(("spatial", "time"), [(1, 0), (2, 0), (2, 1), (3, 1)])
@given(data=st.data())
@examples(25)
def test_any_attributes(spatial: int, time: int, data: st.DataObject) -> None:
    a = data.draw(attributes(spatial, time))
    group = data.draw(st.sampled_from([1, 1, 2]))
    shape: list[Any] = [data.draw(batches), 2, *(10 + i for i in range(spatial))]
    shape[2 + time] = "S"
    op = conv(2, group, data.draw(st.booleans()), a)
    least = not a.get("auto_pad", "").startswith("SAME") or multiple(a, time) == 1
    verify(op, shape, data.draw(contexts), data.draw(pulses()), axis=2 + time, multiple=multiple(a, time), least=least)


@pytest.mark.parametrize("context", CONTEXTS)
@given(fill=st.sampled_from([0.0, 1.5]), a=attributes(1, 0), batch=batches, at=pulses())
@examples(12)
def test_every_place(context: str, fill: float, a: dict[str, Any], batch: Any, at: Any) -> None:
    least = not a.get("auto_pad", "").startswith("SAME") or multiple(a, 0) == 1
    verify(conv(2, 1, True, a), [batch, 2, "S"], context, at, multiple=multiple(a, 0), fill=fill, least=least)


@given(a=attributes(1, 0), b=attributes(1, 0), c=attributes(1, 0), batch=batches, at=pulses())
@examples(30)
def test_chains(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any], batch: Any, at: Any) -> None:
    """Strides, pads and dilations compose; pads behind a stride and a delay are where wrong models come from."""

    def op(g: G, x: str) -> str:
        for attrs in (a, b, c):
            x = conv(2, 1, True, attrs)(g, x)
        return x

    total = multiple(a, 0) * multiple(b, 0) * multiple(c, 0)
    verify(op, [batch, 2, "S"], "alone", at, multiple=total, least=False)


@given(at=pulses(), k=st.integers(1, 3))
@examples(6)
def test_time_in_the_batch(at: Any, k: int) -> None:
    """Every frame is an example of its own."""
    verify(conv(3, 1, True, {"kernel": [k], "pads": [k - 1, 0]}), ["S", 3, 7], "late", at, axis=0)


def test_weights_from_a_static_input() -> None:
    g = G()
    x, w = g.input("x", [1, 2, "S"]), g.input("w", [3, 2, 4])
    check(g.model(g("Conv", x, w, pads=[1, 1])))


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("spelling", ["pads", "pad-conv", "chomp", "pad-relu-conv", "stacked"])
def test_causal_is_free(k: int, d: int, spelling: str) -> None:
    """However a causal network is written, it has delay 0 and neither counter, mask nor ``valid_frames``."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    reach = (k - 1) * d

    def layer(y: str) -> str:
        w = g.weight(2, 2, k)
        if spelling == "pads":
            return g("Conv", y, w, pads=[reach, 0], dilations=[d])
        if spelling == "chomp":
            y = g("Conv", y, w, pads=[reach, reach], dilations=[d])
            return g("Slice", y, g.ints(0), g.ints(-reach), g.ints(2))
        y = g("Pad", y, g.ints(0, 0, reach, 0, 0, 0))
        if spelling == "pad-relu-conv":
            y = g("Relu", y)
        y = g("Conv", y, w, dilations=[d])
        return g("Add", y, y) if spelling == "stacked" else y

    y = x
    for _ in range(3):
        y = g("Tanh", layer(y))
    model = g.model(y)
    c = check(model, "S", (1, 4, "P"))
    assert c.manifest["outputs"][0]["delay"] == 0
    assert c.manifest["valid"] is None
    assert {s["kind"] for s in c.manifest["states"]} == {"buffer"}
    assert not {"Where", "Less", "Greater", "And"} & {n.op_type for n in c.model.graph.node}


def test_time_in_the_channels_is_refused() -> None:
    g = G()
    x = g.input("x", [1, "S", 5])
    with pytest.raises(Refusal, match=r"on axis 1\n  why:  it mixes all channels, and time is the channel axis"):
        check(g.model(g("Conv", x, g.weight(2, 2, 3))))


def test_weights_over_time_are_refused() -> None:
    g = G()
    x, w = g.input("x", [1, 2, 9]), g.input("w", ["S", 2, 3])
    with pytest.raises(Refusal, match="its weights change with time"):
        check(g.model(g("Conv", x, w)))
