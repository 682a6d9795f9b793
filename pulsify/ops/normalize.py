"""Normalisations and softmaxes: statistics over some axes, everything else frame by frame.

Region transform: ``out [a, b) <- in [a, b)`` on every axis outside the statistics. Statistics over time need the
whole stream and are refused.
"""

from __future__ import annotations

from pulsify.facts import WireFact
from pulsify.ops._families import AxisMap, AxisRule, same_axes
from pulsify.ops._rule import NodeView, register


class Normalize(AxisRule):
    """``first`` and ``last`` bound the axes of the statistics, given the node and the rank."""

    status, note = "conditions", "not with statistics over time"

    def over(self, n: NodeView, rank: int) -> tuple[int, ...]:
        """Axes the statistics are taken over."""
        raise AssertionError

    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        return [WireFact(f.dtype, f.shape)]

    def axes(self, n: NodeView) -> AxisMap:
        rank = len(n.shape(0))
        return [same_axes(rank, self.over(n, rank)) for _ in n.outputs]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        if k > 0:
            return "its parameters change with time"
        return "it normalises over time, and every frame needs the statistics of the whole stream"

    def hint(self, n: NodeView, k: int, axis: int) -> str:
        return "normalise over channels, or use running statistics (BatchNormalization)"


class AlongAxis(Normalize):
    """Softmax and the like: one axis."""

    def __init__(self, default: int = -1):
        self.default = default

    def over(self, n: NodeView, rank: int) -> tuple[int, ...]:
        return (n.axis(n.attr("axis", self.default), rank),)


class FromAxis(Normalize):
    """LayerNormalization: from ``axis`` to the last. Optional outputs hold the statistics, length 1 there."""

    def over(self, n: NodeView, rank: int) -> tuple[int, ...]:
        return tuple(range(n.axis(n.attr("axis", -1), rank), rank))

    def infer(self, n: NodeView) -> list[WireFact]:
        f, shape = n.fact(0), n.shape(0)
        over = self.over(n, len(shape))
        stats = WireFact(f.dtype, tuple(1 if a in over else d for a, d in enumerate(shape)))
        return [WireFact(f.dtype, shape), *(stats for _ in n.node.outputs[1:])]


class PerChannel(Normalize):
    """Groups and instances: over everything after the channels (and the channels of a group)."""

    def __init__(self, keep: int):
        self.keep = keep

    def over(self, n: NodeView, rank: int) -> tuple[int, ...]:
        return tuple(range(self.keep, rank))


class MeanVariance(Normalize):
    def over(self, n: NodeView, rank: int) -> tuple[int, ...]:
        return tuple(n.axis(a, rank) for a in n.attr("axes", (0, 2, 3)))


class LRN(Normalize):
    def over(self, n: NodeView, rank: int) -> tuple[int, ...]:
        return (1,)


class BatchNorm(Normalize):
    """At inference an affine map per channel."""

    def over(self, n: NodeView, rank: int) -> tuple[int, ...]:
        return (1,) if rank > 1 else ()

    def infer(self, n: NodeView) -> list[WireFact]:
        if n.attr("training_mode", 0) or len([o for o in n.node.outputs if o.name]) > 1:
            n.refuse("it is in training mode", hint="export the model in evaluation mode")
        return super().infer(n)

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return super().consumed(n, k, axis) if k else "it scales channels, and time is the channel axis"


register(AlongAxis(), "Softmax", "LogSoftmax", "Hardmax", "LpNormalization")
register(FromAxis(), "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
register(PerChannel(2), "InstanceNormalization")
register(PerChannel(1), "GroupNormalization")
register(MeanVariance(), "MeanVarianceNormalization")
register(LRN(), "LRN")
register(BatchNorm(), "BatchNormalization")
