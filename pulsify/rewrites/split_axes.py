"""A Pad or Slice that moves time and other axes at once becomes one of each; a Pad that crops becomes a Slice."""

from __future__ import annotations

import onnx_ir as ir

from pulsify.dim import Dim, DimLike
from pulsify.graph import Graph
from pulsify.ops._infer import infer_node, view
from pulsify.ops.pad import pad_amounts
from pulsify.rewrites._edit import Editor
from pulsify.rewrites.fix_shapes import END

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    count = 0
    for node in list(g.graph):
        if node.domain or not node.inputs or not g.time_axes(node.inputs[0]):
            continue
        if node.op_type == "Pad" and len(node.inputs) > 1:
            count += _pad(edit, node)
        elif node.op_type == "Slice" and len(node.inputs) > 2:
            count += _slice(edit, node)
    return count


def _pad(edit: Editor, node: ir.Node) -> int:
    g = edit.g
    n = view(g, node, outputs=True)
    amounts = pad_amounts(n)
    time = n.streaming(0)
    here = [a for a in time if amounts[a] != (0, 0)]
    others = [a for a in range(len(amounts)) if a not in time and amounts[a] != (0, 0)]
    if not here and not others:
        source = node.inputs[0]
        assert source is not None
        return edit.bypass(node, source)
    if any(isinstance(v, Dim) for a in (*here[:-1], *others) for v in amounts[a]):
        return 0
    count = 0
    source = node.inputs[0]
    assert source is not None
    for axes in ([others] if here and others else []) + [[a] for a in here[:-1]]:
        flat = [0] * (2 * len(amounts))
        for a in axes:
            flat[a], flat[a + len(amounts)] = int(amounts[a][0]), int(amounts[a][1])  # type: ignore[arg-type]
        inputs = [source, edit.const(flat, f"{source.name}.pads"), *node.inputs[2:3]]
        mode = node.attributes.get_string("mode", "constant")
        source = edit.before(node, "Pad", inputs, f"{source.name}.pad", {"mode": mode})
        count = 1
    if not here:
        return 0
    (axis,) = here[-1:]
    before, after = amounts[axis]
    crop_front = isinstance(before, int) and before < 0
    crop_back = isinstance(after, int) and after < 0
    if crop_front or crop_back:
        bounds = [
            [-before if crop_front else 0],  # type: ignore[operator]
            [after if crop_back else END],
            [axis],
        ]
        source = edit.before(
            node, "Slice", [source, *(edit.const(b, f"{source.name}.crop") for b in bounds)], f"{source.name}.crop", None
        )
        before, after = (0 if crop_front else before), (0 if crop_back else after)
        count = 1
    if (before, after) == (0, 0):
        if not edit.bypass(node, source):
            edit.become(node, "Identity", [source])
        return 1
    if count:
        node.replace_input_with(0, source)
        node.replace_input_with(1, _time_amounts(edit, node, axis, before, after))
        node.resize_inputs(max(len(node.inputs), 3))
        if len(node.inputs) == 3 or node.inputs[3] is None:
            node.resize_inputs(3)
        infer_node(g, node)
    return count


def _time_amounts(edit: Editor, node: ir.Node, axis: int, before: DimLike, after: DimLike) -> ir.Value:
    """The pad amounts of a node with only those of one axis left, in the order of its axes input."""
    n = view(edit.g, node, outputs=True)
    rank = len(n.shape(0))
    axes = [a % rank for a in n.const_ints(3) or range(rank)]
    at = axes.index(axis)
    pads = node.inputs[1]
    assert pads is not None
    if not isinstance(before, Dim) and not isinstance(after, Dim):
        flat = [0] * (2 * len(axes))
        flat[at], flat[at + len(axes)] = int(before), int(after)
        return edit.const(flat, f"{pads.name}.time")
    keep = [int(i == at and before != 0) for i in range(len(axes))] + [int(i == at and after != 0) for i in range(len(axes))]
    return edit.before(node, "Mul", [pads, edit.const(keep, "keep")], f"{pads.name}.time", None)


def _slice(edit: Editor, node: ir.Node) -> int:
    g = edit.g
    n = view(g, node, outputs=True)
    time = n.streaming(0)
    rank = len(n.shape(0))
    starts, ends = n.ints(1), n.ints(2)
    assert starts is not None and ends is not None
    axes = [a % rank for a in n.const_ints(3) or range(len(starts))]
    steps = n.const_ints(4) or (1,) * len(axes)
    if not (set(axes) & set(time)) or len(axes) < 2:
        return 0
    source = node.inputs[0]
    assert source is not None

    def bounds(i: int, source: ir.Value) -> list[ir.Value]:
        cut = [_element(edit, node, k, i, v[i]) for k, v in ((1, starts), (2, ends))]
        last = [] if steps[i] == 1 else [edit.const([steps[i]], f"{source.name}.cut")]
        return [source, *cut, edit.const([axes[i]], f"{source.name}.cut"), *last]

    # Other axes first: the fewer elements arrive at a buffer, the smaller it is.
    order = sorted(range(len(axes)), key=lambda i: axes[i] in time)
    for i in order[:-1]:
        source = edit.before(node, "Slice", bounds(i, source), f"{source.name}.cut", None)
    edit.become(node, "Slice", bounds(order[-1], source))
    infer_node(g, node)
    return 1


def _element(edit: Editor, node: ir.Node, k: int, i: int, value: DimLike) -> ir.Value:
    """Element i of the node's integer input k, as a vector of its own."""
    if not isinstance(value, Dim):
        return edit.const([int(value)], f"{node.name}.cut")
    whole = node.inputs[k]
    assert whole is not None
    return edit.before(node, "Gather", [whole, edit.const([i])], f"{whole.name}.{i}", None)
