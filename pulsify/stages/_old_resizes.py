"""Upsample and Resize from before opset 11: output frame i lies at ``i/scale``; *nearest* is the frame below, or above where the axis shrinks.

onnx's converter leaves what they meant unsaid, and a Resize since opset 11 means half_pixel then. An axis at a time, the law is
``nearest(s) = ceil(min(s, 1)) after floor(max(s, 1))``: of the two, the one whose scales are all 1 is none.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

__all__ = ["show"]


def show(model: ir.Model) -> None:
    """Say in every Resize, after the conversion, what it meant before opset 11."""
    for node in list(ir.traversal.RecursiveGraphIterator(model.graph)):
        if node.op_type != "Resize" or node.domain:
            continue
        node.attributes["coordinate_transformation_mode"] = ir.AttrString("coordinate_transformation_mode", "asymmetric")
        if node.attributes.get_string("mode", "nearest") == "nearest":
            _round(node)


def _round(node: ir.Node) -> None:
    """The rounding of a nearest Resize: one of both, or one behind the other."""
    scales = node.inputs[2]
    assert scales is not None and node.graph is not None
    known = ir.convenience.get_const_tensor(scales)
    array = None if known is None else known.numpy()
    if array is None or (array.min(initial=1) < 1 < array.max(initial=1)):
        stem, one = node.outputs[0].name or "resize", ir.node("Constant", [], {"value": ir.tensor(np.ones(1, np.float32))})
        grown, shrunk = (ir.node(op, [scales, one.outputs[0]]) for op in ("Max", "Min"))
        first = ir.Node("", "Resize", [node.inputs[0], node.inputs[1], grown.outputs[0]], list(node.attributes.values()))
        for made, role in ((one, "one"), (grown, "grown"), (shrunk, "shrunk"), (first, "first")):
            made.name = made.outputs[0].name = f"{stem}/{role}"
        node.graph.insert_before(node, [one, grown, shrunk, first])
        first.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "floor")
        node.replace_input_with(0, first.outputs[0])
        node.replace_input_with(2, shrunk.outputs[0])
        shrinks = True
    else:
        shrinks = bool(array.min(initial=1) < 1)
    node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "ceil" if shrinks else "floor")
