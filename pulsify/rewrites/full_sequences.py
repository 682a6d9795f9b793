"""A recurrent operator told that every row is as long as the sequence is told nothing: the lengths are left out."""

from __future__ import annotations

from pulsify.graph import Graph
from pulsify.ops.recurrent import GATES, LENS, full_lens

__all__ = ["apply"]


def apply(g: Graph) -> int:
    count = 0
    for node in g.graph:
        if node.domain or node.op_type not in GATES or len(node.inputs) <= LENS:
            continue
        source, lens = node.inputs[0], node.inputs[LENS]
        if source is None or lens is None:
            continue
        shape = g.facts[source].shape
        if shape is not None and full_lens(g.facts[lens], shape[node.attributes.get_int("layout", 0)]):
            node.replace_input_with(LENS, None)
            count += 1
    return count
