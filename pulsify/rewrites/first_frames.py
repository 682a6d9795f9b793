"""Frames of the ends of a stream joined to a stream along time.

Copies of the first or the last frame, and mirrored frames, beside the stream itself are padding::

    Concat(x[0], .., x[0], x, x[-1], .., x[-1])  =  Pad(x, edge)            Concat(x[k], .., x[1], x)  =  Pad(x, reflect)

The first frames in front of another stream, as pre-emphasis is written, behind b more copies of frame 0 or none::

    Concat(x[max(0, j - b)] for j < k, y)  =  Where(position < k, Pad(x, edge, b), Pad(y, k))
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.ops._infer import infer_node
from pulsify.rewrites._edit import Editor
from pulsify.rewrites._end_frames import EndFrames, end_frames

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    return sum(_join(edit, node) for node in list(g.graph) if node.op_type == "Concat" and not node.domain)


def _join(edit: Editor, node: ir.Node) -> int:
    g = edit.g
    wires = list(node.inputs)
    axis = node.attributes.get_int("axis") % g.facts[node.outputs[0]].rank
    streams = [k for k, v in enumerate(wires) if axis in g.time_axes(v)]
    if len(streams) != 1 or g.time_axes(wires[streams[0]]) != (axis,):
        return 0
    (k,) = streams
    stream = wires[k]
    assert stream is not None
    heads, first = _beside(g, wires[:k], axis, ahead=True)
    tails, last = _beside(g, wires[k + 1 :], axis, ahead=False)
    front, back = _mode(first, stream, 0), _mode(last, stream, -1)
    joined = stream
    for mode in dict.fromkeys((back, front)):
        if mode:
            amounts = (len(first.frames) if first and front == mode else 0, len(last.frames) if last and back == mode else 0)
            joined = _pad(edit, node, joined, axis, amounts, mode)
    if first and not front:
        found = _in_front(edit, node, first, joined, axis)
        heads, joined = (heads, found) if found is not None else (0, joined)
    if joined is stream:
        return 0
    rest = [*wires[: k - heads], joined, *wires[k + 1 + (tails if back else 0) :]]
    if len(rest) == 1:
        return edit.bypass(node, joined)
    node.resize_inputs(len(rest))
    for i, v in enumerate(rest):
        node.replace_input_with(i, v)
    infer_node(g, node)
    return 1


def _beside(g: Graph, wires: Sequence[ir.Value | None], axis: int, *, ahead: bool) -> tuple[int, EndFrames | None]:
    """How many wires next to the stream, in front of it or behind it, hold frames of the ends of one stream, and those frames."""
    found: EndFrames | None = None
    for count, v in enumerate(reversed(wires) if ahead else wires):
        held = end_frames(g, v, axis)
        if held is None or (found is not None and held.stream is not found.stream):
            return count, found
        before = () if found is None else found.frames
        found = EndFrames(held.stream, held.frames + before if ahead else before + held.frames)
    return len(wires), found


def _mode(held: EndFrames | None, stream: ir.Value, end: int) -> str:
    """The padding that these frames are in front of the stream (end 0) or behind it (end -1); none: empty."""
    if held is None or held.stream is not stream:
        return ""
    count = len(held.frames)
    mirrored = tuple(range(count, 0, -1)) if end == 0 else tuple(range(-2, -2 - count, -1))
    return "edge" if set(held.frames) == {end} else "reflect" if held.frames == mirrored else ""


def _pad(edit: Editor, node: ir.Node, x: ir.Value, axis: int, amounts: tuple[int, int], mode: str) -> ir.Value:
    rank = edit.g.facts[x].rank
    flat = [0] * (2 * rank)
    flat[axis], flat[axis + rank] = amounts
    stem = node.outputs[0].name
    return edit.before(node, "Pad", [x, edit.const(flat, f"{stem}.pads")], f"{stem}.padded", {"mode": mode})


def _in_front(edit: Editor, node: ir.Node, first: EndFrames, y: ir.Value, axis: int) -> ir.Value | None:
    """The first frames of one stream in front of another one that is shorter or longer by a fixed number of frames."""
    g, x, count = edit.g, first.stream, len(first.frames)
    rank, stem = g.facts[y].rank, node.outputs[0].name
    more = g.length(y, axis) + count - g.length(x, axis)
    copies = first.frames.count(0) - 1
    if not isinstance(more, int) or g.facts[x].rank != rank or g.rows(x, axis) != g.rows(y, axis):
        return None
    if copies == count - 1:
        copies = max(copies, more)  # any number of copies from here on
    if copies < 0 or first.frames != tuple(max(0, j - copies) for j in range(count)):
        return None
    if copies or more > copies:
        x = _pad(edit, node, x, axis, (copies, max(0, more - copies)), "edge")
    if more < copies:
        bounds = [edit.const([v]) for v in (0, more - copies, axis)]
        x = edit.before(node, "Slice", [x, *bounds], f"{stem}.cut", None)
    length = edit.before(node, "Shape", [x], f"{stem}.length", {"start": axis, "end": axis + 1})
    length = edit.before(node, "Squeeze", [length, edit.const([0])], f"{stem}.count", None)
    position = edit.before(node, "Range", [edit.const(0), length, edit.const(1)], f"{stem}.position", None)
    begins = edit.before(node, "Less", [position, edit.const(count)], f"{stem}.first", None)
    if axis != rank - 1:
        begins = edit.before(node, "Unsqueeze", [begins, edit.const(list(range(1, rank - axis)))], f"{stem}.mask", None)
    pads = edit.const([count if a == axis else 0 for a in range(2 * rank)], f"{stem}.pads")
    padded = edit.before(node, "Pad", [y, pads], f"{stem}.padded", None)
    return edit.before(node, "Where", [begins, x, padded], f"{stem}.joined", None)
