"""If: one branch or the other.

Where the condition is known when converting, the branch taken stands in its place (rewrites/inline_branches.py) and
streams as anything else does. Otherwise the stream would have to go both ways, and it is refused.
"""

from __future__ import annotations

from typing import NoReturn

from pulsify.facts import Plan, WireFact
from pulsify.graph import captured
from pulsify.ops._rule import NodeView, Rule, register

#: Names of captured wires told at most.
_SHOWN = 4


class If(Rule):
    status, note = "conditions", "the condition known from constants and shapes when converting"

    def infer(self, n: NodeView) -> list[WireFact]:
        """Facts of a static one are found elsewhere; only one that time reaches ends here."""
        self._refuse(n)

    def plan(self, n: NodeView) -> Plan:
        self._refuse(n)

    def _refuse(self, n: NodeView) -> NoReturn:
        names = sorted({repr(v.name) for v in captured(n.node) if v.const_value is None})
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        reads = ", ".join(names[:_SHOWN]) + more
        n.refuse(
            f"its condition {n.wires[0]!r} is not known when the model is converted"
            + (f", and its branches read {reads}" if reads else ""),
            hint=[
                "--bind NAME=VALUE, where the condition depends on an input alone (a sample rate)",
                "make the condition a constant in the model, or write the choice as Where on both results",
            ],
        )


register(If(), "If")
