"""Global pooling: ``out[n, c] = reduce over all positions p of in[n, c, p]``, every spatial axis kept with length 1.

Region transform where time is the batch or the channels: ``out [a, b) <- in [a, b)``. Over time it is a running value
(``_running.py``): a static output may depend on it, a stream may not.
"""

from __future__ import annotations

from pulsify.facts import Plan, WireFact
from pulsify.ops._families import AxisMap, AxisRule, same_axes
from pulsify.ops._rule import NodeView, register
from pulsify.ops._running import running_plan


class GlobalPool(AxisRule):
    """``kind`` is the reduction."""

    status, note = "conditions", "over time: a running value, for static outputs"

    def __init__(self, kind: str):
        self.kind = kind

    def infer(self, n: NodeView) -> list[WireFact]:
        f, shape = n.fact(0), n.shape(0)
        return [WireFact(f.dtype, (*shape[:2], *(1 for _ in shape[2:])))]

    def axes(self, n: NodeView) -> AxisMap:
        rank = len(n.shape(0))
        return [same_axes(rank, range(2, rank))]

    def plan(self, n: NodeView) -> Plan:
        gone = range(2, len(n.shape(0)))
        if not set(gone) & set(n.streaming(0)):
            return super().plan(n)
        return running_plan(n, self.kind, gone, True, power=n.attr("p", 2))


register(GlobalPool("Mean"), "GlobalAveragePool")
register(GlobalPool("Max"), "GlobalMaxPool")
register(GlobalPool("Power"), "GlobalLpPool")
