"""An activation goes in front of a Reshape behind a product: ``f(Reshape(x @ W)) = Reshape(f(x @ W))``.

Where a product makes several frames of one row (a transposed convolution, a depthwise one), their rows are cut apart behind
it, and what follows is an activation. Runtimes compute that within the product if it is next to it.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites._row_form import ACTIVATIONS, attributes, lone
from pulsify.rewrites._rows import Rows, each

__all__ = ["apply"]


def apply(g: Graph) -> int:
    return each(g, ACTIVATIONS, _rewrite)


def _rewrite(rows: Rows, node: ir.Node) -> bool:
    cut = lone(node.inputs[0])
    if cut is None or cut.op_type != "Reshape":
        return False
    product = lone(cut.inputs[0])
    if product is None or product.op_type != "Gemm":
        return False
    wide, out = product.outputs[0], node.outputs[0]
    (active,) = rows.node(node.op_type, [wide], f"{out.name}.wide", **attributes(node))
    rows._loose(active, wide)
    if wide in rows.g.chunks:
        rows.g.chunks[active] = rows.g.chunks[wide]
    (made,) = rows.node("Reshape", [active, cut.inputs[1]], out.name or "cut", **attributes(cut))
    rows.replace(out, made)
    for old in (node, cut):
        rows.g.forget(old.outputs[0])
        rows.g.graph.remove(old, safe=True)
    return True
