"""Cumulative sums and products: ``out[j] = sum of in[i], i <= j`` (``i < j`` where exclusive).

Region transform on time: ``out [a, b) <- in [a, b)`` and the sum of everything before, one frame of memory. With
``c = CumSum(past, in)`` the sums are ``c[1:]`` and the new memory ``c[-1]``: the additions are those of the batch model,
in its order. Frames before the first are masked; what comes after the end reaches no valid frame. An exclusive sum is
the inclusive one a frame later (rewrites/exclusive_sums.py). Half precision is summed in single, as onnxruntime does.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from pulsify.dim import Dim
from pulsify.facts import Fill, Iota, Need, Plan, Stream, Value, WireFact
from pulsify.ops._families import AxisMap, AxisRule, same_axes
from pulsify.ops._rule import NodeView, register

#: Types whose sums of whole numbers are exact (float up to 2^24).
_COUNTED = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT64, ir.DataType.INT32)


class Cumulative(AxisRule):
    """``empty`` is the value before the first frame."""

    status, note = "conditions", "not reversed along time"

    def __init__(self, empty: int):
        self.empty = empty

    def axis_of(self, n: NodeView) -> int:
        values = n.const_ints(1)
        assert values is not None
        return n.axis(values[0], len(n.shape(0)))

    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        return [WireFact(f.dtype, f.shape, self._value(n))]

    def _value(self, n: NodeView) -> Value:
        """The running sum of a constant is a position: nothing to remember."""
        f = n.fact(0)
        if n.op != "CumSum" or not isinstance(f.value, Fill) or n.attr("reverse", 0) or f.dtype not in _COUNTED:
            return None
        if self.axis_of(n) not in n.streaming(0):
            return None
        step = f.value.value
        if isinstance(step, Dim) or not float(step).is_integer():
            return None
        return Iota(self.axis_of(n), 0 if n.attr("exclusive", 0) else int(step), int(step))

    def axes(self, n: NodeView) -> AxisMap:
        return [same_axes(len(n.shape(0)), (self.axis_of(n),))]

    def plan(self, n: NodeView) -> Plan:
        axis = self.axis_of(n)
        if axis not in n.streaming(0):
            return super().plan(n)
        if n.attr("reverse", 0):
            n.refuse("it accumulates backwards from the end of the stream", axis=axis, hint="accumulate forwards, or over a window")
        streams = tuple(Stream(0, a, (Need(0, a),)) for a in n.streaming(0))
        if isinstance(n.outputs[0].value, Iota):
            return Plan(streams, kind="free")
        assert not n.attr("exclusive", 0), "declutter writes an exclusive sum as an inclusive one"
        return Plan(streams, kind="custom", memory=True, lower=lambda low: _lower(low, axis, self.empty))


def _lower(low: Any, axis: int, empty: int) -> list[ir.Value]:
    fact = low.facts[0]
    x, dtype = low.inputs[0], fact.dtype
    if dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        dtype = ir.DataType.FLOAT
        x = low.op("Cast", [x], "wide", to=int(dtype))
    nothing = low.const(empty, dtype.numpy())
    if low.must_begin(0, axis):
        x = low.op("Where", [low.valid(0, axis, start=True, end=False), x, nothing], "begun")
    shape = tuple(1 if a == axis else d for a, d in enumerate(fact.shape))
    past = before = low.state("product" if empty else "sum", shape, dtype, "accumulator")
    if empty:
        before = low.op("Where", [low.started(fact.rank, low.batch_axis(fact.shape)), past, nothing], "before")
    (sums,) = low.clone([low.op("Concat", [before, x], axis=axis), low.const(axis)])
    end = low.const([(1 << 63) - 1])
    low.store(past, low.op("Slice", [sums, low.const([-1]), end, low.const([axis])], "last"))
    y = low.op("Slice", [sums, low.const([1]), end, low.const([axis])], "sums")
    return [y if dtype == fact.dtype else low.op("Cast", [y], "narrow", to=int(fact.dtype))]


register(Cumulative(0), "CumSum")
register(Cumulative(1), "CumProd")
