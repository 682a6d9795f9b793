"""A product whose channels are taken apart is a product for each part: ``split(W x + b) = (W1 x + b1, W2 x + b2)``.

Gated layers compute both sides in one convolution, take them apart, and apply an activation to one or to both; others compute
what goes on and what goes to the output together, and add each to what there is. As products of their own nothing is copied, a
runtime does the activations within them, sums become part of them (sums_of_products.py), and blocked convolutions stay blocked
in between.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites._affine import bias_of, made_axis, weight_of
from pulsify.rewrites._costs import BLOCK, HALF_BLOCK
from pulsify.rewrites._row_form import ACTIVATIONS, array, attributes, reader
from pulsify.rewrites._rows import Rows, each

__all__ = ["apply"]

#: Numbers, channels times windows, from which on it does not pay for sums alone.
_SUMMED = 8192

#: Windows up to which a convolution without blocks may be taken apart.
_WINDOWS = 32


def apply(g: Graph) -> int:
    return each(g, ("Conv", "Gemm", "MatMul"), _rewrite)


@dataclass(frozen=True, slots=True)
class _Part:
    """A wire that holds some of the channels of another, who makes it, and which."""

    wire: ir.Value
    node: ir.Node
    channels: slice


def _rewrite(rows: Rows, node: ir.Node) -> bool:
    g, weight, shape = rows.g, weight_of(node), rows.g.facts[node.outputs[0]].shape
    if weight is None or shape is None or node.attributes.get_int("group", 1) != 1:
        return False
    channels = weight.shape[made_axis(node)]
    bias = bias_of(g, node, channels)
    if bias is None and not (node.op_type == "MatMul" and len(node.inputs) == 2):
        return False
    last = node if bias is None else bias.node
    parts = _parts(g, last.outputs[0], 1 if node.op_type == "Conv" else len(shape) - 1, len(shape), channels)
    if parts is None or not _pays(g, node, weight, parts):
        return False
    for p in parts:
        if p.wire.uses() or p.wire.is_graph_output():
            _apart(rows, node, weight, None if bias is None else bias.values, last, p)
    for gone in dict.fromkeys((*(p.node for p in parts), last, node)):
        for v in gone.outputs:
            g.forget(v)
        g.graph.remove(gone, safe=True)
    return True


def _parts(g: Graph, source: ir.Value, axis: int, rank: int, channels: int) -> list[_Part] | None:
    """What the readers of a wire take of it, if each takes some of its channels and all do not take more than there are."""
    parts: list[_Part] = []
    for node, k in source.uses():
        if k or node.domain or source.is_graph_output():
            return None
        if node.op_type == "Split" and node.attributes.get_int("axis", 0) % rank == axis:
            at = 0
            for v in node.outputs:
                size = (g.facts[v].shape or (None,) * rank)[axis]
                if not isinstance(size, int):
                    return None
                parts.append(_Part(v, node, slice(at, at + size)))
                at += size
        elif node.op_type == "Slice" and (taken := _taken(node, axis, rank, channels)) is not None:
            parts.append(_Part(node.outputs[0], node, taken))
        else:
            return None
    return parts if parts and sum(p.channels.stop - p.channels.start for p in parts) <= channels else None


def _taken(node: ir.Node, axis: int, rank: int, channels: int) -> slice | None:
    bounds = [array(v) for v in node.inputs[1:]]
    if len(bounds) < 3 or any(b is None or b.size != 1 for b in bounds):
        return None
    first, last, over, *step = (int(b.item()) for b in bounds if b is not None)
    start, stop, _ = slice(first, last).indices(channels)
    return slice(start, stop) if over % rank == axis and step in ([], [1]) and start < stop else None


def _pays(g: Graph, node: ir.Node, weight: np.ndarray, parts: list[_Part]) -> bool:
    """Whether products apart take no longer. With a pulse of dynamic size biases and activations are nodes of their own in any
    case. A convolution that has no blocks lays out its windows for each part, which costs more than it saves where there are many
    of them."""
    v, readers = node.outputs[0], {n.op_type for p in parts if (n := reader(p.wire)) is not None}
    chunk = g.chunks.get(v)
    if g.pulse is None or not isinstance(g.pulse.size, int) or chunk is None:
        return False
    conv = node.op_type == "Conv"
    windows, into = prod(d for d in (chunk[2:] if conv else chunk[:-1]) if isinstance(d, int)), weight.shape[1 - made_axis(node)]
    if not readers & set(ACTIVATIONS) and not (readers & {"Add", "Sum"} and windows * into < _SUMMED):
        return False
    blocked = not into % HALF_BLOCK and not any((p.channels.stop - p.channels.start) % BLOCK for p in parts)
    return not conv or blocked or windows < _WINDOWS


def _apart(rows: Rows, node: ir.Node, weight: np.ndarray, bias: np.ndarray | None, last: ir.Node, p: _Part) -> None:
    """The product of these channels alone."""
    name = p.wire.name or "part"
    w = rows.weight(weight[p.channels] if made_axis(node) == 0 else weight[:, p.channels], f"{name}.weight")
    b = [] if bias is None else [rows.weight(bias[p.channels].astype(weight.dtype), f"{name}.bias")]
    (made,) = rows.node(node.op_type, [node.inputs[0], w, *(b if last is node else [])], name, **attributes(node))
    if last is not node:
        rows._loose(made, p.wire)
        (made,) = rows.node("Add", [made, *b], name)
    rows.replace(p.wire, made)
