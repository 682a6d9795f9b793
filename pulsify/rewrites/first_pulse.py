"""Static frames in front of streams move into their histories in the first pulse alone, all in one If.

A Where chooses between what is remembered and the static frames, and reads both at every pulse, as does what brings the static
frames into the form of the history. An If of a whole model costs less than two of them (docs/optimize.md); rows of a batch
start on their own, so there it stays a Where.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.facts import State
from pulsify.graph import DOMAIN, Graph

__all__ = ["apply"]


def apply(g: Graph) -> int:
    if g.batch is not None:
        return 0
    states = {slot.state.id: slot.state for slot in g.slots}
    found = [n for n in g.graph if n.domain == DOMAIN and n.op_type == "Delay" and len(n.inputs) > 1 and _fits(g, n, states[n.name or ""])]
    if len(found) < 2 and all(n.inputs[1].producer() is None for n in found):  # type: ignore[union-attr]
        return 0
    for node in found:
        node.attributes.add(ir.AttrInt64("once", 1))
    return len(found)


def _fits(g: Graph, node: ir.Node, state: State) -> bool:
    """Whether static frames are known when running, and have the sizes of the history but for how many they are."""
    first = node.inputs[1]
    shape = None if first is None or first.const_value is not None else g.facts[first].shape
    return shape is not None and all(a == state.axis or d == s for a, (d, s) in enumerate(zip(shape, state.shape, strict=True)))
