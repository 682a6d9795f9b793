"""Softmax, LogSoftmax and Hardmax from before opset 13: everything from ``axis`` on was one row.

onnx's converter merges the axes before ``axis``, time among them, and leaves Hardmax as it is, which then means
something else. So these are rewritten first, and hidden from it.
"""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["hide", "show"]

#: Operators that took everything from ``axis`` on as one row before opset 13.
_ROWS = ("Softmax", "LogSoftmax", "Hardmax")
#: Where nodes already in today's spelling hide from the converter.
_DONE = "pulsify.done"


def hide(model: ir.Model) -> None:
    """Write them as of opset 13, between two Reshapes that leave the axes before ``axis`` alone."""
    for node in list(model.graph):
        if node.op_type not in _ROWS or node.domain:
            continue
        source, out = node.inputs[0], node.outputs[0]
        axis = node.attributes.get_int("axis", 1)
        new = [ir.node(node.op_type, [source], {"axis": -1}, domain=_DONE, name=node.name)]
        if axis != -1:
            shape = ir.node("Shape", [source], name=f"{out.name}/shape")
            new = [shape, *_leading(shape.outputs[0], axis, out.name or ""), *new]
            new.insert(-1, ir.node("Reshape", [source, new[-2].outputs[0]], name=f"{out.name}/rows"))
            new[-1].replace_input_with(0, new[-2].outputs[0])
            new.append(ir.node("Reshape", [new[-1].outputs[0], shape.outputs[0]], name=f"{out.name}/back"))
        model.opset_imports[_DONE] = 1
        ir.convenience.replace_nodes_and_values(model.graph, node, [node], new, [out], [new[-1].outputs[0]])


def show(model: ir.Model) -> None:
    """Give the hidden nodes their domain back, after the conversion."""
    for node in model.graph:
        if node.domain == _DONE:
            node.domain = ""
    model.opset_imports.pop(_DONE, None)


def _leading(shape: ir.Value, axis: int, stem: str) -> list[ir.Node]:
    """Nodes whose last makes the target ``[the axes before axis.., -1]``. A negative axis counts from the end."""

    def const(*values: int) -> ir.Node:
        return ir.node("Constant", [], {"value": ir.tensor(values, dtype=ir.DataType.INT64)})

    if axis >= 0:
        return [const(*[0] * axis, -1)]
    bounds = [const(0), const(axis), const(-1)]
    head = ir.node("Slice", [shape, bounds[0].outputs[0], bounds[1].outputs[0]], name=f"{stem}/head")
    whole = ir.node("Concat", [head.outputs[0], bounds[2].outputs[0]], {"axis": 0}, name=f"{stem}/target")
    return [*bounds, head, whole]
