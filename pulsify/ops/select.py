"""Selection over axes other than time: TopK, OneHot, Compress, CenterCropPad, Det, BitCast.

Region transform: ``out [a, b) <- in [a, b)`` on every axis that is not selected from. Selection along time needs the
whole stream and is refused.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.dim import Dim
from pulsify.facts import WireFact
from pulsify.ops._families import AxisMap, AxisRule, same_axes
from pulsify.ops._rule import NodeView, register


class Selection(AxisRule):
    status, note = "conditions", "not along time"

    def axis_of(self, n: NodeView) -> int:
        return n.axis(n.attr("axis", -1), len(n.shape(0)))


class TopK(Selection):
    def infer(self, n: NodeView) -> list[WireFact]:
        axis, shape = self.axis_of(n), n.shape(0)
        if axis in n.streaming(0):
            n.refuse(self.consumed(n, 0, axis), axis=axis, hint=self.hint(n, 0, axis))
        (count,) = n.const_ints(1) or (0,)
        out = (*shape[:axis], count, *shape[axis + 1 :])
        return [WireFact(n.fact(0).dtype, out), WireFact(ir.DataType.INT64, out)]

    def axes(self, n: NodeView) -> AxisMap:
        return [same_axes(len(n.shape(0)), (self.axis_of(n),)) for _ in n.outputs]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return "it ranks the frames of the whole stream"

    def hint(self, n: NodeView, k: int, axis: int) -> str:
        return "rank over another axis, or over a window of frames (MaxPool)"


class OneHot(Selection):
    """A new axis of ``depth``; indices out of range are off everywhere."""

    note = "its depth must be known"

    def axis_of(self, n: NodeView) -> int:
        return n.axis(n.attr("axis", -1), len(n.shape(0)) + 1)

    def infer(self, n: NodeView) -> list[WireFact]:
        axis, index = self.axis_of(n), n.shape(0)
        depth = n.ints(1)
        assert depth is not None
        return [WireFact(n.fact(2).dtype, (*index[:axis], depth[0], *index[axis:]))]

    def axes(self, n: NodeView) -> AxisMap:
        axis, rank = self.axis_of(n), len(n.shape(0))
        if n.outputs[0].time_axes(n.symbol) and axis in n.outputs[0].time_axes(n.symbol):
            n.refuse(f"its depth is {n.outputs[0].shape[axis]}, the length of the stream", axis=axis)  # type: ignore[index]
        return [[*(((0, a),) for a in range(axis)), (), *(((0, a),) for a in range(axis, rank))]]


class Compress(Selection):
    note = "not along time; its condition must be known"

    def infer(self, n: NodeView) -> list[WireFact]:
        shape = n.shape(0)
        condition = n.fact(1).array()
        if n.attr("axis") is None:
            n.refuse("it flattens its input")
        axis = n.axis(n.attr("axis"), len(shape))
        if condition is None or axis in n.streaming(0):
            n.refuse("how many entries it keeps is known only when it runs", axis=axis)
        return [WireFact(n.fact(0).dtype, (*shape[:axis], int(condition.sum()), *shape[axis + 1 :]))]

    def axes(self, n: NodeView) -> AxisMap:
        rank = len(n.shape(0))
        return [same_axes(rank, (n.axis(n.attr("axis"), rank),))]


class CenterCropPad(Selection):
    def cropped(self, n: NodeView) -> tuple[int, ...]:
        rank = len(n.shape(0))
        return tuple(n.axis(a, rank) for a in n.attr("axes", range(rank)))

    def infer(self, n: NodeView) -> list[WireFact]:
        shape, target = list(n.shape(0)), n.ints(1)
        assert target is not None
        for a, d in zip(self.cropped(n), target, strict=True):
            if a in n.streaming(0):
                n.refuse("the centre of a stream is known at its end", axis=a, hint="crop from the start (Slice, Pad)")
            if isinstance(d, Dim):
                n.refuse(f"it crops or pads to {d}", axis=a)
            shape[a] = d
        return [WireFact(n.fact(0).dtype, tuple(shape))]

    def axes(self, n: NodeView) -> AxisMap:
        return [same_axes(len(n.shape(0)), self.cropped(n))]


class Matrices(Selection):
    """Functions of the matrices on the last two axes; ``keep`` tells whether the result is a matrix again."""

    def __init__(self, keep: bool):
        self.keep = keep

    def infer(self, n: NodeView) -> list[WireFact]:
        shape = n.shape(0)
        return [WireFact(n.fact(0).dtype, shape if self.keep else shape[:-2])]

    def axes(self, n: NodeView) -> AxisMap:
        rank = len(n.shape(0))
        rows = same_axes(rank, (rank - 2, rank - 1))
        return [rows if self.keep else rows[:-2]]


class BitCast(AxisRule):
    """The same bits as another type of the same width."""

    def infer(self, n: NodeView) -> list[WireFact]:
        return [WireFact(ir.DataType(n.attr("to")), n.shape(0))]

    def axes(self, n: NodeView) -> AxisMap:
        return [same_axes(len(n.shape(0)))]


register(TopK(), "TopK")
register(OneHot(), "OneHot")
register(Compress(), "Compress")
register(CenterCropPad(), "CenterCropPad")
register(Matrices(keep=False), "Det")
register(Matrices(keep=True), "Inverse", domain="com.microsoft")
register(BitCast(), "BitCast")
