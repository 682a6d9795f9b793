"""A Split along time becomes a Slice for each part that is read."""

from __future__ import annotations

import onnx_ir as ir

from pulsify.dim import DimLike
from pulsify.graph import Graph
from pulsify.ops._infer import view
from pulsify.ops._rule import find
from pulsify.ops.concat import Split
from pulsify.rewrites._edit import Editor
from pulsify.rewrites.fix_shapes import END

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    return sum(_slices(edit, node) for node in list(g.graph) if node.op_type == "Split" and not node.domain)


def _slices(edit: Editor, node: ir.Node) -> int:
    rule, n = find("", "Split"), view(edit.g, node, outputs=True)
    assert isinstance(rule, Split)
    axis = rule.axis_of(n)
    if axis not in n.streaming(0):
        return 0
    length = n.shape(0)[axis]
    at: DimLike = 0
    bounds = []
    for size in rule.sizes(n):
        bounds.append((_bound(at, length), _bound(at + size, length)))
        at = at + size
    live = [(v, b) for v, b in zip(node.outputs, bounds, strict=True) if v.uses() or v.is_graph_output()]
    if any(b is None for _, pair in live for b in pair):
        return 0  # counted from neither end: the rule refuses it
    for value, (start, end) in live:
        inputs = [node.inputs[0], *(edit.const([b], f"{value.name}.bound") for b in (start, end, axis))]
        part = edit.before(node, "Slice", inputs, f"{value.name}.part", None)
        value.replace_all_uses_with(part, replace_graph_outputs=True)
        value.name, part.name = part.name, value.name
    edit.forget(node)
    return 1


def _bound(at: DimLike, length: DimLike) -> int | None:
    """A position as a constant bound of a Slice."""
    if at == length:
        return END
    if isinstance(at, int):
        return at
    rest = at - length
    return rest if isinstance(rest, int) and rest < 0 else None
