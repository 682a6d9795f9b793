"""Pad: any value, any axes, negative amounts, every spelling; masks only where a reader would notice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.api import convert
from pulsify.errors import Refusal
from tests.contexts import CONTEXTS, batches, contexts, pulses, verify, window
from tests.contract_check import check, check_least_delay
from tests.graphs import G
from tests.profiles import examples

values = st.sampled_from([0.0, 1.0, -2.5, float("-inf")])


def padding(amounts: list[int], value: float = 0.0, axes: list[int] | None = None, dtype: Any = np.float32, **attrs: Any):
    """A Pad; with a value that is given, or left out where it is 0."""

    def op(g: G, x: str) -> str:
        extra = [g.const(value, dtype)] if value or axes is not None else []
        extra += [g.ints(*axes)] if axes is not None else []
        return g("Pad", x, g.ints(*amounts), *extra, **attrs)

    return op


@given(
    before=st.integers(-3, 4), after=st.integers(-3, 4), value=values, context=contexts, batch=batches, at=pulses(),
    axes=st.booleans(),
)  # fmt: skip
@examples(40)
def test_along_time(before: int, after: int, value: float, context: str, batch: Any, at: Any, axes: bool) -> None:
    amounts = [before, after] if axes else [0, 0, before, 0, 0, after]
    least = np.isfinite(value)
    verify(padding(amounts, value, [-1] if axes else None), [batch, 2, "S"], context, at, least=least)


@given(
    amounts=st.lists(st.integers(-1, 2), min_size=8, max_size=8), value=values, batch=st.sampled_from([1, 2]), at=pulses(),
    time=st.integers(0, 3),
)  # fmt: skip
@examples(25)
def test_several_axes_at_once(amounts: list[int], value: float, batch: int, at: Any, time: int) -> None:
    shape: list[Any] = [batch + 1, 3, 4, 5]
    shape[time] = "S"
    verify(padding(amounts, value), shape, "late", at, axis=time, least=False)


@given(
    a=st.tuples(st.integers(-2, 3), st.integers(-2, 3)), b=st.tuples(st.integers(-2, 3), st.integers(-2, 3)),
    va=values, vb=values, convs=st.booleans(), batch=batches, at=pulses(),
)  # fmt: skip
@examples(30)
def test_two_pads(a: Any, b: Any, va: float, vb: float, convs: bool, batch: Any, at: Any) -> None:
    """In a row (fused or not) or with a window between them."""

    def op(g: G, x: str) -> str:
        y = padding([0, 0, a[0], 0, 0, a[1]], va)(g, x)
        if convs:
            y = g("Conv", g("Clip", y, g.const(-3.0, np.float32)), g.weight(2, 2, 3))
        return padding([0, 0, b[0], 0, 0, b[1]], vb)(g, y)

    verify(op, [batch, 2, "S"], "masked", at, least=False)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@given(context=contexts, at=pulses(), amounts=st.lists(st.integers(0, 1), min_size=2, max_size=2))
@examples(5)
def test_other_modes_on_other_axes(mode: str, context: str, at: Any, amounts: list[int]) -> None:
    verify(padding([0, amounts[0], 0, 0, amounts[1], 0], mode=mode), [1, 3, "S"], context, at, opset=19)


def test_wrapping_along_time_is_refused() -> None:
    with pytest.raises(Refusal, match="wrap padding along time"):
        verify(padding([0, 0, 1, 0, 0, 1], mode="wrap"), [1, 3, "S"], opset=19)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize(
    ("dtype", "kind"), [(TensorProto.INT64, np.int64), (TensorProto.INT32, np.int32), (TensorProto.DOUBLE, np.float64)]
)
def test_other_types(dtype: int, kind: Any, context: str) -> None:
    """A mask of any type."""

    def op(g: G, x: str) -> str:
        y = padding([0, 0, 2, 0, 0, 1], 3, dtype=kind)(g, x)
        return g("Cast", window(g, y, 2), to=TensorProto.FLOAT)

    verify(op, [1, 2, "S"], "alone" if context in ("masked", "early") else context, dtype=dtype, least=False)


def test_bool() -> None:
    g = G()
    x = g.input("x", ["N", "S", 2], TensorProto.BOOL)
    y = g("Pad", x, g.ints(0, 1, 0, 0, 2, 0), g.const(True))
    z = g("And", g("Slice", y, g.ints(1), g.ints(2**63 - 1), g.ints(1)), g("Slice", y, g.ints(0), g.ints(-1), g.ints(1)))
    check(g.model(z, **{z: TensorProto.BOOL}))


def test_a_value_computed_when_running_is_refused() -> None:
    g = G()
    x, v = g.input("x", [1, 2, "S"]), g.input("v", [])
    with pytest.raises(Refusal, match="its fill value is not a constant"):
        check(g.model(g("Conv", g("Pad", x, g.ints(0, 0, 1, 0, 0, 1), v), g.weight(2, 2, 3))))


def test_a_value_computed_when_running_on_another_axis() -> None:
    g = G()
    x, v = g.input("x", [1, 2, "S"]), g.input("v", [])
    check(g.model(g("Conv", g("Pad", x, g.ints(0, 1, 0, 0, 0, 0), v), g.weight(2, 3, 3))))


def test_padding_nobody_reads_needs_no_mask() -> None:
    """The chomp takes back what the right padding wrote; only zeros before the stream are left, and states are zero."""
    g = G()
    y = g("Pad", g.input("x", ["N", 2, "S"]), g.ints(0, 0, 4, 0, 0, 4))
    y = g("Slice", g("Conv", y, g.weight(2, 2, 5)), g.ints(0), g.ints(-4), g.ints(2))
    c = check(g.model(y))
    assert c.manifest["valid"] is None and c.manifest["outputs"][0]["delay"] == 0


def test_garbage_before_the_stream_is_masked_once() -> None:
    """Two layers of equal padding on one delayed wire share one mask, and their counter."""
    g = G()
    x = g("Conv", g.input("x", ["N", 2, "S"]), g.weight(2, 2, 3))
    a, b = (g("Conv", x, g.weight(2, 2, 3), pads=[1, 1]) for _ in range(2))
    c = check(g.model(g("Add", a, b)))
    assert [n.op_type for n in c.model.graph.node].count("Where") == 1
    assert [s["kind"] for s in c.manifest["states"]].count("counter") <= 2


@given(
    first=st.tuples(st.integers(0, 4), st.integers(0, 4)), second=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    ahead=st.integers(0, 3), kernel=st.integers(1, 4), stride=st.integers(1, 2), dilation=st.integers(1, 2), crop=st.integers(0, 2),
    bare=st.booleans(), value=st.sampled_from([0.0, 1.5]), times=st.sampled_from([1, 2, 3, 7, 16]), batch=batches,
)  # fmt: skip
@examples(40)
def test_paddings_of_one_wire_that_write_different_ends_share_a_mask(
    first: tuple[int, int], second: tuple[int, int], ahead: int, kernel: int, stride: int, dilation: int, crop: int, bare: bool,
    value: float, times: int, batch: Any,
) -> None:  # fmt: skip
    """Behind a delay of ``ahead``, and a crop at the end that must not be masked before it is certain."""
    g = G()
    x = g("Conv", g.input("x", [batch, 2, "S"]), g.weight(2, 2, 1 + ahead))
    if crop:
        x = g("Slice", x, g.ints(0), g.ints(-crop), g.ints(2))
    outs = [
        g("Conv", padding([0, 0, before, 0, 0, after], value)(g, x), g.weight(2, 2, kernel), strides=[stride], dilations=[dilation])
        for before, after in (first, second)
    ]
    model = g.model(*outs, *([g("Conv", x, g.weight(2, 2, 2))] if bare else []))
    check(model, "S", [stride * times, "P"])
    check_least_delay(model)
    if not crop and max(first[0], second[0]) <= ahead:  # nothing is announced, nothing waits for its end
        none = convert(model, axis="S", pulse=stride * times, optimize="none")
        assert [n.op_type for n in none.model.graph.node].count("Where") <= 1
        assert [s["kind"] for s in none.manifest["states"]].count("buffer") <= 2


@pytest.mark.parametrize("level", ["none", "speed", "size"])
def test_a_causal_reader_and_one_that_looks_ahead_share_a_history(level: str) -> None:
    """Warm-up is masked for both, the end for one of them: the longer history serves both."""
    g = G()
    x = g("Conv", g.input("x", [1, 2, "S"]), g.weight(2, 2, 5), pads=[2, 2])
    a, b = (g("Conv", x, g.weight(2, 2, 4), pads=pads) for pads in ([3, 0], [1, 2]))
    model = g.model(g("Add", a, b))
    check(model, "S", (1, 2, 3, 7, 16, "P"))
    states = convert(model, axis="S", pulse=1, optimize=level).manifest["states"]
    # Of the input, of what both read, and of the causal one's output, which waits.
    assert sum(math.prod(s["shape"]) for s in states if s["kind"] == "buffer") == 2 * (4 + 3 + 2)


def test_length_dependent_padding_up_to_a_multiple() -> None:
    """Exporters pad up to a multiple of the stride: ``(-S) % 4`` frames at the end."""
    g = G()
    x = g.input("x", [1, 2, "S"])
    length = g("Gather", g("Shape", x), g.const(2, np.int64))
    rest = g("Mod", g("Neg", length), g.const(4, np.int64))
    pads = g("Concat", g.ints(0, 0, 0, 0, 0), g("Unsqueeze", rest, g.ints(0)), axis=0)
    y = g("Conv", g("Pad", x, pads), g.weight(2, 2, 4), strides=[4])
    check(g.model(y), "S", (4, 8, "P"))
