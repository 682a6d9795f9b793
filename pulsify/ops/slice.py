"""Slices: ``out[j] = in[start + step*j]``.

Region transform on time: ``out [a, e) <- in [start + step*a, start + step*(e-1) + 1)``. With step 1 nothing moves:
the delay grows by ``start``. The end is the length law's business alone.

So many frames whatever the stream's length are a static result. The first ones: a memory of k frames, each written when
its index comes. The last ones, the furthest K from the end: a memory of K frames, ``m' = (m ++ in)[r : r + K]`` with r the
real frames of the pulse; the result is always of the frames seen so far. While the stream goes on, r is the pulse, and the
memory is the history that windows over the same wire read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim, DimLike, slope, symbols_of
from pulsify.facts import Elems, Iota, Need, Plan, Stream, Value, Window, WireFact
from pulsify.ops._rule import NodeView, Rule, register

#: A constant this large means "to the end" (exporters write 1e9, 2^31 - 1, 2^63 - 1).
FAR = 10**8


def slice_ranges(n: NodeView) -> dict[int, tuple[DimLike, DimLike, int]]:
    """axis -> (start, length, step), bounds resolved against the shape. Step may be negative."""
    shape = n.shape(0)
    if len(n.inputs) > 1:
        starts, ends = n.ints(1), n.ints(2)
        axes, steps = n.const_ints(3), n.const_ints(4)
    else:
        starts, ends, axes, steps = n.attr("starts"), n.attr("ends"), n.attr("axes"), None
    if starts is None or ends is None:
        n.refuse("it has no bounds")
    where = list(range(len(starts))) if axes is None else [n.axis(a, len(shape)) for a in axes]
    out = {}
    for i, a in enumerate(where):
        step = 1 if steps is None else int(steps[i])
        if step == 0:
            n.refuse("its step is 0", axis=a)
        out[a] = (*_resolve(n, starts[i], ends[i], step, shape[a]), step)
    return out


def _resolve(n: NodeView, start: DimLike, end: DimLike, step: int, length: DimLike) -> tuple[DimLike, DimLike]:
    low, high = (0, length) if step > 0 else (-1, length - 1)
    first = _clamp(n, start, 0, high, length)
    last: DimLike
    if step > 0 and isinstance(length, int) and isinstance(end, Dim) and n.assume.limit(end, length, n.name):
        last = end  # a table, cut to the length of the stream
    elif step > 0:
        last = _clamp(n, end, low, high, length)
    elif not isinstance(end, Dim) and end <= -FAR:
        last = -1
    else:
        last = _clamp(n, end, low, high, length)
    span = last - first if step > 0 else first - last
    size = abs(step)
    if not n.assume.ge(span, 0, n.name):
        return first, 0
    count = span if size == 1 else -((-span) // size)
    return first, count


def _clamp(n: NodeView, v: DimLike, low: DimLike, high: DimLike, length: DimLike) -> DimLike:
    if not isinstance(v, Dim):
        if v >= FAR:
            return high
        if v <= -FAR:
            return low
        if v < 0:
            v = length + v
        elif v == 0 and low == 0:
            return 0
    elif not n.assume.ge(v, 0, n.name):
        v = length + v
    if v == high:
        return v
    return n.assume.max(n.assume.min(v, high, n.name), low, n.name)


class Slice(Rule):
    status, note = "conditions", "the first frame and the step along time must be known and positive"

    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        ranges = slice_ranges(n)
        shape = tuple(ranges[a][1] if a in ranges else d for a, d in enumerate(n.shape(0)))
        return [WireFact(f.dtype, shape, self._value(f, ranges))]

    def _value(self, f: WireFact, ranges: dict[int, tuple[DimLike, DimLike, int]]) -> Value:
        if isinstance(f.value, Iota):
            start, _, step = ranges.get(f.value.axis, (0, 0, 1))
            return Iota(f.value.axis, f.value.start + f.value.step * start, f.value.step * step)
        elems = f.elems()
        if elems is None or any(isinstance(v, Dim) for start, count, _ in ranges.values() for v in (start, count)):
            return f.value if not isinstance(f.value, Elems) else None
        for a, (start, count, step) in ranges.items():
            elems = np.take(elems, [int(start) + step * i for i in range(int(count))], axis=a)
        return Elems(elems)

    def plan(self, n: NodeView) -> Plan:
        ranges = slice_ranges(n)
        streams, moved = [], []
        for a in n.streaming(0):
            start, count, step = ranges.get(a, (0, n.shape(0)[a], 1))
            if not isinstance(count, Dim) or n.symbol not in symbols_of(count):
                return self._still(n, a, start, count, step)
            if step < 0:
                n.refuse("it reverses time", axis=a, hint="a stream has no last frame to begin with")
            if isinstance(start, Dim):
                n.refuse(
                    f"its first frame, {start}, is counted from the end of the stream",
                    axis=a,
                    hint="slice from the start, or take the last frames outside the model",
                )
            if slope(count * step, n.symbol) != slope(n.shape(0)[a], n.symbol):
                n.refuse(
                    f"it keeps {count} of {n.shape(0)[a]} frames, and which those are is known at the end of the stream",
                    axis=a,
                    hint="slice a fixed number of frames off the stream",
                )
            if a in ranges and (start, count, step) != (0, n.shape(0)[a], 1):
                moved.append(a)
            streams.append(Stream(0, a, (Need(0, a, Window(step, -int(start), 1)),)))
        for a in n.outputs[0].time_axes(n.symbol):
            if a not in n.streaming(0):
                n.refuse(
                    f"it cuts {n.outputs[0].shape[a]} entries from a static table, from {ranges[a][0]} on",  # type: ignore[index]
                    axis=a,
                    hint="look the table up at positions counted from the start of the stream",
                )
        if not moved:
            return Plan(tuple(streams))
        if any(r != (0, n.shape(0)[a], 1) for a, r in ranges.items() if a != moved[0]):
            n.refuse("it cuts time and another axis at once, with bounds known only when running", axis=moved[0])
        step = ranges[moved[0]][2]
        return Plan(tuple(streams), kind="slice" if step == 1 else "stride")


    def _still(self, n: NodeView, axis: int, start: DimLike, count: DimLike, step: int) -> Plan:
        """The same number of frames whatever the stream's length."""
        keeps = f"it keeps {count} frames of the stream whatever its length"
        ranges = slice_ranges(n)
        if isinstance(count, Dim) or count == 0:
            n.refuse(keeps, axis=axis, hint="leave that output out (--outputs)")
        if len(n.streaming(0)) > 1:
            n.refuse(f"{keeps}, and has time on two axes", axis=axis)
        if any(a != axis and r != (0, n.shape(0)[a], 1) for a, r in ranges.items()):
            n.refuse(f"{keeps}, and cuts other axes too", axis=axis, hint="slice one axis at a time")
        need = Need(0, axis)
        if not isinstance(start, Dim):
            frames = [int(start) + step * j for j in range(int(count))]
            return Plan((), kind="custom", consumes=(need,), ends=True, lower=lambda low: _first(low, axis, frames))
        back = start - n.shape(0)[axis]
        if isinstance(back, Dim):
            n.refuse(f"{keeps}, from frame {start} on: neither its first nor its last ones", axis=axis)
        frames = [int(back) + step * j for j in range(int(count))]
        return Plan((), kind="custom", consumes=(need,), ends=True, last=-min(frames), lower=lambda low: _last(low, axis, frames))


