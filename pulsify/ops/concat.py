"""Joining and cutting: Concat, Split.

Region transform on other axes than time: ``out [a, b) <- in_k [a, b)`` for every streaming input. Static frames joined to
a stream along time, p before it: ``out[j] = first[j]`` for ``j < p``, ``in[j - p]`` while there is one, then ``last``;
``out [a, b) <- in [a - p, b - p)`` (stages/_splices.py). A Split along time is a Slice for each of its parts
(rewrites/split_as_slices.py).
"""

from __future__ import annotations

import numpy as np

from pulsify.dim import Dim, DimLike
from pulsify.facts import MAX_ELEMS, Elems, Need, Plan, Splice, Stream, Window, WireFact
from pulsify.ops._families import AxisMap, AxisRule, broadcast, same_axes
from pulsify.ops._rule import NodeView, register


class Concat(AxisRule):
    status, note = "conditions", "along time: static frames before and after one stream, or copies of its own at the ends"

    def axis_of(self, n: NodeView) -> int:
        return n.axis(n.attr("axis"), len(n.shape(0)))

    def infer(self, n: NodeView) -> list[WireFact]:
        axis = self.axis_of(n)
        shapes = [n.shape(k) for k in range(len(n.inputs))]
        if any(len(s) != len(shapes[0]) for s in shapes):
            n.refuse("its inputs differ in rank")
        total: DimLike = 0
        for s in shapes:
            total = total + s[axis]
        rest = broadcast(n, [(*s[:axis], 1, *s[axis + 1 :]) for s in shapes])
        out = (*rest[:axis], total, *rest[axis + 1 :])
        value = None
        if len(out) == 1 and isinstance(total, int) and total <= MAX_ELEMS:
            parts = [f.elems() if f is not None else None for f in n.inputs]
            if all(p is not None for p in parts):
                value = Elems(np.concatenate(parts))  # type: ignore[arg-type]
        return [WireFact(n.fact(0).dtype, out, value)]

    def axes(self, n: NodeView) -> AxisMap:
        axis, rank = self.axis_of(n), n.outputs[0].rank
        return [[() if a == axis else tuple((k, a) for k in range(len(n.inputs))) for a in range(rank)]]

    def plan(self, n: NodeView) -> Plan:
        axis = self.axis_of(n)
        streams = [k for k in range(len(n.inputs)) if axis in n.streaming(k)]
        if streams:
            return self._join(n, axis, streams)
        for a in n.outputs[0].time_axes(n.symbol):
            for k in range(len(n.inputs)):
                if a != axis and a not in n.streaming(k):
                    n.refuse(
                        f"its input {n.wires[k]!r} has a fixed length of {n.shape(k)[a]} on the time axis",
                        axis=a,
                        hint="every input of a Concat must stream, or none",
                    )
        return super().plan(n)

    def _join(self, n: NodeView, axis: int, streams: list[int]) -> Plan:
        if len(streams) > 1:
            n.refuse(
                "it joins two streams along time, and the second begins where the first ends",
                axis=axis,
                hint="join them outside the model",
            )
        (k,) = streams
        if len(n.streaming(k)) > 1:
            n.refuse("its input has time on two axes", axis=axis, input=k)
        sizes = []
        for i in range(len(n.inputs)):
            size = n.shape(i)[axis]
            if i != k and isinstance(size, Dim):
                n.refuse(f"its input {n.wires[i]!r} is {size} long, and how many frames it joins must be known", axis=axis)
            sizes.append(0 if i == k or isinstance(size, Dim) else int(size))
        before, after = sum(sizes[:k]), sum(sizes[k + 1 :])
        if not before and not after:
            return Plan((Stream(0, axis, (Need(k, axis),)),))
        splice = Splice("join", before, after, tuple(range(k)), tuple(range(k + 1, len(sizes))))
        return Plan((Stream(0, axis, (Need(k, axis, Window(before=before)),)),), kind="splice", splice=splice)


class Split(AxisRule):
    status, note = "conditions", "along time: parts counted from the start, and the last frames as a running result"

    def axis_of(self, n: NodeView) -> int:
        return n.axis(n.attr("axis", 0), len(n.shape(0)))

    def sizes(self, n: NodeView) -> tuple[DimLike, ...]:
        given = n.ints(1) if len(n.inputs) > 1 and n.inputs[1] is not None else n.attr("split")
        if given is not None:
            return tuple(given)
        parts = len(n.node.outputs)
        length = n.shape(0)[self.axis_of(n)]
        if isinstance(length, Dim):
            unrolled = parts == n.assume.baked
            n.refuse(
                f"it splits an axis of {length} frames into {parts} part{'' if parts == 1 else 's'}"
                + (", one for each frame of the file: a recurrence unrolled by the exporter" if unrolled else ""),
                axis=self.axis_of(n),
                hint="export the recurrence as LSTM, GRU, RNN or a loop (in Keras, unroll=False)" if unrolled else "",
            )
        size = -(-int(length) // parts)
        return (*(size,) * (parts - 1), int(length) - size * (parts - 1))

    def infer(self, n: NodeView) -> list[WireFact]:
        axis, shape, f = self.axis_of(n), n.shape(0), n.fact(0)
        elems = f.elems()
        out, at = [], 0
        for size in self.sizes(n):
            value = None
            if elems is not None and isinstance(size, int):
                value = Elems(np.take(elems, range(at, at + size), axis=axis))
                at += size
            out.append(WireFact(f.dtype, (*shape[:axis], size, *shape[axis + 1 :]), value))
        return out

    def axes(self, n: NodeView) -> AxisMap:
        rank = len(n.shape(0))
        return [same_axes(rank, (self.axis_of(n),)) for _ in n.outputs]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return f"it cuts the stream along time into {', '.join(map(str, self.sizes(n)))} frames"


register(Concat(), "Concat")
register(Split(), "Split")
