"""A sum of convolutions of kernel 1 is one convolution: ``sum_i W_i x_i + b_i = [W_1 W_2 ..] concat(x_1, x_2, ..) + sum_i b_i``.

What sums_of_products.py does for products of rows, for those that stay convolutions (or have become ones over pictures,
lift_convs.py): the skip connections of a gated network are one Concat over channels and one convolution in place of
``2*m - 1`` nodes. Constants per channel in the sum are its bias; what else is in it is added to the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from pulsify.facts import WireFact
from pulsify.graph import Graph
from pulsify.rewrites import lift_convs
from pulsify.rewrites._rows import Rows, each
from pulsify.rewrites._summands import summands

__all__ = ["apply"]


#: A runtime adds one wire within a blocked convolution: of two terms nothing is gained.
_TERMS = 3


@dataclass(frozen=True, slots=True)
class _Term:
    """One convolution of a sum: its input, weights ``[M, C, 1, ..]``, and bias ``[M]``."""

    node: ir.Node
    x: ir.Value
    weight: np.ndarray
    bias: np.ndarray | None


def apply(g: Graph) -> int:
    return each(g, ("Add", "Sum"), _merge, backwards=True)


def _merge(rows: Rows, top: ir.Node) -> bool:
    g, out = rows.g, top.outputs[0]
    if out not in g.facts or g.facts[out].shape is None:
        return False
    terms, others, inner = summands(top, _term, lambda v: _alone(v) and _same(g, v, out))
    if len(terms) < _TERMS:
        return False
    biases = [b for t in terms if (b := t.bias) is not None]
    rest: list[ir.Value] = []
    for v in others:
        constant = _per_channel(v, terms[0].weight)
        if constant is None:
            rest.append(v)
        else:
            biases.append(constant)
    stem = out.name or "sum"
    weight = np.concatenate([t.weight for t in terms], axis=1)
    (joined,) = rows.node("Concat", [t.x for t in terms], f"{stem}.terms", axis=1)
    _declare(g, joined, out, weight.shape[1])
    operands = [joined, rows.weight(weight, f"{stem}.weight")]
    if biases:
        operands.append(rows.weight(np.sum(biases, axis=0, dtype=np.float64).astype(weight.dtype), f"{stem}.bias"))
    (made,) = rows.node("Conv", operands, stem)
    if any(lift_convs.intended(t.node) for t in terms):
        lift_convs.intend([n for n in [made.producer()] if n is not None])
    for v in rest:
        _declare(g, made, out, weight.shape[0])
        (made,) = rows.node("Add", [made, v], f"{stem}.plus")
    made.type, made.shape = out.type, out.shape
    rows.replace(out, made)
    for node in [top, *inner, *(t.node for t in terms)]:
        for v in node.outputs:
            g.forget(v)
        g.graph.remove(node, safe=True)
    return True


def _declare(g: Graph, wire: ir.Value, like: ir.Value, channels: int) -> None:
    """A wire holds as many frames as another one, of this many channels."""
    fact, chunk = g.facts[like], g.chunks[like]
    assert fact.shape is not None
    wire.type = ir.TensorType(fact.dtype)
    g.facts[wire] = WireFact(fact.dtype, (fact.shape[0], channels, *fact.shape[2:]))
    g.chunks[wire] = (chunk[0], channels, *chunk[2:])
    if like in g.regions:
        g.regions[wire] = g.regions[like]


def _alone(v: ir.Value) -> bool:
    return len(v.uses()) == 1 and not v.is_graph_output()


def _same(g: Graph, v: ir.Value, out: ir.Value) -> bool:
    """Whether two wires hold frames of one shape, and as many per pulse."""
    a, b = g.facts.get(v), g.facts.get(out)
    return a is not None and b is not None and a.dtype == b.dtype and v in g.chunks and g.chunks[v] == g.chunks.get(out)


def _term(v: ir.Value) -> _Term | None:
    """A convolution of one pixel with constant weights, as a term."""
    node = v.producer()
    if node is None or node.op_type != "Conv" or node.domain or node.attributes.get_int("group", 1) != 1:
        return None
    x, w, *rest = node.inputs
    bias = rest[0] if rest else None
    if x is None or w is None or w.const_value is None or (bias is not None and bias.const_value is None):
        return None
    weight = np.asarray(w.const_value.numpy())
    moves = [*node.attributes.get_ints("strides", ()), *(1 + p for p in node.attributes.get_ints("pads", ()))]
    padded = node.attributes.get_string("auto_pad", "NOTSET")
    if prod(weight.shape[2:]) != 1 or any(k != 1 for k in moves) or padded not in ("NOTSET", "VALID"):
        return None
    return _Term(node, x, weight, None if bias is None else np.asarray(bias.const_value.numpy()))  # type: ignore[union-attr]


def _per_channel(v: ir.Value, weight: np.ndarray) -> np.ndarray | None:
    """A constant summand that is the same for every frame, as a bias."""
    if v.const_value is None:
        return None
    a = np.asarray(v.const_value.numpy())
    shape = (*(1 for _ in range(a.ndim)),) if a.size == 1 else (weight.shape[0], *(1 for _ in weight.shape[2:]))
    if a.ndim > weight.ndim or a.shape not in (shape, (1, *shape)):
        return None
    return np.broadcast_to(a.reshape(-1), (weight.shape[0],))
