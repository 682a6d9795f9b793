"""Nodes that scale and shift, ``s*x + t`` with constants per channel, and the constants of products beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites._row_form import array, reader

__all__ = ["AFFINE", "HOMOGENEOUS", "Affine", "Bias", "affine", "bias_of", "finite", "known", "made_axis", "same_shape", "spread", "weight_of", "width"]

#: Operators that scale and shift if all their inputs but one are constants.
AFFINE = ("BatchNormalization", "Mul", "Div", "Add", "Sub", "Neg")

#: ``f(s*x) = s*f(x)`` for positive s.
HOMOGENEOUS = ("Abs", "LeakyRelu", "PRelu", "Relu")

#: Elements of a weight at most.
_LARGEST = 1 << 24


@dataclass(frozen=True, slots=True)
class Affine:
    """``s`` and ``t`` of ``s*x + t``, each one number for all or one per index of an axis of x (None where both are one)."""

    source: ir.Value
    scale: np.ndarray
    shift: np.ndarray
    axis: int | None


def affine(node: ir.Node, rank: int) -> Affine | None:
    """What a node scales and shifts, and how; None if it does something else. ``rank`` is that of the wire it makes."""
    k = next((k for k, v in enumerate(node.inputs) if v is not None and v.const_value is None), 0)
    source, one, zero = node.inputs[k], np.ones(1), np.zeros(1)
    if source is None or node.op_type not in AFFINE or node.domain:
        return None
    if node.op_type == "Neg":
        return Affine(source, -one, zero, None)
    if node.op_type == "BatchNormalization":
        given = [array(v) for v in node.inputs[1:]]
        if k or any(a is None for a in given):
            return None
        gain, bias, mean, variance = (np.asarray(a, np.float64) for a in given)
        scale = gain / np.sqrt(variance + node.attributes.get_float("epsilon", 1e-5))
        return _within(Affine(source, scale, bias - scale * mean, 1), given[0].dtype)  # type: ignore[union-attr]
    constant = array(node.inputs[1 - k])
    found = None if constant is None else _vector(constant, rank)
    if found is None or (node.op_type == "Div" and (k or not found[0].all())):
        return None
    c, axis = found
    sign = -one if node.op_type == "Sub" and k else one
    scale, shift = {"Mul": (c, zero), "Div": (one / np.where(c, c, 1), zero), "Add": (one, c), "Sub": (sign, -sign * c)}[node.op_type]
    return _within(Affine(source, scale, shift, axis), constant.dtype)  # type: ignore[union-attr]


def finite(dtype: np.dtype, *factors: np.ndarray) -> bool:
    """Whether a product of any numbers of each is finite in a type."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.prod([np.abs(f).max(initial=0).astype(np.float64) for f in factors]) <= np.finfo(dtype).max)


def same_shape(g: Graph, a: ir.Value, b: ir.Value) -> bool:
    """Whether two wires have the same axes, in every pulse: that a constant has not made one of them longer."""
    if a in g.chunks and b in g.chunks:
        return g.chunks[a] == g.chunks[b]
    return g.facts[a].shape is not None and g.facts[a].shape == g.facts[b].shape


def _within(a: Affine, dtype: np.dtype) -> Affine | None:
    """What scales and shifts by numbers of a type: finite in it, and no scale but 0 too small for its full precision."""
    if np.dtype(dtype).kind != "f" or not finite(dtype, a.scale) or not finite(dtype, a.shift):
        return None
    return a if (np.abs(a.scale[a.scale != 0]) >= np.finfo(dtype).tiny).all() else None


def _vector(a: np.ndarray, rank: int) -> tuple[np.ndarray, int | None] | None:
    """A constant that differs along one axis of that many at most: its numbers, and the axis."""
    longer = [k for k, d in enumerate(a.shape) if d != 1]
    if a.dtype not in (np.float32, np.float64) or a.ndim > rank or len(longer) > 1 or not a.size:
        return None
    return a.reshape(-1).astype(np.float64), rank - a.ndim + longer[0] if longer else None


