"""Reductions over axes other than time: ``out[j] = reduce over i of in[j, i]``.

Region transform: ``out [a, b) <- in [a, b)``. A reduction over time needs the whole stream and is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.facts import Elems, Value, WireFact
from pulsify.ops._families import AxisMap, AxisRule
from pulsify.ops._rule import NodeView, register

NAMES = "Sum Mean Max Min Prod L1 L2 LogSum LogSumExp SumSquare"

_FOLDS: dict[str, Callable[..., Any]] = {
    "ReduceSum": lambda n, a, b: a + b,
    "ReduceProd": lambda n, a, b: a * b,
    "ReduceMax": lambda n, a, b: n.assume.max(a, b, n.name),
    "ReduceMin": lambda n, a, b: n.assume.min(a, b, n.name),
}


class Reduce(AxisRule):
    status, note = "conditions", "not over time"

    def reduced(self, n: NodeView) -> tuple[int, ...]:
        rank = len(n.shape(0))
        axes = n.ints_attr_or_input("axes", 1)
        if axes is None or len(axes) == 0:
            return () if n.attr("noop_with_empty_axes", 0) else tuple(range(rank))
        return tuple(sorted({n.axis(a, rank) for a in axes}))

    def out_dtype(self, n: NodeView) -> ir.DataType:
        return n.fact(0).dtype

    def infer(self, n: NodeView) -> list[WireFact]:
        gone, keep = self.reduced(n), n.attr("keepdims", 1)
        shape = tuple(1 if a in gone else d for a, d in enumerate(n.shape(0)) if keep or a not in gone)
        return [WireFact(self.out_dtype(n), shape, self._value(n, gone, shape))]

    def _value(self, n: NodeView, gone: tuple[int, ...], shape: tuple[Any, ...]) -> Value:
        fold = _FOLDS.get(n.op)
        elems = n.fact(0).elems()
        if fold is None or elems is None or elems.size == 0 or len(gone) != elems.ndim:
            return None
        total = elems.reshape(-1)[0]
        for v in elems.reshape(-1)[1:]:
            total = fold(n, total, v)
        out = np.empty(shape, dtype=object)
        out[...] = total
        return Elems(out)

    def axes(self, n: NodeView) -> AxisMap:
        gone, keep = self.reduced(n), n.attr("keepdims", 1)
        rank = len(n.shape(0))
        return [[() if a in gone else ((0, a),) for a in range(rank) if keep or a not in gone]]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return "it reduces over time, and its result needs the whole stream"

    def hint(self, n: NodeView, k: int, axis: int) -> str:
        return "reduce over other axes, or over a window of frames (a pool or a convolution)"


class ArgReduce(Reduce):
    def reduced(self, n: NodeView) -> tuple[int, ...]:
        return (n.axis(n.attr("axis", 0), len(n.shape(0))),)

    def out_dtype(self, n: NodeView) -> ir.DataType:
        return ir.DataType.INT64


register(Reduce(), *(f"Reduce{name}" for name in NAMES.split()))
register(ArgReduce(), "ArgMax", "ArgMin")
