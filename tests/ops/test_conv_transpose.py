"""ConvTranspose: rank, stride, dilation, group, padding of every kind, gaps, time on any spatial axis."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.api import convert
from pulsify.errors import Refusal
from tests.contexts import CONTEXTS, batches, contexts, pulses, verify
from tests.contract_check import check, check_least_delay
from tests.graphs import G
from tests.profiles import examples


@st.composite
def attributes(draw: st.DrawFn, spatial: int, time: int) -> dict[str, Any]:
    """Kernel, and attributes in any spelling that onnxruntime runs."""
    kernel = draw(st.lists(st.integers(1, 5), min_size=spatial, max_size=spatial))
    strides = draw(st.lists(st.integers(1, 4), min_size=spatial, max_size=spatial))
    dilations = draw(st.lists(st.integers(1, 3), min_size=spatial, max_size=spatial))
    extra = [draw(st.integers(0, s - 1)) for s in strides]
    auto = draw(st.sampled_from(["NOTSET", "NOTSET", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    out: dict[str, Any] = {"kernel": kernel, "strides": strides}
    if max(dilations) > 1 or draw(st.booleans()):
        out["dilations"] = dilations
    if any(extra):
        out["output_padding"] = extra
    if auto != "NOTSET":
        out["auto_pad"] = auto
    else:
        reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
        more = 4  # more than the kernel reaches: whole frames of the input are cut off
        pads = [draw(st.integers(0, r + (more if a % spatial == time else 0))) for a, r in enumerate([*reach, *reach])]
        if any(pads) or draw(st.booleans()):
            out["pads"] = pads
    if draw(st.booleans()):
        out["kernel_shape"] = kernel
    return out


def up(channels: int, group: int, bias: bool, a: dict[str, Any]):
    """The operator with weights; ``a`` holds ``kernel`` beside its attributes."""
    attrs = {k: v for k, v in a.items() if k != "kernel"}

    def op(g: G, x: str) -> str:
        extra = [g.weight(2 * group)] if bias else []
        return g("ConvTranspose", x, g.weight(channels, 2, *a["kernel"]), *extra, group=group, **attrs)

    return op


def gapless(a: dict[str, Any], time: int) -> bool:
    """Whether every output frame depends on some input frame: frames in gaps hold the bias, whatever comes."""
    k, u, d = (a.get(name, [1] * 3)[time] for name in ("kernel", "strides", "dilations"))
    return len({i * d % u for i in range(k)}) == u and not any(a.get("output_padding", [0] * 3)[time : time + 1])


@pytest.mark.parametrize(("spatial", "time"), [(1, 0), (2, 0), (2, 1), (3, 1)])
@given(data=st.data())
@examples(12)
def test_any_attributes(spatial: int, time: int, data: st.DataObject) -> None:
    a = data.draw(attributes(spatial, time))
    group = data.draw(st.sampled_from([1, 1, 2]))
    shape: list[Any] = [data.draw(batches), 2, *(10 + i for i in range(spatial))]
    shape[2 + time] = "S"
    op = up(2, group, data.draw(st.booleans()), a)
    verify(op, shape, data.draw(contexts), data.draw(pulses()), axis=2 + time, least=gapless(a, time))


@pytest.mark.parametrize("context", CONTEXTS)
@given(fill=st.sampled_from([0.0, 1.5]), a=attributes(1, 0), batch=batches, at=pulses())
@examples(12)
def test_every_place(context: str, fill: float, a: dict[str, Any], batch: Any, at: Any) -> None:
    verify(up(2, 1, True, a), [batch, 2, "S"], context, at, fill=fill, least=gapless(a, 0))


@given(a=attributes(1, 0), b=attributes(1, 0), batch=batches, at=pulses())
@examples(15)
def test_chains(a: dict[str, Any], b: dict[str, Any], batch: Any, at: Any) -> None:
    """Rates and delays multiply; padding behind an upsampled delay is where wrong models come from."""
    verify(
        lambda g, x: up(2, 1, True, b)(g, g("Tanh", up(2, 1, True, a)(g, x))), [batch, 2, "S"], "alone", at, least=False
    )


@pytest.mark.parametrize("u", [2, 3, 8])
def test_kernel_equal_to_stride_is_free(u: int) -> None:
    """Nothing to remember, nothing to mask: one node."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    model = g.model(g("ConvTranspose", x, g.weight(2, 3, u), g.weight(3), strides=[u]))
    c = check(model)
    assert [n.op_type for n in convert(model, axis="S", pulse=2, optimize="none").model.graph.node] == ["ConvTranspose"]
    assert not c.manifest["states"] and c.manifest["valid"] is None and c.manifest["outputs"][0]["delay"] == 0


def test_after_a_delay() -> None:
    """The delay is multiplied by the stride; the bias is added once."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    y = g("Conv", x, g.weight(2, 2, 5), pads=[2, 2])
    model = g.model(g("ConvTranspose", y, g.weight(2, 3, 4), g.weight(3), strides=[2], pads=[1, 1]))
    c = check(model)
    assert c.manifest["outputs"][0]["delay"] == 2 * 2 + 1
    check_least_delay(model)


def test_causal_upsampling_has_no_delay() -> None:
    """Overlap cut off at the end, as streaming codecs do."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    y = g("ConvTranspose", x, g.weight(2, 3, 8), g.weight(3), strides=[4])
    c = check(g.model(g("Slice", y, g.ints(0), g.ints(-4), g.ints(2))))
    assert c.manifest["outputs"][0]["delay"] == 0 and c.manifest["valid"] is None


@given(at=pulses(), k=st.integers(1, 3))
@examples(4)
def test_time_in_the_batch(at: Any, k: int) -> None:
    """Every frame is an example of its own; output_shape is as good there as any."""
    op = up(3, 1, True, {"kernel": [k], "strides": [2], "output_shape": [14], "auto_pad": "SAME_UPPER"})
    verify(op, ["S", 3, 7], "late", at, axis=0)


def test_weights_from_a_static_input() -> None:
    g = G()
    x, w = g.input("x", [1, 2, "S"]), g.input("w", [2, 3, 4])
    check(g.model(g("ConvTranspose", x, w, strides=[2], pads=[1, 1])))


def test_refusals() -> None:
    g = G()
    x = g.input("x", [1, "S", 5])
    with pytest.raises(Refusal, match="on axis 1\n  why:  it mixes all channels, and time is the channel axis"):
        check(g.model(g("ConvTranspose", x, g.weight(2, 2, 3))))
    g = G()
    x = g.input("x", [1, 2, "S"])
    with pytest.raises(Refusal, match="the time axis is baked in: its output_shape fixes 40 frames"):
        check(g.model(g("ConvTranspose", x, g.weight(2, 2, 3), strides=[2], output_shape=[40])))
    g = G()
    x, w = g.input("x", [1, 2, 9]), g.input("w", [2, "S", 3])
    with pytest.raises(Refusal, match="its weights change with time"):
        check(g.model(g("ConvTranspose", x, w)))
