"""A Scan that begins with the first frame of a stream takes it from the stream: an average that starts where its input does.

    Scan(x[0], y; h' = f(h, y[t]))  =  Scan(0, y, x, position == 0; h' = f(h_t, y[t])),    h_t = x[t] where position == 0, else h
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim, DimLike
from pulsify.graph import Graph
from pulsify.ops._infer import infer_node, view
from pulsify.ops.scan import MASKED, layout
from pulsify.rewrites._edit import Editor
from pulsify.rewrites._end_frames import end_frames

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    return sum(_starts(edit, node) for node in list(g.graph) if node.op_type == "Scan" and not node.domain)


def _starts(edit: Editor, node: ir.Node) -> int:
    g = edit.g
    scanned = node.attributes.get_int("num_scan_inputs")
    carried = len(node.inputs) - scanned
    n = view(g, node, outputs=True)
    lay = layout(node, [f.rank for f in n.inputs[carried:] if f is not None], [f.rank for f in n.outputs[carried:]])
    steps = n.shape(carried)[lay.in_axes[0]]
    if lay.backwards or not isinstance(steps, Dim):
        return 0
    found = {k: first for k in range(carried) if (first := _first(edit, node.inputs[k], steps)) is not None}
    if not found:
        return 0
    body = node.attributes["body"].as_graph().clone(allow_outer_scope_values=True)
    taken = {v.name for v in (*body.inputs, *body.initializers.values())} | {v.name for inner in body for v in inner.outputs}
    frames: list[ir.Value] = []
    axes = list(lay.in_axes)
    for k, (x, axis) in found.items():
        stem, old = f"{node.name}.{k}", body.inputs[k]
        position = _begins(edit, node, x, axis, stem)
        frame, begins, start = (ir.Value(name=_fresh(taken, f"pulsify.{what}_{k}")) for what in ("frame", "begins", "start"))
        frame.type, begins.type = ir.TensorType(g.facts[x].dtype), ir.TensorType(ir.DataType.BOOL)
        old.replace_all_uses_with(start, replace_graph_outputs=True)
        body.inputs.extend((frame, begins))
        choice = ir.Node("", "Where", [begins, frame, old], outputs=[start])
        body.insert_before(body[0], choice) if len(body) else body.append(choice)
        node.replace_input_with(k, _zeros(edit, node, x, axis, stem))
        frames += [x, position]
        axes += [axis, axis]
    outputs = list(node.attributes.get_ints("scan_output_axes", []))
    node.attributes.clear()
    node.attributes.add(ir.AttrGraph("body", body))
    node.attributes.add(ir.AttrInt64("num_scan_inputs", scanned + len(frames)))
    node.attributes.add(ir.AttrInt64s("scan_input_axes", axes))
    if outputs:
        node.attributes.add(ir.AttrInt64s("scan_output_axes", outputs))
    node.resize_inputs(len(node.inputs) + len(frames))
    for k, v in enumerate(frames, carried + scanned):
        node.replace_input_with(k, v)
    infer_node(g, node)
    return 1


def _first(edit: Editor, wire: ir.Value | None, steps: Dim) -> tuple[ir.Value, int] | None:
    """The stream whose frame 0 a wire is, cut to the frames of the scan, and its time axis."""
    g = edit.g
    squeeze = None if wire is None else wire.producer()
    if wire is None or squeeze is None or squeeze.op_type != "Squeeze" or squeeze.domain or squeeze.inputs[0] is None:
        return None
    given, made = g.facts[squeeze.inputs[0]].shape, g.facts[wire].shape
    if given is None or made is None or g.facts[wire].dtype.name not in MASKED:
        return None
    for axis in range(len(given)):
        held = end_frames(g, squeeze.inputs[0], axis) if made == (*given[:axis], *given[axis + 1 :]) else None
        if held is None or held.frames != (0,):
            continue
        less = steps - g.length(held.stream, axis)
        if isinstance(less, Dim) or less > 0:
            return None
        if less == 0:
            return held.stream, axis
        bounds = [edit.const([v]) for v in (0, less, axis)]
        return edit.before(squeeze, "Slice", [held.stream, *bounds], f"{wire.name}.frames", None), axis
    return None


def _begins(edit: Editor, node: ir.Node, x: ir.Value, axis: int, stem: str) -> ir.Value:
    """Which entries of a stream are of its frame 0."""
    rank = edit.g.facts[x].rank
    length = edit.before(node, "Shape", [x], f"{stem}.length", {"start": axis, "end": axis + 1})
    count = edit.before(node, "Squeeze", [length, edit.const([0])], f"{stem}.count", None)
    position = edit.before(node, "Range", [edit.const(0), count, edit.const(1)], f"{stem}.position", None)
    begins = edit.before(node, "Equal", [position, edit.const(0)], f"{stem}.first", None)
    if axis != rank - 1:
        begins = edit.before(node, "Unsqueeze", [begins, edit.const(list(range(1, rank - axis)))], f"{stem}.mask", None)
    shape = edit.before(node, "Shape", [x], f"{stem}.shape", None)
    return edit.before(node, "Expand", [begins, shape], f"{stem}.begins", None)


def _zeros(edit: Editor, node: ir.Node, x: ir.Value, axis: int, stem: str) -> ir.Value:
    """A frame of zeros."""
    g = edit.g
    dtype = g.facts[x].dtype
    shape: Sequence[DimLike] = [d for a, d in enumerate(g.facts[x].shape or ()) if a != axis]
    zero = np.zeros([1], dtype.numpy())
    if not any(isinstance(d, Dim) for d in shape):
        return edit.const(np.zeros([int(d) for d in shape]), f"{stem}.zeros", dtype.numpy())  # type: ignore[call-overload]
    sizes: list[ir.Value | None] = [
        edit.const([d]) if isinstance(d, int) else edit.before(node, "Shape", [x], f"{stem}.size", {"start": a, "end": a + 1})
        for a, d in enumerate(g.facts[x].shape or ())
        if a != axis
    ]
    target = edit.before(node, "Concat", sizes, f"{stem}.sizes", {"axis": 0})
    return edit.before(node, "ConstantOfShape", [target], f"{stem}.zeros", {"value": zero})


def _fresh(taken: set[str | None], stem: str) -> str:
    while stem in taken:
        stem += "_"
    taken.add(stem)
    return stem
