"""Frames looked up at constant indices along time are a Slice around them, and a lookup in what is static then.

One frame is the Slice of it without its axis: ``Gather(x, i) = Squeeze(x[i : i + 1])``.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.ops._infer import infer_node, view
from pulsify.rewrites._edit import Editor
from pulsify.rewrites.fix_shapes import END

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    return sum(_slice(edit, node) for node in list(g.graph) if node.op_type == "Gather" and not node.domain)


def _slice(edit: Editor, node: ir.Node) -> int:
    g = edit.g
    n = view(g, node, outputs=True)
    if not n.streaming(0):
        return 0
    axis = n.axis(n.attr("axis", 0), len(n.shape(0)))
    index = n.fact(1).array()
    if axis not in n.streaming(0) or index is None or index.size == 0:
        return 0
    low, high = int(index.min()), int(index.max())
    if low < 0 <= high:
        return 0  # from both ends at once
    stem = node.outputs[0].name
    bounds = [edit.const([b], f"{stem}.bound") for b in (low, high + 1 if high != -1 else END, axis)]
    frames = edit.before(node, "Slice", [node.inputs[0], *bounds], f"{stem}.frames", None)
    if index.ndim == 0:
        edit.become(node, "Squeeze", [frames, edit.const([axis], f"{stem}.axis")])
        infer_node(g, node)
        return 1
    node.replace_input_with(0, frames)
    node.replace_input_with(1, edit.const(index - low, f"{stem}.index"))
    infer_node(g, node)
    return 1
