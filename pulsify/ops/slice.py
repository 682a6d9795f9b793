"""Slices: ``out[j] = in[start + step*j]``.

Region transform on time: ``out [a, e) <- in [start + step*a, start + step*(e-1) + 1)``. With step 1 nothing moves:
the delay grows by ``start``. The end is the length law's business alone.
"""

from __future__ import annotations

import numpy as np

from pulsify.dim import Dim, DimLike, slope, symbols_of
from pulsify.facts import Elems, Iota, Need, Plan, Stream, Window, WireFact
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
    first = _clamp(n, start, 0 if step > 0 else 0, high, length)
    if step > 0:
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

    def _value(self, f: WireFact, ranges: dict[int, tuple[DimLike, DimLike, int]]) -> object:
        if isinstance(f.value, Iota):
            start, _, step = ranges.get(f.value.axis, (0, 0, 1))
            return Iota(f.value.axis, f.value.start + f.value.step * start, f.value.step * step)
        elems = f.elems()
        if elems is None or any(isinstance(v, Dim) for start, count, _ in ranges.values() for v in (start, count)):
            return f.value if not isinstance(f.value, Elems) else None
        for a, (start, count, step) in ranges.items():
            elems = np.take(elems, [start + step * i for i in range(int(count))], axis=a)  # type: ignore[operator]
        return Elems(elems)

    def plan(self, n: NodeView) -> Plan:
        ranges = slice_ranges(n)
        streams, moved = [], []
        for a in n.streaming(0):
            start, count, step = ranges.get(a, (0, n.shape(0)[a], 1))
            if not isinstance(count, Dim) or n.symbol not in symbols_of(count):
                n.refuse(
                    f"it keeps {count} frames of the stream whatever its length",
                    axis=a,
                    hint="take those frames from the model's output instead (--outputs leaves one out)",
                )
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
                    f"it cuts {n.outputs[0].shape[a]} entries from a static table",  # type: ignore[index]
                    axis=a,
                    hint="tables indexed by time are not supported yet",
                )
        if not moved:
            return Plan(tuple(streams))
        if any(r != (0, n.shape(0)[a], 1) for a, r in ranges.items() if a != moved[0]):
            n.refuse("it cuts time and another axis at once, with bounds known only when running", axis=moved[0])
        step = ranges[moved[0]][2]
        return Plan(tuple(streams), kind="slice" if step == 1 else "stride")


register(Slice(), "Slice")
