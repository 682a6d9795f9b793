"""Slice: starts, ends, steps, several axes; what counts from the end of a stream is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.errors import Refusal
from tests.contexts import batches, contexts, pulses, verify
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

FAR = [2**63 - 1, 2**31 - 1, 10**9]


def slicing(starts: list[int], ends: list[int], axes: list[int] | None, steps: list[int] | None = None):
    def op(g: G, x: str) -> str:
        args = [g.ints(*starts), g.ints(*ends)]
        args += [g.ints(*axes)] if axes is not None else [""] if steps else []
        return g("Slice", x, *args, *([g.ints(*steps)] if steps else []))

    return op


@given(
    start=st.integers(0, 5), end=st.sampled_from([*FAR, -1, -2, -4]), step=st.sampled_from([1, 1, 2, 3]),
    context=contexts, batch=batches, at=pulses(), negative=st.booleans(),
)  # fmt: skip
@examples(40)
def test_along_time(start: int, end: int, step: int, context: str, batch: Any, at: Any, negative: bool) -> None:
    op = slicing([start], [end], [-1 if negative else 2], [step] if step > 1 else None)
    verify(op, [batch, 2, "S"], context, at, multiple=step, least=step == 1)


@given(
    time=st.integers(0, 2), start=st.integers(0, 3), end=st.sampled_from([FAR[0], -1]), other=st.integers(-3, 1),
    step=st.sampled_from([-2, -1, 1, 2]), order=st.booleans(), at=pulses(), drop=st.booleans(),
)  # fmt: skip
@examples(25)
def test_several_axes(time: int, start: int, end: int, other: int, step: int, order: bool, at: Any, drop: bool) -> None:
    """Time and another axis in one Slice, the other in any direction, axes given or not."""
    shape: list[Any] = [4, 4, 4]
    shape[time] = "S"
    at_axis = (time + 1) % 3
    bounds = {time: (start, end, 1), at_axis: (other, FAR[0] if step > 0 else -FAR[0], step)}
    axes = sorted(bounds) if order or drop else sorted(bounds, reverse=True)
    if drop:
        bounds, axes = {a: bounds.get(a, (0, FAR[0], 1)) for a in range(3)}, [0, 1, 2]
    rows = [bounds[a] for a in axes]
    op = slicing([r[0] for r in rows], [r[1] for r in rows], None if drop else axes, [r[2] for r in rows])
    verify(op, shape, "late", at, axis=time)


@given(cuts=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=4), at=pulses(), batch=batches)
@examples(20)
def test_branches_of_different_cuts(cuts: list[tuple[int, int]], at: Any, batch: Any) -> None:
    """Slices of one wire in any pair of amounts, aligned by their merge."""
    total = max(a + b for a, b in cuts)
    g = G()
    x = g("Tanh", g.input("x", [batch, 2, "S"]))
    y = None
    for a, _ in cuts:
        b = total - a
        part = g("Slice", x, g.ints(a), g.ints(-b if b else FAR[0]), g.ints(2))
        part = g("Conv", part, g.weight(2, 2, 2), pads=[1, 0])
        y = part if y is None else g("Add", y, part)
    check(g.model(y, x), "S", at)


@given(start=st.integers(1, 4), step=st.integers(2, 3), at=st.sampled_from([1, 2, "P"]), batch=batches)
@examples(15)
def test_strided_then_padded(start: int, step: int, at: Any, batch: Any) -> None:
    def op(g: G, x: str) -> str:
        y = slicing([start], [FAR[0]], [2], [step])(g, x)
        return g("Conv", y, g.weight(2, 2, 3), pads=[1, 1])

    verify(op, [batch, 2, "S"], "late", [at], multiple=step, least=False)


def test_attributes_of_the_old_operator() -> None:
    g = G(opset=9)
    x = g.input("x", [1, 2, "S"])
    y = g("Slice", x, starts=[0, 3], ends=[1, 10**9], axes=[1, 2])
    check(g.model(y))


def test_bounds_computed_from_the_shape() -> None:
    """``x[:, :, : length - 2]`` with the length read off the tensor."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    length = g("Slice", g("Shape", x), g.ints(2), g.ints(3), g.ints(0))
    y = g("Slice", x, g.ints(0), g("Sub", length, g.ints(2)), g.ints(2))
    z = g("Slice", x, g.ints(2), length, g.ints(2))
    check(g.model(g("Mul", y, z)))


def test_an_end_that_never_binds() -> None:
    """A table cut to the length of the stream where the cut does nothing."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    length = g("Slice", g("Shape", x), g.ints(2), g.ints(3), g.ints(0))
    y = g("Slice", g("Conv", x, g.weight(2, 2, 3), pads=[2, 0]), g.ints(0), length, g.ints(2))
    assert not check(g.model(y)).manifest["valid"]


@pytest.mark.parametrize(
    ("start", "end", "step", "why"),
    [
        (-1, -FAR[0], -1, "it reverses time"),
        (3, 3, 1, "it keeps 0 frames of the stream whatever its length"),
    ],
)
def test_what_counts_from_the_end_is_refused(start: int, end: int, step: int, why: str) -> None:
    with pytest.raises(Refusal, match=f"on axis 2\n  why:  {why}"):
        verify(slicing([start], [end], [2], [step]), [1, 2, "S"])


def test_the_second_half_is_refused() -> None:
    g = G()
    x = g.input("x", [1, 2, "S"])
    length = g("Slice", g("Shape", x), g.ints(2), g.ints(3), g.ints(0))
    half = g("Div", length, g.ints(2))
    with pytest.raises(Refusal, match=r"its first frame, S//2, is counted from the end of the stream"):
        check(g.model(g("Slice", x, half, g.ints(FAR[0]), g.ints(2))))


def test_the_first_half_is_refused() -> None:
    """The rate of the output would be half of the input's, which no window explains."""
    g = G()
    x = g.input("x", [1, 2, "S"])
    length = g("Slice", g("Shape", x), g.ints(2), g.ints(3), g.ints(0))
    with pytest.raises(Refusal, match="it keeps S//2 of S frames"):
        check(g.model(g("Slice", x, g.ints(0), g("Div", length, g.ints(2)), g.ints(2))))


def test_cutting_a_static_table_by_the_length() -> None:
    g = G()
    x = g.input("x", [1, "S", 2])
    table = g.weight(1, 500, 2)
    length = g("Slice", g("Shape", x), g.ints(1), g.ints(2), g.ints(0))
    c = check(g.model(g("Add", x, g("Slice", table, g.ints(0), length, g.ints(1)))))
    assert c.manifest["stream"]["most"] == 500


def test_other_axes_with_a_start_known_when_running() -> None:
    """Bounds on another axis must be known to type the wire."""
    g = G()
    x, k = g.input("x", [1, 4, "S"]), g.input("k", [1], 7)
    with pytest.raises(Refusal, match="its input 'k' must be known when the model is converted"):
        check(g.model(g("Slice", x, k, g.ints(FAR[0]), g.ints(1))))
