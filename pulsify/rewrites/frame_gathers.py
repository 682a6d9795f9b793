"""A Gather along time whose indices march with it, ``hop*j + offset[k]``, is a window: Frames (ops/spectral.py).

Frames makes all windows the stream has; where the indices stop earlier, the rest is cropped behind it. Indices clipped to the
stream look up its end frames again and again, which is edge padding::

    Gather(x, clip(i, 0, L - 1))  =  Gather(Pad(x, edge, b, a), i + b)            for -b <= i < L + a
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim, DimLike, law
from pulsify.facts import Clipped, Grid, Iota
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
    grid = value.grid if isinstance(value, Clipped) else value
    if shape is None or not one_row or not isinstance(grid, Grid) or grid.axis != 0 or len(g.facts[matrix].shape or ()) < 2:  # type: ignore[index]
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
    value = n.fact(1).value
    clipped = value if isinstance(value, Clipped) else None
    value = clipped.grid if clipped is not None else value
    if axis not in n.streaming(0) or not isinstance(value, (Iota, Grid)) or n.streaming(1) != (value.axis,):
        return 0
    start = value.offsets if isinstance(value, Grid) else value.start
    beside = (0, 0) if clipped is None else _beside(g, clipped, n.shape(0)[axis], n.shape(1)[clipped.axis])
    if beside is None:
        return 0
    before, after = beside
    start = start + before  # type: ignore[operator]
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
    source = data
    if before or after:
        flat = [0] * (2 * n.fact(0).rank)
        flat[axis], flat[axis + n.fact(0).rank] = before, after
        data = edit.before(node, "Pad", [data, edit.const(flat)], f"{node.outputs[0].name}.padded", {"mode": "edge"})
    out = edit.before(node, "Frames", [data], f"{node.outputs[0].name}.frames", attributes, DOMAIN)
    made = g.facts[out].shape
    assert made is not None
    form = law(shape[value.axis] - made[time], g.symbol)
    crop = int(form.table[0]) if form is not None and form.rate == 0 and len(set(form.table)) == 1 else 1
    if crop > 0:
        edit.forget(out.producer())  # type: ignore[arg-type]
        if data is not source:
            edit.forget(data.producer())  # type: ignore[arg-type]
        return 0
    # The node itself keeps the name of the output.
    node.attributes.clear()
    if crop == 0:
        node.op_type, node.domain = "Frames", DOMAIN
        node.resize_inputs(1)
        node.replace_input_with(0, data)
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


def _beside(g: Graph, clipped: Clipped, length: DimLike, count: DimLike) -> tuple[int, int] | None:
    """Copies of the first and of the last frame that so many rows of clipped indices look up; None where a bound that matters is
    not the end of the stream, or the copies grow with it."""
    grid, low, high = clipped.grid, clipped.low, clipped.high
    first = int(grid.offsets.min())
    before = 0
    if low is not None and (isinstance(low, Dim) or low > first):
        if low != 0:
            return None
        before = -first
    if high is None:
        return before, 0
    beyond = law(grid.step * (count - 1) + int(grid.offsets.max()) - high, g.symbol)
    after = None if beyond is None or beyond.rate != 0 else max(0, *(int(t) for t in beyond.table))
    return None if after is None or (after and high != length - 1) else (before, after)
