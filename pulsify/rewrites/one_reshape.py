"""Of nodes behind each other that only say how the same numbers are shaped, the last one tells.

A Reshape, Squeeze, Unsqueeze or Flatten behind another one reads what that one reads; one that gives back the shape it began
with is nothing, and so is one that tells the shape there is. At one frame per pulse most of what moves axes is of this kind: a third of the nodes of a DeepFilterNet decoder.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites._row_form import depends_on_sizes
from pulsify.rewrites._rows import Rows, each

__all__ = ["apply"]

_SHAPERS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


def apply(g: Graph) -> int:
    return each(g, _SHAPERS, _rewrite)


def _rewrite(rows: Rows, node: ir.Node) -> bool:
    g, between, out = rows.g, node.inputs[0], node.outputs[0]
    if between is not None and _same(g, between, out) and not depends_on_sizes(g, node) and not _between_moves(between, out):
        rows.replace(out, between)
        g.graph.remove(node, safe=True)
        return True
    before = None if between is None or between.is_graph_output() or len(between.uses()) > 1 else between.producer()
    if between is None or before is None or before.domain or before.op_type not in _SHAPERS or before.inputs[0] is None:
        return False
    x = before.inputs[0]
    if depends_on_sizes(g, node) or (depends_on_sizes(g, before) and not _told(node)):
        return False
    if _same(g, x, out) and not _between_moves(x, out):
        rows.replace(out, x)
    elif _told(node):
        node.replace_input_with(0, x)
        g.forget(between)
        g.graph.remove(before, safe=True)
        return True
    else:
        shape = g.chunks.get(out)
        if shape is None or sum(not isinstance(d, int) for d in shape) > 1:
            return False
        (new,) = rows.node("Reshape", [x, rows.const([d if isinstance(d, int) else -1 for d in shape])], out.name or "shaped")
        rows._loose(new, out)
        rows.replace(out, new)
    for gone in (node, before):
        for v in gone.outputs:
            g.forget(v)
        g.graph.remove(gone, safe=True)
    return True


def _told(node: ir.Node) -> bool:
    """Whether a Reshape tells every axis but one."""
    target = node.inputs[1] if node.op_type == "Reshape" else None
    return target is not None and target.const_value is not None and 0 not in target.const_value.numpy()


def _same(g: Graph, x: ir.Value, out: ir.Value) -> bool:
    """Whether both wires hold the same; an output of the model also tells which of its axes is time."""
    shape = g.chunks.get(x)
    if shape is None or shape != g.chunks.get(out) or sum(not isinstance(d, int) for d in shape) > 1:
        return False
    return not out.is_graph_output() or g.regions.get(x) == g.regions.get(out)


def _between_moves(x: ir.Value, out: ir.Value) -> bool:
    """Whether two Transposes would meet, which a runtime makes one of again (plain_transposes.py)."""
    before = x.producer()
    return before is not None and before.op_type == "Transpose" and any(user.op_type == "Transpose" for user, _ in out.uses())
