"""Reductions: ``out[j] = reduce over i of in[j, i]``.

Region transform over other axes than time: ``out [a, b) <- in [a, b)``. A reduction over time is a running value
(``_running.py``): a static output may depend on it, a stream may not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim
from pulsify.facts import MAX_ELEMS, Elems, Fill, Plan, Value, WireFact
from pulsify.graph import DOMAIN
from pulsify.ops._families import AxisMap, AxisRule, product
from pulsify.ops._rule import NodeView, register
from pulsify.ops._running import running_plan

NAMES = "Sum Mean Max Min Prod L1 L2 LogSum LogSumExp SumSquare"

_FOLDS: dict[str, Callable[..., Any]] = {
    "ReduceSum": lambda n, a, b: a + b,
    "ReduceProd": lambda n, a, b: a * b,
    "ReduceMax": lambda n, a, b: n.assume.max(a, b, n.name),
    "ReduceMin": lambda n, a, b: n.assume.min(a, b, n.name),
}


def _is_whole(value: Any) -> bool:
    return isinstance(value, Dim) or float(value).is_integer()


class Reduce(AxisRule):
    status, note = "conditions", "over time: a running value, for static outputs"

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
        if fold is not None and elems is None and isinstance(n.fact(0).value, Fill):
            return self._filled(n, gone, shape)
        if fold is None or elems is None or elems.size == 0 or len(gone) != elems.ndim:
            return None
        total = elems.reshape(-1)[0]
        for v in elems.reshape(-1)[1:]:
            total = fold(n, total, v)
        out = np.empty(shape, dtype=object)
        out[...] = total
        return Elems(out)

    def _filled(self, n: NodeView, gone: tuple[int, ...], shape: tuple[Any, ...]) -> Value:
        """Counts written as sums of ones."""
        value = n.fact(0).value.value  # type: ignore[union-attr]
        whole = n.fact(0).dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT64, ir.DataType.INT32)
        if n.op == "ReduceProd" or not whole or not _is_whole(value):
            return None
        if n.op == "ReduceSum":
            value = (value if isinstance(value, Dim) else int(value)) * product([n.shape(0)[a] for a in gone])
        if not all(isinstance(d, int) for d in shape) or np.prod(shape, dtype=object) > MAX_ELEMS:
            return None if isinstance(value, Dim) else Fill(value)
        out = np.empty(shape, dtype=object)
        out[...] = value
        return Elems(out)

    def plan(self, n: NodeView) -> Plan:
        gone = self.reduced(n)
        if isinstance(n.outputs[0].value, Elems | Fill):
            return Plan((), kind="free")
        if not set(gone) & set(n.streaming(0)):
            return super().plan(n)
        return running_plan(
            n, n.op.removeprefix("Reduce"), gone, bool(n.attr("keepdims", 1)), last=bool(n.attr("select_last_index", 0))
        )

    def axes(self, n: NodeView) -> AxisMap:
        gone, keep = self.reduced(n), n.attr("keepdims", 1)
        rank = len(n.shape(0))
        return [[() if a in gone else ((0, a),) for a in range(rank) if keep or a not in gone]]


class ArgReduce(Reduce):
    def reduced(self, n: NodeView) -> tuple[int, ...]:
        return (n.axis(n.attr("axis", 0), len(n.shape(0))),)

    def out_dtype(self, n: NodeView) -> ir.DataType:
        return ir.DataType.INT64


class CentredSquares(Reduce):
    """Pseudo-operator: ``sum over i of (in[i] - mean(in))^2``, or the mean or root of that (rewrites/variances.py)."""

    domain = DOMAIN
    status, note = "pseudo", ""

    def reduced(self, n: NodeView) -> tuple[int, ...]:
        return tuple(n.attr("axes"))

    def plan(self, n: NodeView) -> Plan:
        return running_plan(n, "Centred", self.reduced(n), bool(n.attr("keepdims")), end=n.attr("last"))


register(Reduce(), *(f"Reduce{name}" for name in NAMES.split()))
register(ArgReduce(), "ArgMax", "ArgMin")
register(CentredSquares(), "CentredSquares")
