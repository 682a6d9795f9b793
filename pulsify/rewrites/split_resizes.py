"""A Resize that moves time becomes one of the other axes and, along time, ``Slice after Resample after Pad(edge)``.

Interpolation is separable; the frames that a resize clamps to at both ends are edge padding like any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim, DimLike
from pulsify.graph import DOMAIN, Graph
from pulsify.ops._infer import infer_node, view
from pulsify.ops._rule import NodeView
from pulsify.ops.resize import Blocks, blocks, interpolated, resized, time_ratio
from pulsify.rewrites._edit import Editor
from pulsify.rewrites.fix_shapes import END

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    return sum(
        _split(edit, node)
        for node in list(g.graph)
        if node.op_type == "Resize" and not node.domain and g.time_axes(node.inputs[0])
    )


def _split(edit: Editor, node: ir.Node) -> int:
    n = view(edit.g, node, outputs=True)
    how, out = resized(n), n.outputs[0].shape
    assert out is not None
    time = [a for a in n.streaming(0) if a in how]
    moved = [a for a in time if time_ratio(n, a, how[a]) != 1]
    if len(moved) > 1:
        n.refuse("it resizes two time axes", axis=moved[0])
    others = [a for a in interpolated(n) if a not in time]
    source = node.inputs[0]
    assert source is not None
    if others:
        if n.attr("coordinate_transformation_mode") == "tf_crop_and_resize":
            n.refuse("it crops and resizes at once", axis=others[0], hint="crop with a Slice")
        if not moved and all(kind == "scale" for kind, _ in how.values()):
            return 0
        if all(out[a] == n.shape(0)[a] for a in others):
            # A Resize that changes no length is a copy to the runtime; beside another axis it is none.
            n.refuse(f"it moves axis {others[0]} by a scale that leaves its length as it is", axis=others[0], hint="scale that axis by 1")
        source = _other_axes(edit, n, node, source, others)
    if not moved:
        return edit.bypass(node, source)
    (axis,) = moved
    _along_time(edit, n, node, source, axis, blocks(n, axis, how[axis]))
    return 1


def _other_axes(edit: Editor, n: NodeView, node: ir.Node, source: ir.Value, axes: list[int]) -> ir.Value:
    """The Resize of the axes without time, by sizes."""
    how, out = resized(n), n.outputs[0].shape
    assert out is not None
    sizes = [out[a] for a in axes]
    if any(isinstance(d, Dim) for d in sizes):
        n.refuse(f"it resizes axis {axes[0]} to {sizes[0]}, which is not a fixed size", axis=axes[0])
    kept: dict[str, Any] = {k: v for k, v in node.attributes.items() if k not in ("axes", "keep_aspect_ratio_policy")}
    kept["axes"] = axes
    if all(how[a][0] == "scale" for a in axes):
        # The coordinates follow the scale asked for, not the one the sizes come to.
        given = [None, edit.const([how[a][1] for a in axes], f"{source.name}.scales", np.float32)]
    else:
        given = [None, None, edit.const([int(d) for d in sizes], f"{source.name}.sizes")]  # type: ignore[arg-type]
    return edit.before(node, "Resize", [source, *given], f"{source.name}.resized", kept)


def _along_time(edit: Editor, n: NodeView, node: ir.Node, source: ir.Value, axis: int, b: Blocks) -> None:
    g = edit.g
    stem, rank = node.outputs[0].name, n.fact(0).rank
    length, wanted = n.shape(0)[axis], n.outputs[0].shape[axis]  # type: ignore[index]
    wire = source
    if b.before or b.after:
        amounts = [0] * (2 * rank)
        amounts[axis], amounts[axis + rank] = b.before, b.after
        wire = edit.before(node, "Pad", [wire, edit.const(amounts)], f"{stem}.pad", {"mode": "edge"})
    attributes = {
        "axis": axis, "up": b.p, "down": b.q, "start": b.low + b.before, "span": b.span,
        "offsets": list(b.offsets), "mix": list(b.mix),
    }  # fmt: skip
    wire = edit.before(node, "Resample", [wire], f"{stem}.blocks", attributes, DOMAIN)
    made = g.facts[wire].shape[axis]  # type: ignore[index]
    surplus = made - b.first - wanted
    if b.first == 0 and g.assume.same(surplus, 0) and edit.bypass(node, wire):
        return
    if isinstance(surplus, Dim):
        end = _length(edit, node, source, axis, b)
    else:
        end = edit.const([-int(surplus) if surplus else END])
    edit.become(node, "Slice", [wire, edit.const([b.first]), end, edit.const([axis])])
    infer_node(g, node)
    _same(n, length, g.facts[node.outputs[0]].shape[axis], wanted)  # type: ignore[index]


def _length(edit: Editor, node: ir.Node, source: ir.Value, axis: int, b: Blocks) -> ir.Value:
    """``first + length*p // q`` as the model computes it."""
    stem = f"{source.name}.frames"
    size = edit.before(node, "Shape", [source], stem, {"start": axis, "end": axis + 1})
    for op, v in (("Mul", b.p), ("Div", b.q), ("Add", b.first)):
        size = edit.before(node, op, [size, edit.const([v])], stem, None)
    return size


def _same(n: NodeView, length: DimLike, got: DimLike, wanted: DimLike) -> None:
    assert n.assume.same(got, wanted), f"{length} frames resized are {got}, not {wanted}"
