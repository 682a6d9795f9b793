"""A mask of zeros over finite frames is a product with 0 and 1, which costs half of a Where.

``where(valid, x, 0) = x * valid`` if and only if x is finite where it is not valid. Frames from outside are not known to
be, so the first masks of a model stay what they are; behind them, what finite numbers give under operators that neither
divide nor grow without bound is finite, as are the zeros that states start from.
"""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from pulsify.graph import DOMAIN, Graph

__all__ = ["apply"]

#: Operators that give finite numbers for finite ones (of a network's size).
_FINITE = frozenset(
    """Abs Add AveragePool Clip Concat Conv ConvTranspose Cos Elu Erf Gather Gelu Gemm HardSigmoid HardSwish Identity LeakyRelu
    MatMul Max MaxPool Min Mish Mul Neg PRelu Relu Reshape Selu Sigmoid Sin Slice Softmax Softplus Softsign Split Squeeze Sub
    Sum Swish Tanh ThresholdedRelu Transpose Unsqueeze""".split()  # noqa: SIM905
)
_KEEPS = {"Delay", "Taps"}
_FLOATS = {ir.DataType.FLOAT, ir.DataType.DOUBLE}


def apply(g: Graph) -> int:
    finite: set[ir.Value] = set()
    masks = []
    for node in g.graph:
        inputs = [v for v in node.inputs if v is not None]
        known = all(v in finite or v.const_value is not None for v in inputs)
        if node.domain == DOMAIN and node.op_type == "Mask":
            if known and _zero(g, node):
                masks.append(node)
            finite.update(node.outputs)
        elif known and inputs and (node.op_type in _KEEPS if node.domain == DOMAIN else node.op_type in _FINITE and not node.domain):
            finite.update(node.outputs)
    for node in masks:
        node.attributes.add(ir.AttrInt64("product", 1))
    _rely(g, masks)
    return len(masks)


def _zero(g: Graph, node: ir.Node) -> bool:
    value = node.attributes.get_tensor("value")
    return value.dtype in _FLOATS and not value.numpy().any()


def _rely(g: Graph, masks: list[ir.Node]) -> None:
    """States between a mask and the masks before it have to start from something finite."""
    slots = {slot.state.id: slot for slot in g.slots}
    todo = [v for node in masks for v in node.inputs if v is not None]
    seen: set[ir.Node] = set()
    while todo:
        node = todo.pop().producer()
        if node is None or node in seen or (node.domain == DOMAIN and node.op_type == "Mask"):
            continue
        seen.add(node)
        if node.domain == DOMAIN and node.op_type == "Delay":
            slot = slots[node.name or ""]
            slot.state = replace(slot.state, zeros_read=True)
        todo.extend(v for v in node.inputs if v is not None)
