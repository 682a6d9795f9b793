"""A mask of zeros over finite frames is a product with 0 and 1, which costs half of a Where.

``where(valid, x, 0) = x * valid`` if and only if x is finite where it is not valid: before the start, after the end, whichever
the mask is about. What is sent after the end is not known to be, so the first mask of the end stays what it is. Before the
start there are only the zeros that states begin with. Both stay finite under operators that neither divide nor grow without
bound; constants have to be finite, and a mask makes its side finite again, or not: a pooling of the largest is filled with -inf.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from pulsify.graph import DOMAIN, Graph, tensor

__all__ = ["apply"]

#: Operators that give finite numbers for finite ones (of a network's size).
_FINITE = frozenset(
    """Abs Add AveragePool BatchNormalization Clip Concat Conv ConvTranspose Cos Elu Erf Gather Gelu Gemm HardSigmoid HardSwish
    Identity LayerNormalization LeakyRelu MatMul Max MaxPool Min Mish Mul Neg PRelu Relu Reshape Selu Sigmoid Sin Slice Softmax
    Softplus Softsign Split Squeeze Sub Sum Swish Tanh ThresholdedRelu Transpose Unsqueeze""".split()  # noqa: SIM905
)
_KEEPS = {"Delay", "Taps"}
_FLOATS = {ir.DataType.FLOAT, ir.DataType.DOUBLE}


@dataclass(frozen=True, slots=True)
class _Finite:
    """Whether a wire is finite before the start and after the end."""

    start: bool
    end: bool


def apply(g: Graph) -> int:
    finite: dict[ir.Value, _Finite] = {v: _Finite(True, False) for v in g.graph.inputs if g.regions.get(v)}
    masks = []
    constants: dict[ir.Value, bool] = {}
    for node in g.graph:
        known = [finite.get(v, _Finite(False, False)) for v in node.inputs if v is not None and v.const_value is None]
        all_of = _Finite(all(f.start for f in known), all(f.end for f in known))
        if node.domain == DOMAIN and node.op_type == "Mask":
            start, end = (bool(node.attributes.get_int(k)) for k in ("start", "end"))
            if _zero(g, node) and all_of.start >= start and all_of.end >= end:
                masks.append(node)
            filled = finite_constant(tensor(node, "value").numpy())
            all_of = _Finite(filled if start else all_of.start, filled if end else all_of.end)
        elif not (known and (node.op_type in _KEEPS if node.domain == DOMAIN else _keeps_finite(node, constants))):
            continue
        finite.update(dict.fromkeys(node.outputs, all_of))
    for node in masks:
        node.attributes.add(ir.AttrInt64("product", 1))
    _rely(g, masks)
    return len(masks)


def _keeps_finite(node: ir.Node, constants: dict[ir.Value, bool]) -> bool:
    """Whether finite numbers give finite ones; a normalisation adds something to what it divides by."""
    if node.op_type not in _FINITE or node.domain or node.attributes.get_float("epsilon", 1e-5) <= 0:
        return False
    for v in node.inputs:
        if v is not None and v.const_value is not None and v not in constants:
            constants[v] = finite_constant(v.const_value.numpy())
    return all(constants.get(v, True) for v in node.inputs if v is not None)


def finite_constant(array: np.ndarray) -> bool:
    """Whether all numbers are finite; their sum is what a look at all of them costs least by."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.dtype.kind not in "fc" or bool(np.isfinite(array.sum()))


def _zero(g: Graph, node: ir.Node) -> bool:
    value = tensor(node, "value")
    return value.dtype in _FLOATS and not value.numpy().any()


def _rely(g: Graph, masks: list[ir.Node]) -> None:
    """States between a mask and the masks of the start before it have to begin with something finite."""
    slots = {slot.state.id: slot for slot in g.slots}
    todo = [v for node in masks for v in node.inputs if v is not None]  # a product lets through what is not finite
    seen: set[ir.Node] = set()
    while todo:
        node = todo.pop().producer()
        if node is None or node in seen or (
            node.domain == DOMAIN and node.op_type == "Mask" and node.attributes.get_int("start")
        ):
            continue
        seen.add(node)
        if node.domain == DOMAIN and node.op_type == "Delay":
            slot = slots[node.name or ""]
            slot.state = replace(slot.state, zeros_read=True)
        todo.extend(v for v in node.inputs if v is not None)
