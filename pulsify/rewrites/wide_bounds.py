"""Bounds of a Slice in int64: the standard wants one type for all four, and what other rewrites write is int64."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    return sum(_widen(edit, node) for node in list(g.graph) if node.op_type == "Slice" and not node.domain)


def _widen(edit: Editor, node: ir.Node) -> int:
    g, count = edit.g, 0
    for k in range(1, len(node.inputs)):
        bound = node.inputs[k]
        if bound is None or g.facts[bound].dtype == ir.DataType.INT64:
            continue
        array = g.facts[bound].array()
        if array is not None:
            wide = edit.const(array.astype(np.int64), f"{bound.name}.wide")
        else:
            wide = edit.before(node, "Cast", [bound], f"{bound.name}.wide", {"to": int(ir.DataType.INT64)})
        node.replace_input_with(k, wide)
        count = 1
    return count
