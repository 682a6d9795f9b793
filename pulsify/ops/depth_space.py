"""DepthToSpace and SpaceToDepth: blocks of an image to channels and back.

Law: ``[N, C, H, W] -> [N, C/b^2, H*b, W*b]`` and back; where the block size does not divide an axis the batch model is
not defined. Time in front passes through. Time as an image axis is a matter of Reshapes (rewrites/open_shuffles.py):
a rate of b or 1/b.
"""

from __future__ import annotations

from pulsify.dim import Dim, DimLike, floor_div
from pulsify.facts import Need, Plan, Stream, WireFact
from pulsify.ops._rule import NodeView, Rule, register


class Shuffle(Rule):
    status, note = "conditions", "time in the batch or on an image axis, not in the channels"

    def __init__(self, opens: bool):
        #: Channels become space.
        self.opens = opens

    def infer(self, n: NodeView) -> list[WireFact]:
        f, shape, b = n.fact(0), n.shape(0), int(n.attr("blocksize"))
        if len(shape) != 4:
            n.refuse(f"its input has {len(shape)} axes, not 4")
        batch, c, h, w = shape
        if self.opens:
            out = (batch, self._divide(n, 1, c, b * b), h * b, w * b)
        else:
            out = (batch, c * b * b, self._divide(n, 2, h, b), self._divide(n, 3, w, b))
        return [WireFact(f.dtype, out)]

    @staticmethod
    def _divide(n: NodeView, axis: int, d: DimLike, by: int) -> DimLike:
        if isinstance(d, Dim):
            if not n.assume.divides(by, d, n.name):
                n.refuse(f"its blocks of {by} never divide {d}", axis=axis)
        elif d % by:
            n.refuse(f"its blocks of {by} do not divide {d}", axis=axis)
        return floor_div(d, by)

    def plan(self, n: NodeView) -> Plan:
        for axis in n.streaming(0):
            if axis == 1:
                n.refuse("it mixes all channels, and time is the channel axis", axis=1, hint="give another axis as time")
            assert axis == 0, "declutter writes it as Reshape, Transpose, Reshape"
        return Plan((Stream(0, 0, (Need(0, 0),)),))


register(Shuffle(True), "DepthToSpace")
register(Shuffle(False), "SpaceToDepth")
