"""Frames of one constant value joined to a stream along time become padding, which costs a mask at most."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim
from pulsify.facts import Fill
from pulsify.graph import Graph
from pulsify.ops._infer import infer_node
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    return sum(_pads(edit, node) for node in list(g.graph) if node.op_type == "Concat" and not node.domain)


def _pads(edit: Editor, node: ir.Node) -> int:
    g = edit.g
    fact = g.facts[node.outputs[0]]
    if not fact.time_axes(g.symbol):
        return 0
    rank = fact.rank
    axis = node.attributes.get_int("axis") % rank
    streams = [k for k, v in enumerate(node.inputs) if axis in g.time_axes(v)]
    if len(streams) != 1 or any(v is None for v in node.inputs):
        return 0
    wires = [v for v in node.inputs if v is not None]
    k = streams[0]
    pads, beside = [], {0: wires[:k], rank: wires[k + 1 :]}
    for where, group in beside.items():
        fill, count = _fill(g, group), _frames(g, group, axis)
        if fill is not None and count:
            amounts = [0] * (2 * rank)
            amounts[axis + where] = count
            pads.append((amounts, fill))
            beside[where] = []
    wires = [*beside[0], wires[k], *beside[rank]]
    if not pads:
        return 0
    stem, dtype = node.outputs[0].name, g.facts[node.outputs[0]].dtype.numpy()
    source = wires[0]
    if len(wires) > 1:
        source = edit.before(node, "Concat", wires, f"{stem}.joined", {"axis": axis})
    for i, (amounts, fill) in enumerate(pads):
        inputs = [source, edit.const(amounts, f"{stem}.pads"), edit.const(fill, f"{stem}.fill", dtype)]
        if i < len(pads) - 1:
            source = edit.before(node, "Pad", inputs, f"{stem}.padded", None)
        else:
            edit.become(node, "Pad", inputs)
            infer_node(g, node)
    return 1


def _frames(g: Graph, group: list[ir.Value], axis: int) -> int:
    sizes = [g.facts[v].shape[axis] for v in group]  # type: ignore[index]
    return sum(int(d) for d in sizes) if all(isinstance(d, int) for d in sizes) else 0


def _fill(g: Graph, group: list[ir.Value]) -> object:
    """The one value of all frames, or None."""
    values = []
    for v in group:
        fact = g.facts[v]
        if isinstance(fact.value, Fill) and not isinstance(fact.value.value, Dim):
            values.append(fact.value.value)
            continue
        maker = v.producer()
        whole = maker.inputs[0] if maker is not None and maker.op_type == "Expand" and not maker.domain else v
        array = g.facts[whole].array() if whole is not None else None
        if array is None or array.size == 0 or not np.array_equal(array, np.full_like(array, array.flat[0])):
            return None
        values.append(array.flat[0])
    return values[0] if values and all(v == values[0] for v in values) else None
