"""What garbage frames hold is no index: indices are kept in range.

Frames before the first and after the last hold anything: filler, casts of NaN. Most operators make garbage of
garbage; a lookup by an index out of range stops the program. So an index into n entries becomes
``Clip(index, -n, n - 1)``, each number of a tuple of indices by its own axis. Every frame of the stream passes through
unchanged: there the batch model would stop too. Frames that a buffer starts with are 0, an index of anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.ops._infer import infer_node, view
from pulsify.ops._rule import NodeView
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    count = 0
    for node in list(g.graph):
        if node.domain:
            continue
        if node.op_type in _BOUNDS and g.time_axes(node.inputs[1]):
            n = view(g, node, outputs=True)
            bounds = _BOUNDS[node.op_type](n)
            if bounds is not None and all(isinstance(d, int) for d in bounds):
                count += _index(edit, node, [int(d) for d in bounds])  # type: ignore[call-overload]
    return count


def _axis(n: NodeView) -> Sequence[object]:
    return [n.shape(0)[n.axis(n.attr("axis", 0), len(n.shape(0)))]]


def _tuple(n: NodeView) -> Sequence[object] | None:
    shared, depth = n.attr("batch_dims", 0), n.shape(1)[-1]
    return n.shape(0)[shared : shared + depth] if isinstance(depth, int) else None


_BOUNDS = {
    "Gather": _axis, "GatherElements": _axis, "ScatterElements": _axis, "GatherND": _tuple, "ScatterND": _tuple,
}  # fmt: skip


def _index(edit: Editor, node: ir.Node, sizes: list[int]) -> int:
    """Keep input 1 in range."""
    source = node.inputs[1]
    assert source is not None
    fact = edit.g.facts[source]
    if _within(edit.g, source, sizes):
        return 0
    kind = fact.dtype.numpy()
    if len(set(sizes)) == 1:
        bounds = [edit.const(v, "bound", kind) for v in (-sizes[0], sizes[0] - 1)]
        safe = edit.before(node, "Clip", [source, *bounds], f"{source.name}.index", None)
    else:
        low, high = (edit.const(v, "bound", kind) for v in (-np.asarray(sizes), np.asarray(sizes) - 1))
        safe = edit.before(node, "Max", [source, low], f"{source.name}.low", None)
        safe = edit.before(node, "Min", [safe, high], f"{source.name}.index", None)
    node.replace_input_with(1, safe)
    infer_node(edit.g, node)
    return 1


def _within(g: Graph, source: ir.Value, sizes: list[int]) -> bool:
    """Whether every index is in range by construction: the place of an extreme."""
    maker = source.producer()
    if maker is None or maker.op_type not in ("ArgMax", "ArgMin") or maker.domain or len(sizes) != 1:
        return False
    shape = g.facts[maker.inputs[0]].shape  # type: ignore[index]
    size = None if shape is None else shape[maker.attributes.get_int("axis", 0)]
    return isinstance(size, int) and size <= sizes[0]
