"""Two constant Pads of one value in a row become one, as long as it pads time alone or not at all."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim
from pulsify.graph import Graph
from pulsify.ops._infer import infer_node, view
from pulsify.ops.pad import pad_amounts, pad_constant
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    count = 0
    for node in list(g.graph):
        inner = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        if inner is None or not (_plain(node) and _plain(inner)) or not g.time_axes(node.inputs[0]):
            continue
        mid = inner.outputs[0]
        if len(mid.uses()) != 1 or mid.is_graph_output():
            continue
        a, b = view(g, inner, outputs=True), view(g, node, outputs=True)
        va, vb = pad_constant(a), pad_constant(b)
        if va is None or vb is None or not np.array_equal(np.asarray(va), np.asarray(vb)):
            continue
        pa, pb = pad_amounts(a), pad_amounts(b)
        if any(isinstance(v, Dim) or v < 0 for p in (*pa, *pb) for v in p):
            continue
        time = set(a.streaming(0))
        axes = {i for p in (pa, pb) for i, amounts in enumerate(p) if amounts != (0, 0)}
        if axes & time and len(axes) > 1:
            continue
        total = [pa[i][s] + pb[i][s] for s in (0, 1) for i in range(len(pa))]
        node.replace_input_with(0, inner.inputs[0])
        node.replace_input_with(1, edit.const(total, f"{node.outputs[0].name}.pads"))
        if len(node.inputs) > 3:
            node.resize_inputs(3)
        edit.forget(inner)
        infer_node(g, node)
        count += 1
    return count


def _plain(node: ir.Node) -> bool:
    return (
        node.op_type == "Pad"
        and not node.domain
        and len(node.inputs) > 1
        and node.attributes.get_string("mode", "constant") == "constant"
    )
