"""Zero padding along time goes in front of a Reshape that merges the batch: ``Pad(Reshape(x)) = Reshape(Pad(x))``.

Each stream of a batch ends at its own time, which a mask tells per batch row. Behind the Reshape there are no such rows;
in front of it there are. What is beside time in the Reshape stays beside it: axes before time are merged or split among
themselves, and so are those after.
"""

from __future__ import annotations

import math

import onnx_ir as ir

from pulsify.dim import Dim
from pulsify.graph import Graph
from pulsify.ops._infer import infer_node, view
from pulsify.ops.pad import pad_amounts
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    return sum(_ahead(edit, node) for node in list(g.graph) if node.op_type == "Pad" and not node.domain)


def _ahead(edit: Editor, node: ir.Node) -> bool:
    g = edit.g
    wire = node.inputs[0]
    reshape = None if wire is None else wire.producer()
    if g.batch is None or wire is None or reshape is None or reshape.op_type != "Reshape" or reshape.domain:
        return False
    source, time = reshape.inputs[0], g.time_axes(wire)
    assert source is not None
    before, merged, padded = g.facts[source].shape, g.facts[wire].shape, g.facts[node.outputs[0]].shape
    if before is None or merged is None or padded is None or len(time) != 1 or len(g.time_axes(source)) != 1:
        return False
    if node.attributes.get_string("mode", "constant") != "constant" or len(node.inputs) > 3:
        return False
    if wire.is_graph_output() or len(wire.uses()) != 1 or g.batch_axis(merged) is not None or g.batch_axis(before) is None:
        return False
    (out_axis,), (axis,) = time, g.time_axes(source)
    if before[axis] != merged[out_axis] or math.prod(before[:axis]) != math.prod(merged[:out_axis]):
        return False
    amounts = pad_amounts(view(g, node, outputs=True))
    start, end = amounts[out_axis]
    if isinstance(start, Dim) or isinstance(end, Dim) or any(p != (0, 0) for a, p in enumerate(amounts) if a != out_axis):
        return False
    others = [(a, d) for a, d in enumerate(merged) if a != out_axis and isinstance(d, Dim)]
    if len(others) > 1:
        return False
    stem = f"{wire.name}.pad"
    flat = [0] * (2 * len(before))
    flat[axis], flat[axis + len(before)] = int(start), int(end)
    early = edit.before(node, "Pad", [source, edit.const(flat, f"{stem}.pads"), *node.inputs[2:]], stem, {"mode": "constant"})
    frames = edit.before(node, "Shape", [early], f"{stem}.frames", {"start": axis, "end": axis + 1})
    parts = [frames if a == out_axis else edit.const([-1 if isinstance(d, Dim) else d]) for a, d in enumerate(merged)]
    target = edit.before(node, "Concat", parts, f"{stem}.shape", {"axis": 0})
    edit.become(node, "Reshape", [early, target])
    edit.forget(reshape)
    infer_node(g, node)
    assert g.facts[node.outputs[0]].shape == padded
    return True
