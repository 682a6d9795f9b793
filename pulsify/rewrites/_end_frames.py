"""Static wires that hold frames of a stream counted from one of its ends, however their copies are written."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from pulsify.dim import Dim
from pulsify.graph import Graph
from pulsify.ops._infer import view
from pulsify.ops._rule import NodeView
from pulsify.ops.slice import slice_ranges

__all__ = ["EndFrames", "end_frames"]

_RELABELS = frozenset(("Identity", "Reshape", "Squeeze", "Unsqueeze"))


@dataclass(frozen=True, slots=True)
class EndFrames:
    """Entry j of the axis is frame ``frames[j]`` of ``stream``, counted from its end where negative."""

    stream: ir.Value
    frames: tuple[int, ...]


def end_frames(g: Graph, wire: ir.Value | None, axis: int) -> EndFrames | None:
    """What a wire holds along the axis, if it is frames of one stream with time on that axis: cut by a Slice, repeated by a
    Tile or an Expand, picked by a Gather, joined by a Concat."""
    wire = None if wire is None else _relabelled(g, wire)
    node = None if wire is None else wire.producer()
    if wire is None or node is None or node.domain:
        return None
    n = view(g, node, outputs=True)
    if node.op_type == "Slice":
        return _cut(n, axis)
    if node.op_type == "Concat" and node.attributes.get_int("axis") % n.outputs[0].rank == axis:
        parts = [end_frames(g, v, axis) for v in node.inputs]
        if any(p is None or p.stream is not parts[0].stream for p in parts):  # type: ignore[union-attr]
            return None
        return EndFrames(parts[0].stream, tuple(f for p in parts for f in p.frames))  # type: ignore[union-attr]
    if node.op_type not in ("Tile", "Expand", "Gather") or n.optional(0) is None or n.outputs[0].shape is None:
        return None
    held = end_frames(g, node.inputs[0], axis)
    before, after = n.shape(0), n.outputs[0].shape
    if held is None or len(before) != len(after) or any(a != axis and before[a] != after[a] for a in range(len(after))):
        return None
    if node.op_type == "Gather":
        index = n.fact(1).array()
        if index is None or index.ndim != 1 or node.attributes.get_int("axis", 0) % len(before) != axis:
            return None
        return EndFrames(held.stream, tuple(held.frames[int(i)] for i in index))
    return EndFrames(held.stream, held.frames * (int(after[axis]) // len(held.frames))) if isinstance(after[axis], int) else None  # type: ignore[call-overload]


def _relabelled(g: Graph, wire: ir.Value) -> ir.Value:
    """The first wire of the same elements in the same shape: what is squeezed and unsqueezed again is what it was."""
    shape, found, at = g.facts[wire].shape, wire, wire
    while (node := at.producer()) is not None and node.op_type in _RELABELS and not node.domain and node.inputs[0] is not None:
        at = node.inputs[0]
        found = at if g.facts[at].shape == shape else found
    return found


def _cut(n: NodeView, axis: int) -> EndFrames | None:
    source = n.node.inputs[0]
    if source is None or n.streaming(0) != (axis,) or n.outputs[0].time_axes(n.symbol):
        return None
    ranges = slice_ranges(n)
    start, count, step = ranges.get(axis, (0, 0, 1))
    if isinstance(count, Dim) or count < 1 or any(a != axis and r != (0, n.shape(0)[a], 1) for a, r in ranges.items()):
        return None
    first = start - n.shape(0)[axis] if isinstance(start, Dim) else start
    return None if isinstance(first, Dim) else EndFrames(source, tuple(int(first) + step * j for j in range(int(count))))
