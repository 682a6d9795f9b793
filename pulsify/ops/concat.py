"""Joining and cutting on axes other than time: Concat, Split.

Region transform: ``out [a, b) <- in_k [a, b)`` for every streaming input.
"""

from __future__ import annotations

import numpy as np

from pulsify.dim import Dim, DimLike
from pulsify.facts import MAX_ELEMS, Elems, WireFact
from pulsify.ops._families import AxisMap, AxisRule, broadcast, same_axes
from pulsify.ops._rule import NodeView, register


class Concat(AxisRule):
    status, note = "conditions", "not along time"

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

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return "it joins tensors along time"

    def plan(self, n: NodeView):  # type: ignore[no-untyped-def]
        axis = self.axis_of(n)
        for a in n.outputs[0].time_axes(n.symbol):
            for k in range(len(n.inputs)):
                if a != axis and a not in n.streaming(k):
                    n.refuse(
                        f"its input {n.wires[k]!r} has a fixed length of {n.shape(k)[a]} on the time axis",
                        axis=a,
                        hint="every input of a Concat must stream, or none",
                    )
        return super().plan(n)


class Split(AxisRule):
    status, note = "conditions", "not along time"

    def axis_of(self, n: NodeView) -> int:
        return n.axis(n.attr("axis", 0), len(n.shape(0)))

    def sizes(self, n: NodeView) -> tuple[DimLike, ...]:
        given = n.ints(1) if len(n.inputs) > 1 and n.inputs[1] is not None else n.attr("split")
        if given is not None:
            return tuple(given)
        parts = len(n.node.outputs)
        length = n.shape(0)[self.axis_of(n)]
        if isinstance(length, Dim):
            n.refuse(f"it splits an axis of {length} frames into {parts} parts", axis=self.axis_of(n))
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
        return "it cuts the stream along time"


register(Concat(), "Concat")
register(Split(), "Split")
