"""Normalisations over channels, written as runtimes know them, which make one node of them.

``x * (1 / sqrt(mean(x*x) + epsilon))`` is ``x / sqrt(mean(pow(x, 2)) + epsilon)``: with the scale behind it a normalisation by the root mean
square, seven nodes that become one kernel, and a layer normalisation with the mean taken away before and a shift behind it. A
quotient by something that is a product with its reciprocal is one node less in any case.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites._row_form import FLOATS, array, lone, reader
from pulsify.rewrites._rows import Rows, each

__all__ = ["apply"]


def apply(g: Graph) -> int:
    return each(g, ("Mul",), _quotient) + each(g, ("ReduceMean",), _square)


def _quotient(rows: Rows, node: ir.Node) -> bool:
    """``x * (1/y)`` as ``x / y``."""
    g, out = rows.g, node.outputs[0]
    for x, over in (node.inputs, node.inputs[::-1]):
        by = lone(over)
        y = None if by is None else _divisor(by)
        if x is None or over is None or by is None or y is None or g.facts[out].dtype not in FLOATS or g.facts[y].shape != g.facts[over].shape:
            continue
        (made,) = rows.node("Div", [x, y], out.name or "quotient")
        rows.replace(out, made)
        for gone in (node, by):
            g.graph.remove(gone, safe=True)
        g.forget(over)
        return True
    return False


def _divisor(node: ir.Node) -> ir.Value | None:
    """``y`` of a node that makes ``1/y``."""
    if node.op_type == "Reciprocal":
        return node.inputs[0]
    one = array(node.inputs[0]) if node.op_type == "Div" else None
    return node.inputs[1] if one is not None and one.size == 1 and one.item() == 1 else None


def _square(rows: Rows, node: ir.Node) -> bool:
    """``x*x`` under the mean of a normalisation as a power."""
    g, square = rows.g, node.inputs[0]
    before, shifted = lone(square), reader(node.outputs[0])
    root = None if shifted is None or shifted.op_type != "Add" else reader(shifted.outputs[0])
    if before is None or square is None or before.op_type != "Mul" or before.inputs[0] is not before.inputs[1]:
        return False
    if root is None or root.op_type != "Sqrt" or g.facts[square].dtype not in FLOATS:
        return False
    (made,) = rows.node("Pow", [before.inputs[0], rows.const(np.asarray(2), g.facts[square].dtype.numpy(), "two")], square.name or "square")
    rows.replace(square, made)
    g.graph.remove(before, safe=True)
    return True
