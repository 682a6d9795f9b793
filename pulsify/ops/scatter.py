"""Writing by index: ``out = data``, then ``out[.., indices[i], ..] = updates[i]`` (or reduced into it).

Region transform: time runs through an axis that is not written by index, in the data, the updates, and where they
have it the indices alike: ``out [a, b) <- in [a, b)``.
"""

from __future__ import annotations

from pulsify.dim import Dim
from pulsify.facts import WireFact
from pulsify.ops._families import AxisMap, AxisRule
from pulsify.ops._rule import NodeView, register


class Scatter(AxisRule):
    status, note = "conditions", "not along time"

    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        return [WireFact(f.dtype, n.shape(0))]

    def follow(self, n: NodeView, axis: int, others: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        """The axis of the data together with those of other inputs, which must hold the same frames."""
        for k, a in others:
            mine, other = n.shape(0)[axis], n.shape(k)[a]
            if (axis in n.streaming(0)) != (a in n.streaming(k)) or (
                axis in n.streaming(0) and not n.assume.eq(mine, other, n.name)
            ):
                n.refuse(
                    f"it has {mine} frames of data and writes {other} of them",
                    axis=axis if axis in n.streaming(0) else a,
                    input=0 if axis in n.streaming(0) else k,
                    hint="write all frames, or choose between two streams with Where",
                )
        return ((0, axis), *others)

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        if k == 0:
            return "it writes frames by index along time"
        return "it collects all frames of the stream in one tensor"


class ScatterElements(Scatter):
    def axes(self, n: NodeView) -> AxisMap:
        rank = len(n.shape(0))
        axis = n.axis(n.attr("axis", 0), rank)
        return [[() if a == axis else self.follow(n, a, [(1, a), (2, a)]) for a in range(rank)]]


class ScatterND(Scatter):
    def axes(self, n: NodeView) -> AxisMap:
        index, rank = n.shape(1), len(n.shape(0))
        depth = index[-1]
        if isinstance(depth, Dim):
            n.refuse(f"its indices are tuples of {depth}")
        written, tail = int(depth), len(index) - 1
        return [[() if a < written else self.follow(n, a, [(2, tail + a - written)]) for a in range(rank)]]


register(ScatterElements(), "ScatterElements")
register(ScatterND(), "ScatterND")
