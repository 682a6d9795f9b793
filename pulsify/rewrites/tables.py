"""A table cut to the length of the stream is looked up at positions: ``table[:, a:S:s]`` is ``table[:, Range(a, S, s)]``."""

from __future__ import annotations

import onnx_ir as ir

from pulsify.dim import Dim
from pulsify.graph import Graph
from pulsify.ops._infer import view
from pulsify.ops.slice import slice_ranges
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    return sum(_lookup(edit, node) for node in list(g.graph) if node.op_type == "Slice" and not node.domain)


def _lookup(edit: Editor, node: ir.Node) -> int:
    g = edit.g
    out = node.outputs[0]
    time = g.time_axes(out)
    if g.time_axes(node.inputs[0]) or len(time) != 1 or len(node.inputs) < 3:
        return 0
    n = view(g, node, outputs=True)
    ranges, (axis,) = slice_ranges(n), time
    start, count, step = ranges[axis]
    if isinstance(start, Dim) or start < 0 or step < 1:
        return 0
    others = {a: r for a, r in ranges.items() if a != axis and r != (0, n.shape(0)[a], 1)}
    if any(isinstance(v, Dim) for r in others.values() for v in r):
        return 0
    given = n.const_ints(3)
    axes = list(range(len(ranges))) if given is None else [n.axis(a, len(n.shape(0))) for a in given]
    source, end, stem = node.inputs[0], node.inputs[2], out.name
    assert source is not None and end is not None
    for a, (first, size, by) in others.items():
        # The last entry a reversed slice takes may be the first there is.
        stop = int(first) + by * int(size)
        bounds = [edit.const([b], f"{stem}.bound") for b in (first, stop if stop >= 0 else -(1 << 62), a, by)]
        source = edit.before(node, "Slice", [source, *bounds], f"{stem}.cut", None)
    kind = g.facts[end].dtype.numpy()
    last = edit.before(node, "Gather", [end, edit.const(axes.index(axis), f"{stem}.which")], f"{stem}.end", {"axis": 0})
    bounds = [edit.const(start, f"{stem}.start", kind), last, edit.const(step, f"{stem}.step", kind)]
    row = edit.before(node, "Range", bounds, f"{stem}.positions", None)
    if g.facts[row].shape != (count,):
        return 0
    edit.become(node, "Gather", [source, row])
    node.attributes.add(ir.AttrInt64("axis", axis))
    return 1
