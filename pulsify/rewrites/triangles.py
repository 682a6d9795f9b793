"""A triangle with time on one of its two axes keeps an entry by the place of its frame: ``Where(c - r <= k, x, 0)``."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim
from pulsify.graph import Graph
from pulsify.ops._infer import infer_node, view
from pulsify.ops._rule import NodeView
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    return sum(_rewrite(edit, n) for n in list(g.graph) if n.op_type in ("Trilu", "EyeLike") and not n.domain)


def _rewrite(edit: Editor, node: ir.Node) -> int:
    n = view(edit.g, node, outputs=True)
    x, shape = node.inputs[0], n.shape(0)
    row, col = len(shape) - 2, len(shape) - 1
    time = [a for a in n.streaming(0) if a in (row, col)]
    if x is None or len(time) != 1 or isinstance(shape[row + col - time[0]], Dim):
        return 0
    diagonal = n.attr("k", 0) if node.op_type == "EyeLike" else _diagonal(n)
    if diagonal is None:
        return 0
    (axis,) = time
    stem = node.outputs[0].name or "triangle"
    size = int(shape[row + col - axis])
    length = edit.before(node, "Shape", [x], f"{stem}.length", {"start": axis, "end": axis + 1})
    count = edit.before(node, "Squeeze", [length, edit.const([0])], f"{stem}.count", None)
    place = edit.before(node, "Range", [edit.const(0, "zero"), count, edit.const(1, "one")], f"{stem}.place", None)
    # c - r - k, with the places of time on the left of the comparison.
    if axis == row:
        place = edit.before(node, "Unsqueeze", [place, edit.const([1])], f"{stem}.rows", None)
        fixed = edit.const(np.arange(size) - diagonal, f"{stem}.columns")
        tests = {"lower": "GreaterOrEqual", "upper": "LessOrEqual"}
    else:
        fixed = edit.const((np.arange(size) + diagonal)[:, None], f"{stem}.rows")
        tests = {"lower": "LessOrEqual", "upper": "GreaterOrEqual"}
    if node.op_type == "EyeLike":
        same = edit.before(node, "Equal", [place, fixed], f"{stem}.same", None)
        edit.become(node, "Cast", [same])
        node.attributes.add(ir.AttrInt64("to", int(n.outputs[0].dtype)))
    else:
        test = tests["upper" if n.attr("upper", 1) else "lower"]
        keep = edit.before(node, test, [place, fixed], f"{stem}.keep", None)
        zero = edit.const(0, f"{stem}.zero", n.fact(0).dtype.numpy())
        edit.become(node, "Where", [keep, x, zero])
    infer_node(edit.g, node)
    return 1


def _diagonal(n: NodeView) -> int | None:
    f = n.optional(1)
    if f is None:
        return 0
    elems = f.elems()
    return None if elems is None or isinstance(elems.reshape(-1)[0], Dim) else int(elems.reshape(-1)[0])