def weight_of(node: ir.Node) -> np.ndarray | None:
    """The constant weight of a Conv, ConvTranspose, Gemm or MatMul that no other reads, if it may be written anew."""
    if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or node.domain or node.inputs[1] is None:
        return None
    weight, a = array(node.inputs[1]), node.attributes
    if weight is None or weight.dtype not in (np.float32, np.float64) or weight.size > _LARGEST or len(node.inputs[1].uses()) > 1:
        return None
    plain = a.get_float("alpha", 1.0) == a.get_float("beta", 1.0) == 1.0 and not a.get_int("transA", 0)
    return weight if plain and (node.op_type.startswith("Conv") or weight.ndim == 2) else None


def made_axis(node: ir.Node) -> int:
    """The axis of a product's weight along which lie the channels that it makes; of the first two, the other has those it reads."""
    return 0 if node.op_type == "Conv" or node.attributes.get_int("transB", False) else 1


def width(node: ir.Node, weight: np.ndarray, axis: int) -> int:
    """The channels along an axis of a product's weight; the second of a convolution's is within a group."""
    return int(weight.shape[axis]) * (_groups(node) if axis else 1)


def spread(node: ir.Node, weight: np.ndarray, by: np.ndarray, axis: int) -> np.ndarray:
    """A number per channel along an axis of a product's weight, or one for all, beside every element of the weight."""
    group, by = _groups(node), np.broadcast_to(by, width(node, weight, axis))
    if axis and group > 1:
        return np.repeat(by.reshape(group, -1), weight.shape[0] // group, axis=0).reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
    return by.reshape([-1 if a == axis else 1 for a in range(weight.ndim)])


def _groups(node: ir.Node) -> int:
    return node.attributes.get_int("group", 1)


def known(v: ir.Value) -> bool:
    """Whether a scale of this wire is part of what runtimes know as one: a normalisation, or an activation by an error function."""
    node = v.producer()
    while node is not None and node.op_type in AFFINE and any(array(u) is not None for u in node.inputs):
        streamed = next((u for u in node.inputs if array(u) is None), None)
        node = None if streamed is None else streamed.producer()
    if node is None or node.domain:
        return False
    if node.op_type == "Mul":
        sums = [p for u in node.inputs if u is not None and (p := u.producer()) is not None and p.op_type == "Add"]
        return any(u is not None and (p := u.producer()) is not None and p.op_type in ("Erf", "Tanh") for s in sums for u in s.inputs)
    return node.op_type == "Div"


@dataclass(frozen=True, slots=True)
class Bias:
    """What a product adds per channel, and the input of which node it is: its own, or that of a sum behind a MatMul."""

    node: ir.Node
    index: int
    values: np.ndarray

    def write(self, made: ir.Value) -> None:
        """Another bias in its place."""
        self.node.resize_inputs(max(self.index + 1, len(self.node.inputs)))
        self.node.replace_input_with(self.index, made)


def bias_of(g: Graph, node: ir.Node, channels: int) -> Bias | None:
    """The bias of a product with a constant weight, zeros where it has none; None if there is no room for one."""
    at, index, axis, rank = node, 2, 0, 1
    if node.op_type in ("Gemm", "MatMul"):
        rank = len(g.facts[node.outputs[0]].shape or ())
        axis = rank - 1
    if node.op_type == "MatMul":
        added = reader(node.outputs[0])
        if added is None or added.op_type != "Add" or all(array(v) is None for v in added.inputs):
            return None
        at, index = added, 1 - list(added.inputs).index(node.outputs[0])
    given = at.inputs[index] if index < len(at.inputs) else None
    if given is None:
        return Bias(node, index, np.zeros(channels))
    constant = array(given)
    found = None if constant is None else _vector(constant, rank)
    if found is None or found[1] not in (None, axis) or found[0].size not in (1, channels):
        return None
    return Bias(at, index, np.broadcast_to(found[0], channels))
