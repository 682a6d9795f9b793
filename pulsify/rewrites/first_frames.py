"""The first frames of a stream joined in front of another one along time, as pre-emphasis is written:

    Concat(x[:k], y)  =  Where(position < k, x, Pad(y, k))      where x is k frames longer than y
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.ops._infer import infer_node, view
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    return sum(_join(edit, node) for node in list(g.graph) if node.op_type == "Concat" and not node.domain)


def _join(edit: Editor, node: ir.Node) -> int:
    g = edit.g
    head, rest = node.inputs if len(node.inputs) == 2 else (None, None)
    if head is None or rest is None:
        return 0
    cut = head.producer()
    if cut is None or cut.op_type != "Slice" or cut.domain or cut.inputs[0] is None:
        return 0
    n, c = view(g, node, outputs=True), view(g, cut, outputs=True)
    rank = len(n.shape(1))
    axis = n.attr("axis", 0) % rank
    start, end, axes, step = (c.plain_ints(i) for i in (1, 2, 3, 4))
    count = n.shape(0)[axis]
    if (
        n.streaming(1) != (axis,)
        or c.streaming(0) != (axis,)
        or n.streaming(0)
        or not isinstance(count, int)
        or count < 1
        or start is None
        or end is None
        or len(start) != 1
        or start[0] != 0
        or end[0] != count
        or (axes or (0,))[0] % rank != axis
        or (step or (1,))[0] != 1
        or c.shape(0)[axis] != n.shape(1)[axis] + count
    ):
        return 0
    stem, x = node.outputs[0].name, cut.inputs[0]
    length = edit.before(node, "Shape", [x], f"{stem}.length", {"start": axis, "end": axis + 1})
    length = edit.before(node, "Squeeze", [length, edit.const([0])], f"{stem}.count", None)
    position = edit.before(node, "Range", [edit.const(0), length, edit.const(1)], f"{stem}.position", None)
    first = edit.before(node, "Less", [position, edit.const(count)], f"{stem}.first", None)
    if axis != rank - 1:
        first = edit.before(node, "Unsqueeze", [first, edit.const(list(range(1, rank - axis)))], f"{stem}.mask", None)
    pads = edit.const([count if a == axis else 0 for a in range(2 * rank)], f"{stem}.pads")
    padded = edit.before(node, "Pad", [rest, pads], f"{stem}.padded", None)
    edit.become(node, "Where", [first, x, padded])
    infer_node(g, node)
    return 1
