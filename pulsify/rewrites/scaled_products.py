"""A scale and a shift per channel behind a product, within it: ``s*(W x + b) + t = (s*W) x + (s*b + t)``.

Batch normalisation by running statistics (``s = scale / sqrt(variance + epsilon)``, ``t = bias - s*mean``), the factor of a
layer (``0.5*f(x)``, or one per channel) and a constant added are such. A runtime does so by itself where it still finds a
convolution; behind products of rows (frame_rows.py) it does not. What moves axes on the way is passed over where both sides
hold the same frames and channels in the same order (_rows.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites._affine import AFFINE, affine, made_axis, per_channel, weight_of
from pulsify.rewrites._row_form import array, lone
from pulsify.rewrites._row_ops import is_mover
from pulsify.rewrites._rows import Rows, each, row_view

__all__ = ["apply"]


def apply(g: Graph) -> int:
    return each(g, AFFINE, _rewrite)


@dataclass(frozen=True, slots=True)
class _Product:
    """A product with a constant weight: the axis of the channels it makes, its bias per channel, and the node and the input
    that add it (of the sum behind a MatMul; None where there is none)."""

    node: ir.Node
    weight: np.ndarray
    axis: int | None
    bias: np.ndarray
    adds: tuple[ir.Node, int] | None


def _rewrite(rows: Rows, node: ir.Node) -> bool:
    g, out = rows.g, node.outputs[0]
    shape = g.facts[out].shape
    found = None if shape is None else affine(node, len(shape))
    product = None if found is None else _behind(g, found.source)
    if found is None or product is None or found.axis not in (None, product.axis):
        return False
    channels, before = product.bias.size, g.facts[found.source].shape
    if {found.scale.size, found.shift.size} - {1, channels} or before is None or len(before) != len(shape or ()):
        return False
    if product.adds is None and found.shift.any():
        return False
    _change(rows, product, np.broadcast_to(found.scale, channels), found.shift)
    rows.replace(out, found.source)
    g.graph.remove(node, safe=True)
    return True


def _change(rows: Rows, p: _Product, scale: np.ndarray, shift: np.ndarray) -> None:
    name, dtype = p.node.outputs[0].name, p.weight.dtype
    if (scale != 1).any():
        p.node.replace_input_with(1, rows.weight((p.weight * _factors(p, scale)).astype(dtype), f"{name}.weight"))
    bias = scale * p.bias + shift
    if p.adds is not None and (bias != p.bias).any():
        adds, k = p.adds
        adds.resize_inputs(max(k + 1, len(adds.inputs)))
        adds.replace_input_with(k, rows.weight(bias.astype(dtype), f"{name}.bias"))


def _factors(p: _Product, scale: np.ndarray) -> np.ndarray:
    """What the weight is multiplied with, element by element."""
    rank, a = p.weight.ndim, p.node.attributes
    if p.node.op_type == "Conv":
        return scale.reshape(-1, *[1] * (rank - 1))
    if p.node.op_type == "ConvTranspose":
        group = a.get_int("group", 1)
        return np.repeat(scale.reshape(group, -1), p.weight.shape[0] // group, axis=0).reshape(*p.weight.shape[:2], *[1] * (rank - 2))
    return scale if made_axis(p.node) else scale[:, None]


def _behind(g: Graph, v: ir.Value) -> _Product | None:
    """The product that a wire is, but for the place of its axes, and that nobody else reads."""
    made, node = v, lone(v)
    while node is not None and is_mover(g, node) and node.inputs[0] is not None:
        made = node.inputs[0]
        node = lone(made)
    product = None if node is None else _product(g, node)
    if product is None or made is v:
        return product
    before, after = row_view(g, made), row_view(g, v)
    if before is None or after is None or before.channel not in (None, product.axis):
        return None
    return replace(product, axis=after.channel)


def _product(g: Graph, node: ir.Node) -> _Product | None:
    """A product, or a MatMul and the constant behind it."""
    adds: tuple[ir.Node, int] | None = (node, 2)
    if node.op_type in ("Add", "MatMul"):
        adds = next(((node, k) for k, v in enumerate(node.inputs) if node.op_type == "Add" and array(v) is not None), None)
        inner = node if adds is None else lone(node.inputs[1 - adds[1]])
        if inner is None or inner.op_type != "MatMul":
            return None
        node = inner
    weight, shape = weight_of(node), g.facts[node.outputs[0]].shape
    if weight is None or shape is None:
        return None
    a, axis = node.attributes, 1 if node.op_type.startswith("Conv") else len(shape) - 1
    if node.op_type == "ConvTranspose":
        channels = weight.shape[1] * a.get_int("group", 1)
    else:
        channels = weight.shape[made_axis(node)]
    given = None if adds is None or adds[1] >= len(adds[0].inputs) else adds[0].inputs[adds[1]]
    if given is None:
        return _Product(node, weight, axis, np.zeros(channels), adds)
    constant = array(given)
    at, rank = (0, 1) if node.op_type.startswith("Conv") else (len(shape) - 1, len(shape))
    bias = None if constant is None else per_channel(constant, at, rank, channels)
    return None if bias is None else _Product(node, weight, axis, bias, adds)
