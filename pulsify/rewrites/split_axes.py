"""A Pad or Slice that moves time and other axes at once becomes one of each; a Pad that crops becomes a Slice."""

from __future__ import annotations

import onnx_ir as ir

from pulsify.dim import Dim
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
        elif node.op_type == "Slice" and len(node.inputs) > 3 and node.inputs[3] is not None:
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
        edit.bypass(node, source)
        return 1
    if count:
        flat = [0] * (2 * len(amounts))
        flat[axis], flat[axis + len(amounts)] = before, after  # type: ignore[call-overload]
        node.replace_input_with(0, source)
        if not any(isinstance(v, Dim) for v in flat):
            node.resize_inputs(3)
            node.replace_input_with(1, edit.const(flat, f"{source.name}.pads"))
        infer_node(g, node)
    return count


def _slice(edit: Editor, node: ir.Node) -> int:
    g = edit.g
    n = view(g, node, outputs=True)
    time = n.streaming(0)
    rank = len(n.shape(0))
    axes = [int(a) % rank for a in n.const_ints(3) or ()]
    if not (set(axes) & set(time)) or len(axes) < 2:
        return 0
    columns = [node.inputs[k] if k < len(node.inputs) else None for k in (1, 2, 4)]
    known = [None if v is None else g.facts[v].elems() for v in columns]
    if any(v is not None and e is None for v, e in zip(columns, known, strict=True)):
        return 0
    if any(isinstance(x, Dim) for e in known if e is not None for x in e.reshape(-1)):
        return 0
    source = node.inputs[0]
    assert source is not None
    # Other axes first: the fewer elements arrive at a buffer, the smaller it is.
    order = sorted(range(len(axes)), key=lambda i: axes[i] in time)
    for i in order[:-1]:
        source = edit.before(node, "Slice", _bounds(edit, source, known, axes, i), f"{source.name}.cut", None)
    last = _bounds(edit, source, known, axes, order[-1])
    node.resize_inputs(len(last))
    for k, v in enumerate(last):
        node.replace_input_with(k, v)
    infer_node(g, node)
    return 1


def _bounds(edit: Editor, source: ir.Value, known: list, axes: list[int], i: int) -> list[ir.Value]:  # type: ignore[type-arg]
    starts, ends, steps = known
    row = [starts.reshape(-1)[i], ends.reshape(-1)[i], axes[i], 1 if steps is None else steps.reshape(-1)[i]]
    if row[3] == 1:
        row = row[:3]
    return [source, *(edit.const([int(v)], f"{source.name}.cut") for v in row)]
