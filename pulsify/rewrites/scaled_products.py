"""A scale and a shift per channel behind a product, within it: ``s*(W x + b) + t = (s*W) x + (s*b + t)``.

Batch normalisation by running statistics (``s = scale / sqrt(variance + epsilon)``, ``t = bias - s*mean``), the factor of a
layer (``0.5*f(x)``, or one per channel) and a constant added are such. A runtime does so by itself where it still finds a
convolution; behind products of rows (frame_rows.py) it does not. What moves axes on the way is passed over where both sides
hold the same frames and channels in the same order (_rows.py), and by positive scales what keeps them, ``f(s*x) = s*f(x)``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites._affine import (
    AFFINE,
    HOMOGENEOUS,
    Affine,
    Bias,
    affine,
    bias_of,
    finite,
    made_axis,
same_shape,
    spread,
    weight_of,
    width,
)
from pulsify.rewrites._row_form import lone
from pulsify.rewrites._row_ops import is_mover
from pulsify.rewrites._rows import Rows, each, row_view

__all__ = ["apply"]


def apply(g: Graph) -> int:
    return each(g, AFFINE, _rewrite)


@dataclass(frozen=True, slots=True)
class _Product:
    """A product with a constant weight: how many channels it makes, along which axis of the wire that is scaled, and its bias
    (None where there is no room for one)."""

    node: ir.Node
    weight: np.ndarray
    channels: int
    axis: int | None
    bias: Bias | None


def _rewrite(rows: Rows, node: ir.Node) -> bool:
    g, out = rows.g, node.outputs[0]
    shape = g.facts[out].shape
    found = None if shape is None else affine(node, len(shape))
    product = None if found is None or not same_shape(g, found.source, out) else _behind(g, found)
    if found is None or product is None or found.axis not in (None, product.axis):
        return False
    if {found.scale.size, found.shift.size} - {1, product.channels} or (product.bias is None and found.shift.any()):
        return False
    if not _change(rows, product, found.scale, found.shift):
        return False
    rows.replace(out, found.source)
    g.graph.remove(node, safe=True)
    return True


def _change(rows: Rows, p: _Product, scale: np.ndarray, shift: np.ndarray) -> bool:
    """Whether scale and shift are within a product now: not where what it then holds is not finite."""
    name, dtype = p.node.outputs[0].name, p.weight.dtype
    bias = None if p.bias is None else scale * p.bias.values + shift
    if not finite(dtype, p.weight, scale) or (bias is not None and not finite(dtype, bias)):
        return False
    if (scale != 1).any():
        made = p.weight * spread(p.node, p.weight, scale, made_axis(p.node))
        p.node.replace_input_with(1, rows.weight(made.astype(dtype), f"{name}.weight"))
    if p.bias is not None and bias is not None and (bias != p.bias.values).any():
        p.bias.write(rows.weight(bias.astype(dtype), f"{name}.bias"))
    return True


def _behind(g: Graph, a: Affine) -> _Product | None:
    """The product that what is scaled is, but for the place of its axes and an activation, and that nobody else reads."""
    made, node, moved = a.source, lone(a.source), False
    passed = HOMOGENEOUS if (a.scale > 0).all() and not a.shift.any() else ()
    while node is not None and node.inputs[0] is not None and (node.op_type in passed or is_mover(g, node)):
        moved |= node.op_type not in passed
        made = node.inputs[0]
        node = lone(made)
    product = None if node is None else _product(g, node)
    if product is None or not moved:
        return product
    before, after = row_view(g, made), row_view(g, a.source)
    if before is None or after is None or before.channel not in (None, product.axis):
        return None
    return replace(product, axis=after.channel)


def _product(g: Graph, node: ir.Node) -> _Product | None:
    """A product, or a MatMul and the constant behind it. A MatMul alone has no room for a bias."""
    alone = node.op_type == "MatMul"
    if node.op_type == "Add":
        node = next((n for v in node.inputs if (n := lone(v)) is not None and n.op_type == "MatMul"), node)
    weight, shape = weight_of(node), g.facts[node.outputs[0]].shape
    if weight is None or shape is None:
        return None
    channels = width(node, weight, made_axis(node))
    bias = None if alone else bias_of(g, node, channels)
    if bias is None and not alone:
        return None
    return _Product(node, weight, channels, 1 if node.op_type.startswith("Conv") else len(shape) - 1, bias)
