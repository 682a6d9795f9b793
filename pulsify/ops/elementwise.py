"""Pointwise operators with any broadcasting: ``out[j] = f(in_0[j], in_1[j], ...)``.

Region transform: ``out [a, b) <- in_k [a, b)`` for every streaming input k; inputs that broadcast along time are
static there.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from pulsify.facts import Plan, WireFact
from pulsify.ops._families import AxisMap, AxisRule, axis_plan, broadcast, broadcast_axes
from pulsify.ops._rule import NodeView, register
from pulsify.ops._values import pointwise_value

UNARY = """Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid
HardSwish Identity LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus
Softsign Sqrt Swish Tan Tanh ThresholdedRelu"""
BINARY = "Add BitShift BitwiseAnd BitwiseOr BitwiseXor Mul PRelu Pow Sub Sum Mean Max Min And Or Xor SwiGLU"
COMPARE = "Equal Greater GreaterOrEqual Less LessOrEqual IsNaN IsInf"


class Pointwise(AxisRule):
    """All inputs broadcast against each other; the output has the dtype of input ``typed`` or a fixed one."""

    def __init__(self, typed: int = 0, dtype: ir.DataType | None = None):
        self.typed, self.dtype = typed, dtype

    def out_dtype(self, n: NodeView) -> ir.DataType:
        return self.dtype if self.dtype is not None else n.fact(self.typed).dtype

    def infer(self, n: NodeView) -> list[WireFact]:
        present = [f for f in n.inputs if f is not None]
        if any(f.shape is None for f in present):
            return [WireFact(self.out_dtype(n), None)]
        shape = broadcast(n, [n.shape(k) for k in range(len(n.inputs)) if n.inputs[k] is not None])
        return [WireFact(self.out_dtype(n), shape, pointwise_value(n, shape))]

    def axes(self, n: NodeView) -> AxisMap:
        return [broadcast_axes(n, range(len(n.inputs)), n.outputs[0].rank)]


class Quotient(Pointwise):
    """Division by 0 stops a program where the numbers are whole, and garbage frames may hold one."""

    def plan(self, n: NodeView) -> Plan:
        if n.fact(0).dtype.is_integer() and n.streaming(1):
            return axis_plan(self, n, kind="custom", lower=_by_no_zero)
        return super().plan(n)


def _by_no_zero(low: Any) -> list[ir.Value]:
    """``a / (b + (b == 0))``: no frame of the stream is divided by 0, or the batch model would stop there too."""
    a, b = low.inputs
    dtype = low.facts[1].dtype
    none = low.op("Equal", [b, low.const(0, dtype.numpy())], "none")
    safe = low.op("Add", [b, low.op("Cast", [none], "more", to=int(dtype))], "divisor")
    return list(low.clone([a, safe]))


class Cast(Pointwise):
    def out_dtype(self, n: NodeView) -> ir.DataType:
        return ir.DataType(n.attr("to"))


class CastLike(Pointwise):
    """The second input gives a type only; its time axis is not followed."""

    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        if f.shape is None:
            return [WireFact(n.fact(1).dtype, None)]
        return [WireFact(n.fact(1).dtype, f.shape)]

    def axes(self, n: NodeView) -> AxisMap:
        both = broadcast_axes(n, [0], n.outputs[0].rank)
        like = n.fact(1)
        for a in n.streaming(1):
            if like.shape is not None and a < len(both):
                both[a] = (*both[a], (1, a))
        return [both]


class Dropout(Pointwise):
    """Identity at inference. Training mode draws random numbers and is refused."""

    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        training = n.optional(2)
        if training is not None:
            known = training.elems()
            if known is None or bool(known.reshape(-1)[0]):
                n.refuse("training mode draws random numbers", hint="export the model in evaluation mode")
        return [WireFact(f.dtype, f.shape), WireFact(ir.DataType.BOOL, f.shape)][: len(n.node.outputs)]

    def axes(self, n: NodeView) -> AxisMap:
        rank = n.outputs[0].rank
        return [broadcast_axes(n, [0], rank) for _ in n.outputs]


register(Pointwise(), *UNARY.split(), *BINARY.split(), "Clip")
register(Quotient(), "Div", "Mod")
register(Pointwise(dtype=ir.DataType.BOOL), *COMPARE.split())
register(Pointwise(typed=1), "Where")
register(Cast(), "Cast")
register(CastLike(), "CastLike")
register(Dropout(), "Dropout")
