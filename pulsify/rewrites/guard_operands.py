"""What garbage frames hold is no index: indices, and lengths of sequences, are kept in range.

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
        if node.domain or node.op_type not in _SIZES or not g.time_axes(_guarded(node)):
            continue
        sizes = _SIZES[node.op_type](view(g, node, outputs=True))
        if all(isinstance(d, int) for d in sizes):
            count += _guard(edit, node, np.asarray(sizes, dtype=np.int64))
    return count


def _guarded(node: ir.Node) -> ir.Value | None:
    """The input that chooses."""
    return node.inputs[k] if (k := _INPUT.get(node.op_type, 1)) < len(node.inputs) else None


def _axis(n: NodeView) -> Sequence[object]:
    return [n.shape(0)[n.axis(n.attr("axis", 0), len(n.shape(0)))]]


def _tuple(n: NodeView) -> Sequence[object]:
    shared, depth = n.attr("batch_dims", 0), n.shape(1)[-1]
    return n.shape(0)[shared : shared + depth] if isinstance(depth, int) else [depth]


def _length(n: NodeView) -> Sequence[object]:
    return [n.shape(0)[n.axis(n.attr("time_axis", 0), len(n.shape(0)))]]


def _steps(n: NodeView) -> Sequence[object]:
    return [n.shape(0)[1 if n.attr("layout", 0) else 0]]


#: Operator -> the entries that each number of the guarded input chooses among.
_SIZES = {
    "Gather": _axis, "GatherElements": _axis, "ScatterElements": _axis, "GatherND": _tuple, "ScatterND": _tuple,
    "ReverseSequence": _length, "GRU": _steps, "LSTM": _steps, "RNN": _steps,
}  # fmt: skip
_INDEXED = ("Gather", "GatherElements", "ScatterElements", "GatherND", "ScatterND")
#: Where that is another input than the second.
_INPUT = {"GRU": 4, "LSTM": 4, "RNN": 4}


def _guard(edit: Editor, node: ir.Node, sizes: np.ndarray) -> int:
    """Keep the guarded input in range: an index in [-n, n), a length in [0, n]."""
    source = _guarded(node)
    assert source is not None
    if _within(edit.g, source, sizes):
        return 0
    low, high = (-sizes, sizes - 1) if node.op_type in _INDEXED else (np.zeros_like(sizes), sizes)
    kind = edit.g.facts[source].dtype.numpy()
    if len(set(sizes.tolist())) == 1:
        bounds = [edit.const(v[0], "bound", kind) for v in (low, high)]
        safe = edit.before(node, "Clip", [source, *bounds], f"{source.name}.index", None)
    else:
        safe = edit.before(node, "Max", [source, edit.const(low, "bound", kind)], f"{source.name}.low", None)
        safe = edit.before(node, "Min", [safe, edit.const(high, "bound", kind)], f"{source.name}.index", None)
    node.replace_input_with(_INPUT.get(node.op_type, 1), safe)
    infer_node(edit.g, node)
    return 1


def _within(g: Graph, source: ir.Value, sizes: np.ndarray) -> bool:
    """Whether every index is in range by construction: the place of an extreme."""
    maker = source.producer()
    if maker is None or maker.op_type not in ("ArgMax", "ArgMin") or maker.domain or len(sizes) != 1:
        return False
    shape = g.facts[maker.inputs[0]].shape  # type: ignore[index]
    size = None if shape is None else shape[maker.attributes.get_int("axis", 0)]
    return isinstance(size, int) and size <= int(sizes[0])
