"""A Gather along time whose indices march with it, ``hop*j + offset[k]``, is a window: Frames (ops/spectral.py).

Frames makes all windows the stream has; where the indices stop earlier, the rest is cropped behind it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.dim import law
from pulsify.facts import Grid, Iota
from pulsify.graph import DOMAIN, Graph
from pulsify.ops._infer import infer_node, view
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    for node in list(g.graph):
        if node.op_type == "Gather" and not node.domain:
            _unflatten(edit, node)
    return sum(_frames(edit, node) for node in list(g.graph) if node.op_type == "Gather" and not node.domain)


def _unflatten(edit: Editor, node: ir.Node) -> None:
    """Indices in one long row are looked up as the matrix they were made from, and the result is flattened."""
    g = edit.g
    data, index = node.inputs[0], node.inputs[1]
    flat = None if index is None else index.producer()
    if data is None or index is None or flat is None or flat.op_type != "Reshape" or flat.domain:
        return
    matrix, shape = flat.inputs[0], g.facts[data].shape
    value = None if matrix is None else g.facts[matrix].value
    one_row = len(g.facts[index].shape or ()) == 1
    if shape is None or not one_row or not isinstance(value, Grid) or value.axis != 0 or value.offsets.ndim < 2:
        return
    axis = node.attributes.get_int("axis", 0) % len(shape)
    rest = shape[axis + 1 :]
    if not all(isinstance(d, int) for d in rest):
        return
    stem = f"{node.outputs[0].name}.matrix"
    found = edit.before(node, "Gather", [data, matrix], stem, {"axis": axis})
    node.op_type = "Reshape"
    node.attributes.clear()
    target = [*(0 for _ in range(axis)), -1, *(int(d) for d in rest)]  # type: ignore[call-overload]
    node.replace_input_with(0, found)
    node.replace_input_with(1, edit.const(target, f"{stem}.shape"))
    infer_node(g, node)


def _frames(edit: Editor, node: ir.Node) -> int:
    g = edit.g
    data, index = node.inputs[0], node.inputs[1]
    n = view(g, node, outputs=True)
    if data is None or index is None or n.fact(0).shape is None:
        return 0
    axis = n.axis(n.attr("axis", 0), len(n.shape(0)))
    fact = n.fact(1)
    value = fact.value
    if axis not in n.streaming(0) or not isinstance(value, (Iota, Grid)) or n.streaming(1) != (value.axis,):
        return 0
    start = value.offsets if isinstance(value, Grid) else value.start
    if not isinstance(value.step, int) or value.step < 1 or not isinstance(start, (int, np.ndarray)) or np.min(start) < 0:
        return 0
    shape = n.shape(1)
    others = [d for a, d in enumerate(shape) if a != value.axis]
    if not all(isinstance(d, int) for d in others):
        return 0
    wide = np.broadcast_to(np.asarray(start), [1 if a == value.axis else int(d) for a, d in enumerate(shape)])  # type: ignore[call-overload]
    grid = [-1 if a == value.axis else int(d) for a, d in enumerate(shape)]  # type: ignore[call-overload]
    attributes: dict[str, Any] = {"axis": axis, "grid": grid, "hop": value.step, "offsets": [int(v) for v in wide.reshape(-1)]}
    time = axis + value.axis
    out = edit.before(node, "Frames", [data], f"{node.outputs[0].name}.frames", attributes, DOMAIN)
    made = g.facts[out].shape
    assert made is not None
    form = law(shape[value.axis] - made[time], g.symbol)
    crop = int(form.table[0]) if form is not None and form.rate == 0 and len(set(form.table)) == 1 else 1
    if crop > 0:
        edit.forget(out.producer())  # type: ignore[arg-type]
        return 0
    # The node itself keeps the name of the output.
    node.attributes.clear()
    if crop == 0:
        node.op_type, node.domain = "Frames", DOMAIN
        node.resize_inputs(1)
        for name, v in attributes.items():
            node.attributes.add(ir.convenience.convert_attribute(name, v))
        edit.forget(out.producer())  # type: ignore[arg-type]
    else:
        node.op_type = "Slice"
        bounds = [edit.const([v]) for v in (0, crop, time)]
        node.resize_inputs(4)
        for k, wire in enumerate([out, *bounds]):
            node.replace_input_with(k, wire)
    infer_node(g, node)
    return 1
