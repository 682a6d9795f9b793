"""If: one branch or the other.

Where the condition is known when converting, the branch taken stands in its place (rewrites/inline_branches.py) and
streams as anything else does. Otherwise the stream would have to go both ways, and it is refused.
"""

from __future__ import annotations

from typing import NoReturn

import onnx_ir as ir

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
        binds, by_data = _deciders(n)
        hints = [f"--bind {name}={value}: the condition depends on that input" for name, value in binds.items()]
        if by_data or not binds:
            hints = ["make the condition a constant in the model, or write the choice as Where on both results"]
        n.refuse(
            f"its condition {n.wires[0]!r} is not known when the model is converted"
            + (f", and its branches read {reads}" if reads else ""),
            hint=hints,
        )


def _deciders(n: NodeView) -> tuple[dict[str, str], bool]:
    """Static model inputs that the condition is computed from, each with the value it is compared with (or ``VALUE``),
    and whether a stream is among them."""
    binds: dict[str, str] = {}
    by_data, seen, todo = False, set(), [n.node.inputs[0]]
    while todo:
        wire = todo.pop()
        if wire is None or wire in seen:
            continue
        seen.add(wire)
        node = wire.producer()
        if wire.is_graph_input():
            fact = n.outer.get(wire)
            if fact is not None and fact.time_axes(n.symbol):
                by_data = True
            else:
                binds.setdefault(wire.name or "", _compared(wire))
        elif node is not None:
            todo.extend(node.inputs)
    return binds, by_data


def _compared(wire: ir.Value) -> str:
    """The constant an input is compared with, as ``--bind`` takes it."""
    for node, _ in wire.uses():
        if node.op_type == "Equal":
            for other in node.inputs:
                if other is not None and other.const_value is not None and other.const_value.size == 1:
                    return str(other.const_value.numpy().reshape(-1)[0])
    return "VALUE"


register(If(), "If")
