"""Reductions over time as running values: ``out(V) = reduce over i < L(V) of in[i]`` after V real frames.

Region transform: none. The frames are read as they come, ``[0, L)`` once each, into an accumulator; frames outside the
stream are masked with the neutral element of the reduction, so the value is always that of the frames seen so far:

    ``acc <- join(acc, part(frames of this pulse))``, ``out = last(acc)``

Sums are kept in double precision (integers in int64): the error against the exact value is that of summing one pulse
in the model's precision, ``P * eps``, whatever the length of the stream. The running logsumexp keeps the greatest
element m and ``s = sum of exp(x - m)``: ``s <- s*exp(m - m') + sum of exp(x - m')``. Before the first real frame the
value is what onnxruntime gives for an empty axis: 0, -inf, +inf, 1, the least or the greatest integer; an arg is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.errors import Refusal
from pulsify.facts import Need, Plan, WireFact
from pulsify.ops._families import product
from pulsify.ops._rule import NodeView

__all__ = ["running_plan"]

FLOAT, DOUBLE, INT64 = ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.INT64


@dataclass(frozen=True, slots=True)
class Fold:
    """``part`` reduces the frames of a pulse, ``join`` adds them to the accumulator, ``last`` makes the value of it."""

    part: str
    join: str = "Add"
    last: str = ""


FOLDS = {
    "Sum": Fold("ReduceSum"),
    "Mean": Fold("ReduceSum", last="mean"),
    "L1": Fold("ReduceL1"),
    "L2": Fold("ReduceSumSquare", last="Sqrt"),
    "SumSquare": Fold("ReduceSumSquare"),
    "LogSum": Fold("ReduceSum", last="Log"),
    "Power": Fold("ReduceSum", last="root"),
    "Prod": Fold("ReduceProd", "Mul"),
    "Max": Fold("ReduceMax", "Max"),
    "Min": Fold("ReduceMin", "Min"),
}


def running_plan(
    n: NodeView, kind: str, gone: Sequence[int], keep: bool, *, power: int = 2, last: bool = False, end: str = ""
) -> Plan:
    """The plan of a reduction over time. ``kind`` is of ``FOLDS``, ``LogSumExp``, ``Centred``, ``ArgMax`` or ``ArgMin``."""
    time = n.streaming(0)
    if len(time) > 1:
        n.refuse(
            f"it reduces over time, and time is on axes {' and '.join(map(str, time))}: every frame of one needs the whole of the other",
            axis=next(a for a in time if a in gone),
            hint="bound what a frame sees (a window, a mask of fixed width), or reduce over other axes",
        )
    if n.fact(0).dtype in (ir.DataType.UINT64, ir.DataType.STRING):
        n.refuse(f"a running value of {n.fact(0).dtype.name.lower()} is not supported", axis=time[0], hint="cast to int64 before it")
    if kind == "LogSumExp":
        lower = partial(_logsumexp, gone=tuple(gone), time=time[0], keep=keep)
    elif kind == "Centred":
        lower = partial(_centred, gone=tuple(gone), time=time[0], keep=keep, end=end)
    elif kind.startswith("Arg"):
        lower = partial(_arg, largest=kind == "ArgMax", time=time[0], keep=keep, last=last)
    else:
        lower = partial(_fold, kind=kind, gone=tuple(gone), time=time[0], keep=keep, power=power)
    return Plan((), kind="custom", consumes=(Need(0, time[0]),), ends=True, lower=lower)


def _frames(low: Any, gone: Sequence[int]) -> tuple[ir.Value, WireFact, ir.DataType]:
    """The frames in a type that every runtime computes in: float, double or int64."""
    fact: WireFact = low.facts[0]
    assert fact.shape is not None
    if low.batch_axis(fact.shape) in gone:
        raise Refusal(
            f"cannot pulsify {low.node.op_type} node {low.node.name!r} on axis {low.batch_axis(fact.shape)}",
            why="it reduces over time and the batch together, and the streams of a batch start and end on their own",
            wire=f"{low.node.inputs[0].name} [{', '.join(map(str, fact.shape))}]",
            hint="fix the batch to 1 when converting, or reduce each stream by itself",
        )
    to = fact.dtype if fact.dtype in (FLOAT, DOUBLE) else FLOAT if fact.dtype.is_floating_point() else INT64
    return _cast(low, low.inputs[0], fact.dtype, to), fact, to


def _cast(low: Any, x: ir.Value, have: ir.DataType, to: ir.DataType) -> ir.Value:
    if have == to:
        return x
    out: ir.Value = low.op("Cast", [x], to=int(to))
    return out


def _floor(low: Any, x: ir.Value) -> ir.Value:
    out: ir.Value = low.op("Floor", [x])
    return out


def _real(low: Any, time: int) -> ir.Value:
    """Which frames of the pulse are part of the stream."""
    real: ir.Value = low.valid(0, time, start=low.must_begin(0, time), end=True)
    return real


def _least(dtype: ir.DataType, largest: bool = False) -> float | int:
    """The neutral element of Max (``largest``: of Min)."""
    if dtype.is_floating_point():
        return np.inf if largest else -np.inf
    if dtype == ir.DataType.BOOL:
        return int(largest)
    info = np.iinfo(dtype.numpy())
    return int(info.max if largest else info.min)


def _past(low: Any, role: str, fact: WireFact, gone: Sequence[int], dtype: ir.DataType, empty: float | int) -> tuple[ir.Value, ir.Value]:
    """An accumulator: its state, and the same with the neutral element where nothing has come yet."""
    assert fact.shape is not None
    shape = tuple(1 if a in gone else d for a, d in enumerate(fact.shape))
    past = low.state(role, shape, dtype, "accumulator")
    if empty == 0:
        return past, past
    begun = low.started(len(shape), low.batch_axis(shape))
    return past, low.op("Where", [begun, past, low.const(empty, dtype.numpy())], f"{role}.past")


def _count(low: Any, fact: WireFact, gone: Sequence[int], time: int) -> ir.Value:
    """Elements reduced so far, this pulse included: int64, N on the batch axis."""
    assert fact.shape is not None
    others = product([fact.shape[a] for a in gone if a != time])
    count: ir.Value = low.count(0, time, fact.rank, low.batch_axis(fact.shape))
    if others != 1:
        count = low.op("Mul", [count, low.dims([others])])
    return count


def _divisor(low: Any, count: ir.Value, dtype: ir.DataType) -> ir.Value:
    """A count to divide by: at least 1."""
    return _cast(low, low.op("Max", [count, low.const([1])], "divisor"), INT64, dtype)


def _finish(low: Any, y: ir.Value, have: ir.DataType, gone: Sequence[int], keep: bool) -> list[ir.Value]:
    y = _cast(low, y, have, low.outputs[0].dtype)
    return [y if keep else low.op("Squeeze", [y, low.const(list(gone))])]


def _fold(low: Any, *, kind: str, gone: Sequence[int], time: int, keep: bool, power: int) -> list[ir.Value]:
    fold = FOLDS[kind]
    x, fact, dtype = _frames(low, gone)
    if kind == "Power":
        x = low.op("Pow", [low.op("Abs", [x]), low.const(power, dtype.numpy())])
    empty = {"Add": 0, "Mul": 1, "Max": _least(fact.dtype), "Min": _least(fact.dtype, True)}[fold.join]
    x = low.op("Where", [_real(low, time), x, low.const(empty, dtype.numpy())], "real")
    part = low.op(fold.part, [x, low.const(list(gone))], "pulse", keepdims=1)
    wide = DOUBLE if fold.join == "Add" and dtype == FLOAT else dtype
    past, before = _past(low, kind.lower(), fact, gone, wide, empty)
    total = low.op(fold.join, [before, _cast(low, part, dtype, wide)], "total")
    low.store(past, total)
    y = total
    if fold.last == "mean":
        y = low.op("Div", [y, _divisor(low, _count(low, fact, gone, time), wide)], "mean")
    elif fold.last:
        y, wide = _cast(low, y, wide, DOUBLE), DOUBLE
        y = low.op("Pow", [y, low.const(1 / power, np.float64)]) if fold.last == "root" else low.op(fold.last, [y])
    return _finish(low, y, wide, gone, keep)


def _centred(low: Any, *, gone: Sequence[int], time: int, keep: bool, end: str) -> list[ir.Value]:
    """The sum of squares about the mean of all frames so far, from that of a pulse about its own mean (Chan et al.):
    ``M2 <- M2 + M2_pulse + (mean_pulse - mean)^2 * n*n_pulse / (n + n_pulse)``."""
    x, fact, dtype = _frames(low, gone)
    axes, zero = low.const(list(gone)), low.const(0, dtype.numpy())
    real = _real(low, time)
    total = _count(low, fact, gone, time)
    old_n, _ = _past(low, "count", fact, [a for a in range(fact.rank) if a != low.batch_axis(fact.shape)], INT64, 0)
    low.store(old_n, total)
    fresh = low.op("Sub", [total, old_n], "fresh")
    share = low.op("Div", [_cast(low, fresh, INT64, DOUBLE), _divisor(low, total, DOUBLE)], "share")
    sums = low.op("ReduceSum", [low.op("Where", [real, x, zero], "real"), axes], "pulse.sum", keepdims=1)
    mean = low.op("Div", [sums, _divisor(low, fresh, dtype)], "pulse.mean")
    apart = low.op("Where", [real, low.op("Sub", [x, mean]), zero], "apart")
    part = _cast(low, low.op("ReduceSumSquare", [apart, axes], "pulse", keepdims=1), dtype, DOUBLE)
    old_mean, _ = _past(low, "mean", fact, gone, DOUBLE, 0)
    gap = low.op("Sub", [_cast(low, mean, dtype, DOUBLE), old_mean], "gap")
    step = low.op("Mul", [gap, share], "step")
    low.store(old_mean, low.op("Add", [old_mean, step], "mean"))
    past, _ = _past(low, "squares", fact, gone, DOUBLE, 0)
    between = low.op("Mul", [low.op("Mul", [step, gap]), _cast(low, old_n, INT64, DOUBLE)], "between")
    y = low.op("Add", [low.op("Add", [past, part]), between], "squares")
    low.store(past, y)
    if end == "mean":
        y = low.op("Div", [y, _divisor(low, total, DOUBLE)], "variance")
    elif end:
        y = low.op(end, [y])
    return _finish(low, y, DOUBLE, gone, keep)


def _logsumexp(low: Any, *, gone: Sequence[int], time: int, keep: bool) -> list[ir.Value]:
    """onnxruntime computes integers in integers: ``exp(x - m)`` is then 1 where x = m, else 0."""
    x, fact, dtype = _frames(low, gone)
    whole = dtype == INT64
    if whole:
        x, dtype = _cast(low, x, INT64, DOUBLE), DOUBLE
    axes = low.const(list(gone))
    least = low.const(-np.inf, dtype.numpy())
    x = low.op("Where", [_real(low, time), x, least], "real")
    old_top, top_before = _past(low, "max", fact, gone, dtype, -np.inf)
    top = low.op("Max", [top_before, low.op("ReduceMax", [x, axes], "pulse.max", keepdims=1)], "max")
    low.store(old_top, top)
    # Of -inf alone, exp(x - 0) is 0; of one +inf, +inf.
    base = low.op("Where", [low.op("IsInf", [top]), low.const(0, dtype.numpy()), top], "base")

    def weight(v: ir.Value) -> ir.Value:
        e: ir.Value = low.op("Exp", [low.op("Sub", [v, base])])
        return _floor(low, e) if whole else e

    part = low.op("ReduceSum", [weight(x), axes], "pulse", keepdims=1)
    past, _ = _past(low, "sum", fact, gone, DOUBLE, 0)
    scale = _cast(low, weight(top_before), dtype, DOUBLE)
    total = low.op("Add", [low.op("Mul", [past, scale]), _cast(low, part, dtype, DOUBLE)], "total")
    low.store(past, total)
    log = low.op("Log", [total])
    y = low.op("Add", [_floor(low, log) if whole else log, _cast(low, base, dtype, DOUBLE)], "logsumexp")
    return _finish(low, y, DOUBLE, gone, keep)


def _arg(low: Any, *, largest: bool, time: int, keep: bool, last: bool) -> list[ir.Value]:
    """The greatest element so far, and one more than its index (0: none yet). Ties go to the first, or to the last."""
    gone = (time,)
    x, fact, dtype = _frames(low, gone)
    axes, zero = low.const([time]), low.const(0)
    real = _real(low, time)
    x = low.op("Where", [real, x, low.const(_least(dtype, not largest), dtype.numpy())], "real")
    best = low.op("ReduceMax" if largest else "ReduceMin", [x, axes], "pulse.best", keepdims=1)
    here = low.op("And", [low.op("Equal", [x, best]), real], "here")
    index = low.op("Add", [low.position(0, time), low.const(1)], "index")
    far = low.const(-1 if last else np.iinfo(np.int64).max)
    at = low.op("ReduceMax" if last else "ReduceMin", [low.op("Where", [here, index, far]), axes], "pulse.at", keepdims=1)
    old_best, _ = _past(low, "best", fact, gone, dtype, 0)
    old_at, _ = _past(low, "at", fact, gone, INT64, 0)
    test = ("Greater" if largest else "Less") + ("OrEqual" if last else "")
    better = low.op("Or", [low.op(test, [best, old_best]), low.op("Equal", [old_at, zero])], "better")
    found = low.op("Greater", [at, zero]) if last else low.op("Less", [at, far])
    take = low.op("And", [better, found], "take")
    new_at = low.op("Where", [take, at, old_at], "at.now")
    low.store(old_best, low.op("Where", [take, best, old_best], "best.now"))
    low.store(old_at, new_at)
    y = low.op("Max", [low.op("Sub", [new_at, low.const(1)]), zero], "arg")
    return _finish(low, y, INT64, gone, keep)
