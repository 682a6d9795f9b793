"""An exclusive cumulative sum along time is the inclusive one, a frame later: ``[0, s_0, s_1, .., s_{L-2}]``; a
product likewise, after 1.

Written as Pad after Slice, so that the delay it takes back is the schedule's to use.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.facts import Iota
from pulsify.graph import Graph
from pulsify.ops._infer import infer_node, view
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    count = 0
    for node in list(g.graph):
        if node.op_type not in ("CumSum", "CumProd") or node.domain or not node.attributes.get_int("exclusive", 0):
            continue
        n = view(g, node, outputs=True)
        (axis,) = n.plain_ints(1) or (0,)
        axis %= len(n.shape(0))
        if axis not in n.streaming(0) or n.attr("reverse", 0) or isinstance(n.outputs[0].value, Iota):
            continue
        attributes = {"reverse": 0, "exclusive": 0}
        stem, product = node.outputs[0].name, node.op_type == "CumProd"
        sums = edit.before(node, node.op_type, [node.inputs[0], node.inputs[1]], f"{stem}.inclusive", attributes)
        bounds = [edit.const([v]) for v in (0, -1, axis)]
        rank = len(n.shape(0))
        pads = edit.const([int(i == axis) for i in range(2 * rank)], f"{stem}.pads")
        last = edit.before(node, "Slice", [sums, *bounds], f"{stem}.shifted", None)
        node.op_type = "Pad"
        node.attributes.clear()
        node.attributes.add(ir.AttrString("mode", "constant"))
        node.replace_input_with(0, last)
        node.replace_input_with(1, pads)
        if product:
            one = edit.const(1, f"{stem}.one", g.facts[last].dtype.numpy())
            node.resize_inputs(3)
            node.replace_input_with(2, one)
        infer_node(g, node)
        count += 1
    return count
