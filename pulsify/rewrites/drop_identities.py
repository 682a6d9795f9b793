"""Remove what does nothing: Identity, Dropout at inference, casts to the same type; CastLike becomes Cast."""

from __future__ import annotations

import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    count = 0
    for node in list(g.graph):
        if node.domain:
            continue
        if node.op_type == "CastLike":
            to = g.facts[node.outputs[0]].dtype
            new = edit.before(node, "Cast", [node.inputs[0]], f"{node.outputs[0].name}.cast", {"to": int(to)})
            node = _replace(edit, node, new) or node
            count += 1
        if _idle(g, node):
            source = node.inputs[0]
            assert source is not None
            count += edit.bypass(node, source)
    return count


def _replace(edit: Editor, node: ir.Node, by: ir.Value) -> ir.Node | None:
    if edit.bypass(node, by):
        return by.producer()
    return None


def _idle(g: Graph, node: ir.Node) -> bool:
    if len([v for v in node.outputs if v.uses() or v.is_graph_output()]) != 1:
        return False
    if node.op_type in ("Identity", "Dropout"):
        return bool(node.outputs[0].uses() or node.outputs[0].is_graph_output())
    if node.op_type == "Cast":
        source = g.fact(node.inputs[0])
        return source is not None and source.dtype == g.facts[node.outputs[0]].dtype
    return False