def _placed(numbers: list[int], rank: int, axis: int) -> np.ndarray:
    return np.asarray(numbers).reshape([-1 if a == axis else 1 for a in range(rank)])


def _first(low: Any, axis: int, frames: list[int]) -> list[ir.Value]:
    fact, rank, count = low.facts[0], low.facts[0].rank, len(frames)
    shape = [count if a == axis else d for a, d in enumerate(fact.shape)]
    past = low.state("frames", shape, fact.dtype, "cache")
    whole = low.op("Concat", [past, low.inputs[0]], axis=axis)
    here = low.position(0, axis)
    first, last = (low.op("Gather", [here, low.const([i])], stem, axis=axis) for i, stem in ((0, "first"), (-1, "last")))
    wanted = low.const(_placed(frames, rank, axis))
    ago = low.op("Sub", [wanted, first], "ago")
    begun = low.op("GreaterOrEqual", [ago, low.const([0])], "begun")
    come = low.op("And", [begun, low.op("LessOrEqual", [wanted, last], "ended")], "come")
    now = low.op("Add", [ago, low.const([count])], "now")
    index = low.op("Where", [come, now, low.const(_placed(list(range(count)), rank, axis))], "index")
    present = low.take(whole, index, axis, shape)
    low.store(past, present)
    return [present]


def _last(low: Any, axis: int, frames: list[int]) -> list[ir.Value]:
    count = -min(frames)
    last = low.last(0, axis, count)
    if frames == list(range(-count, 0)):
        return [last]
    return [low.op("Gather", [last, low.const([count + f for f in frames])], "frames", axis=axis)]


register(Slice(), "Slice")
