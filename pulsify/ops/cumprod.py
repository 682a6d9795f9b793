"""Cumulative product: ``out[j] = product of in[i], i <= j``.

Region transform on time: ``out [a, b) <- in [a, b)`` and the product of everything before, one frame of memory, which
is 1 where a row starts. Frames before the first are masked with 1; what comes after the end reaches no valid frame.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from pulsify.facts import Need, Plan, Stream, WireFact
from pulsify.ops._families import AxisMap, AxisRule, same_axes
from pulsify.ops._rule import NodeView, register


class CumProd(AxisRule):
    status, note = "conditions", "along time: neither reversed nor exclusive"

    def axis_of(self, n: NodeView) -> int:
        (axis,) = n.const_ints(1) or (0,)
        return n.axis(axis, len(n.shape(0)))

    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        return [WireFact(f.dtype, n.shape(0))]

    def axes(self, n: NodeView) -> AxisMap:
        return [same_axes(len(n.shape(0)), (self.axis_of(n),))]

    def plan(self, n: NodeView) -> Plan:
        axis = self.axis_of(n)
        if axis not in n.streaming(0):
            return super().plan(n)
        if n.attr("reverse", 0):
            n.refuse("it multiplies backwards from the end of the stream", axis=axis, hint="multiply forwards")
        if n.attr("exclusive", 0):
            n.refuse("it leaves the frame itself out", axis=axis, hint="shift the inclusive product by a frame (Pad)")
        streams = tuple(Stream(0, a, (Need(0, a),)) for a in n.streaming(0))
        return Plan(streams, kind="custom", lower=lambda low: _lower(low, axis))


def _lower(low: Any, axis: int) -> list[ir.Value]:
    fact = low.facts[0]
    x = low.inputs[0]
    one = low.const(1, fact.dtype.numpy())
    if low.must_begin(0, axis):
        x = low.op("Where", [low.valid(0, axis, start=True, end=False), x, one], "begun")
    shape = tuple(1 if a == axis else d for a, d in enumerate(fact.shape))
    past = low.state("product", shape, fact.dtype, "accumulator")
    before = low.op("Where", [low.started(fact.rank, low.batch_axis(fact.shape)), past, one], "before")
    (products,) = low.clone([low.op("Concat", [before, x], axis=axis), low.const(axis)])
    end = low.const([(1 << 63) - 1])
    low.store(past, low.op("Slice", [products, low.const([-1]), end, low.const([axis])], "last"))
    return [low.op("Slice", [products, low.const([1]), end, low.const([axis])], "products")]


register(CumProd(), "CumProd")
