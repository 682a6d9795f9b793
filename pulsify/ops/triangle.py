"""Triangles: ``Trilu(x, k)[r, c] = x[r, c] if c - r <= k else 0`` (``>=`` for the upper), ``EyeLike[r, c] = (c - r == k)``.

Region transform: ``out [a, b) <- in [a, b)`` on every axis but the last two. Where time is one of those two, an entry
depends on the place of its own frame alone: declutter writes that as a comparison of positions
(rewrites/triangles.py). Time on both is refused.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.facts import WireFact
from pulsify.ops._families import AxisMap, AxisRule, same_axes
from pulsify.ops._rule import NodeView, register


class Triangle(AxisRule):
    status, note = "conditions", "time on one of the last two axes at most; the diagonal must be known"

    def infer(self, n: NodeView) -> list[WireFact]:
        shape = n.shape(0)
        if len(set(n.streaming(0)) & {len(shape) - 2, len(shape) - 1}) > 1:
            n.refuse(
                "it compares the places of frames on two time axes, and one pulse holds only a block of them",
                axis=len(shape) - 1,
                hint="export attention over a bounded window of frames",
            )
        return [WireFact(self.out_dtype(n), shape)]

    def out_dtype(self, n: NodeView) -> ir.DataType:
        dtype = n.attr("dtype") if n.op == "EyeLike" else None
        return n.fact(0).dtype if dtype is None else ir.DataType(dtype)

    def axes(self, n: NodeView) -> AxisMap:
        rank = len(n.shape(0))
        return [same_axes(rank, (rank - 2, rank - 1))]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return "its diagonal must be known when the model is converted"


register(Triangle(), "Trilu", "EyeLike")
