"""Remove nodes and initializers nothing depends on."""

from __future__ import annotations

from pulsify.graph import Graph

__all__ = ["apply"]


def apply(g: Graph) -> int:
    count = 0
    for node in reversed(g.graph):
        if node.outputs and not any(v.uses() or v.is_graph_output() for v in node.outputs):
            for v in node.outputs:
                g.facts.pop(v, None)
            g.graph.remove(node, safe=True)
            count += 1
    for name, value in list(g.graph.initializers.items()):
        if not value.uses() and not value.is_graph_output():
            g.facts.pop(value, None)
            del g.graph.initializers[name]
    return count
