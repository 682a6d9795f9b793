"""Padding along time that hides inside a window operator becomes a Pad in front of it.

``Conv(pads) = Conv(no pads) after Pad``: the ends of a stream are then one rule's business.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.ops._infer import infer_node, view
from pulsify.ops._rule import find
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    count = 0
    for node in list(g.graph):
        rule = find(node.domain, node.op_type)
        windows = getattr(rule, "windows", None)
        if windows is None or not g.time_axes(node.inputs[rule.data]):  # type: ignore[union-attr]
            continue
        n = view(g, node, outputs=True)
        time = n.streaming(rule.data)  # type: ignore[union-attr]
        geometry = windows(n)
        padded = [w for w in geometry if w.axis in time and (w.before or w.after)]
        auto = node.attributes.pop("auto_pad", None)
        if padded:
            count += 1
            rank = n.fact(rule.data).rank  # type: ignore[union-attr]
            amounts = [0] * (2 * rank)
            for w in padded:
                amounts[w.axis], amounts[w.axis + rank] = w.before, w.after
            source = node.inputs[rule.data]  # type: ignore[union-attr]
            assert source is not None
            value = rule.pad_value  # type: ignore[union-attr]
            padded_wire = _pad(edit, node, source, amounts, value(n) if callable(value) else value)
            node.replace_input_with(rule.data, padded_wire)  # type: ignore[union-attr]
        if padded or auto is not None:
            keep = [w for w in geometry if w not in padded]
            pads = [0] * (2 * len(geometry))
            for w in keep:
                pads[w.axis - 2], pads[w.axis - 2 + len(geometry)] = w.before, w.after
            node.attributes.add(ir.AttrInt64s("pads", pads))
            infer_node(g, node)
    return count


def _pad(edit: Editor, node: ir.Node, source: ir.Value, amounts: list[int], value: float) -> ir.Value:
    dtype = edit.g.facts[source].dtype
    inputs = [source, edit.const(amounts, f"{source.name}.pads")]
    if value != 0:
        inputs.append(edit.const(value, f"{source.name}.fill", dtype.numpy()))
    return edit.before(node, "Pad", inputs, f"{source.name}.pad", {"mode": "constant"})
