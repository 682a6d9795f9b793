"""Value laws of pointwise arithmetic on known elements. A law gives None where it cannot decide."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import ceil
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim, exact_div, floor
from pulsify.facts import MAX_ELEMS, Clipped, Elems, Fill, Grid, Iota, Value, WireFact
from pulsify.ops._rule import NodeView

__all__ = ["LAWS", "pointwise_value"]

_INTS = {ir.DataType.INT64, ir.DataType.INT32, ir.DataType.INT16, ir.DataType.INT8, ir.DataType.UINT8}


def _div(n: NodeView, a: Any, b: Any) -> Any:
    if b == 0:
        return None
    integer = n.fact(0).dtype in _INTS
    if not integer:
        return a * Fraction(1, b) if isinstance(b, int) else _exact(a, b)
    whole = _exact(a, b)
    if whole is not None:
        return whole
    if not isinstance(b, int) or b < 0:
        return None
    # ONNX truncates; floor is the same where a >= 0.
    return floor(a * Fraction(1, b)) if n.assume.ge(a, 0, n.name) else -floor(-a * Fraction(1, b))


def _exact(a: Any, b: Any) -> Any:
    return exact_div(a, b) if isinstance(a, (int, Dim)) and isinstance(b, (int, Dim)) else None


def _mod(n: NodeView, a: Any, b: Any) -> Any:
    if not isinstance(b, int) or b <= 0 or (n.attr("fmod", 0) and not n.assume.ge(a, 0, n.name)):
        return None
    return a - floor(a * Fraction(1, b)) * b


def _cast(n: NodeView, a: Any) -> Any:
    to = ir.DataType(n.attr("to")) if n.op == "Cast" else n.fact(1).dtype
    if to == ir.DataType.BOOL:
        return not n.assume.eq(a, 0, n.name) if not isinstance(a, bool) else a
    if isinstance(a, bool):
        return int(a)
    if to in _INTS and (isinstance(a, Fraction) or (isinstance(a, Dim) and not a.is_integer)):
        return floor(a) if n.assume.ge(a, 0, n.name) else -floor(-a)
    return a


def _round(a: Any) -> Any:
    return round(a) if not isinstance(a, Dim) else (a if a.is_integer else None)


#: Operator -> law on elements. Every law is exact or None.
LAWS: dict[str, Callable[..., Any]] = {
    "Add": lambda n, a, b: a + b,
    "Sub": lambda n, a, b: a - b,
    "Mul": lambda n, a, b: a * b,
    "Div": _div,
    "Mod": _mod,
    "Neg": lambda n, a: -a,
    "Abs": lambda n, a: a if n.assume.ge(a, 0, n.name) else -a,
    "Floor": lambda n, a: floor(a),
    "Ceil": lambda n, a: -floor(-a) if isinstance(a, Dim) else ceil(a),
    "Round": lambda n, a: _round(a),
    "Identity": lambda n, a: a,
    "Cast": _cast,
    "CastLike": lambda n, a, like: _cast(n, a),
    "Max": lambda n, *xs: _fold(n.assume.max, xs, n),
    "Min": lambda n, *xs: _fold(n.assume.min, xs, n),
    "Sum": lambda n, *xs: sum(xs),
    "Equal": lambda n, a, b: n.assume.eq(_num(a), _num(b), n.name),
    "Greater": lambda n, a, b: not n.assume.ge(b, a, n.name),
    "GreaterOrEqual": lambda n, a, b: n.assume.ge(a, b, n.name),
    "Less": lambda n, a, b: not n.assume.ge(a, b, n.name),
    "LessOrEqual": lambda n, a, b: n.assume.ge(b, a, n.name),
    "And": lambda n, a, b: bool(a) and bool(b),
    "Or": lambda n, a, b: bool(a) or bool(b),
    "Xor": lambda n, a, b: bool(a) != bool(b),
    "Not": lambda n, a: not a,
    "Where": lambda n, c, a, b: a if c else b,
    "Clip": lambda n, x, lo=None, hi=None: _clip(n, x, lo, hi),
}


def _num(a: Any) -> Any:
    return int(a) if isinstance(a, bool) else a


def _fold(f: Callable[..., Any], xs: tuple[Any, ...], n: NodeView) -> Any:
    out = xs[0]
    for x in xs[1:]:
        out = f(out, x, n.name)
    return out


def _clip(n: NodeView, x: Any, lo: Any, hi: Any) -> Any:
    x = x if lo is None else n.assume.max(x, lo, n.name)
    return x if hi is None else n.assume.min(x, hi, n.name)


def pointwise_value(n: NodeView, shape: tuple[Any, ...]) -> Value:
    """The value of a pointwise node whose inputs are all known, or None."""
    law = LAWS.get(n.op)
    if law is None or n.node.domain not in ("", "ai.onnx"):
        return None
    affine = _iota(n, shape)
    if affine is not None:
        return affine
    grid = _grid(n, shape)
    if grid is not None:
        return grid
    decided = _iota_against(n)
    if decided is not None:
        return Fill(decided)
    facts = [f for f in n.inputs if f is not None]
    if any(isinstance(f.value, Fill) for f in facts):
        fills = [f.value.value if isinstance(f.value, Fill) else _scalar(f) for f in facts]
        if all(v is not None for v in fills):
            value = law(n, *fills)
            if value is not None:
                return Fill(value)
    if not all(isinstance(d, int) for d in shape) or np.prod(shape, dtype=np.int64) > MAX_ELEMS:
        return None
    arrays = [None if f is None else f.elems() for f in n.inputs]
    if not arrays or any(a is None for a, f in zip(arrays, n.inputs, strict=True) if f is not None):
        return None
    out = np.empty(shape, dtype=object)
    wide = [None if a is None else np.broadcast_to(a, shape) for a in arrays]
    for index in np.ndindex(*shape):
        value = law(n, *(None if a is None else a[index] for a in wide))
        if value is None:
            return None
        out[index] = value
    return Elems(out)


def _grid(n: NodeView, shape: tuple[Any, ...]) -> Value:
    """``step*i + offsets``: an iota along time plus, or minus, constants along other axes."""
    if n.op in ("Cast", "Identity"):
        value = n.fact(0).value
        whole = n.op == "Identity" or ir.DataType(n.attr("to")) in (ir.DataType.INT64, ir.DataType.INT32)
        return value if isinstance(value, (Grid, Clipped)) and whole else None
    if n.op in ("Min", "Max", "Clip"):
        return _clipped(n, shape)
    if n.op not in ("Add", "Sub") or len(n.inputs) != 2:
        return None
    for k, sign in ((0, 1), (1, 1)) if n.op == "Add" else ((0, -1),):
        f, others = n.fact(k), _whole_numbers(n.fact(1 - k))
        if others is None or not isinstance(f.value, (Iota, Grid)) or not isinstance(f.value.step, int):
            continue
        start = f.value.offsets if isinstance(f.value, Grid) else f.value.start
        axis = f.value.axis + len(shape) - f.rank
        if isinstance(start, (Dim, Fraction)) or not isinstance(shape[axis], Dim):
            continue
        wide = [np.asarray(a).reshape((1,) * (len(shape) - np.ndim(a)) + np.shape(a)) for a in (start, others)]
        if wide[1].shape[axis] == 1:
            return Grid(axis, f.value.step, wide[0] + sign * wide[1])
    return None


def _clipped(n: NodeView, shape: tuple[Any, ...]) -> Value:
    """``clip(step*i + offsets, low, high)``, each bound a scalar given once."""
    bounds = [None if f is None else _scalar(f) for f in n.inputs]
    at = [k for k, f in enumerate(n.inputs) if f is not None and bounds[k] is None]
    if len(at) != 1 or (n.op == "Clip" and at != [0]) or (n.op != "Clip" and len(bounds) != 2):
        return None
    f = n.fact(at[0])
    value = f.value
    if f.shape != shape or f.dtype not in _INTS:
        return None
    if isinstance(value, Iota) and isinstance(value.start, int) and isinstance(value.step, int) and isinstance(shape[value.axis], Dim):
        value = Grid(value.axis, value.step, np.full((1,) * len(shape), value.start))
    old = value if isinstance(value, Clipped) else Clipped(value, None, None) if isinstance(value, Grid) else None
    if old is None:
        return None
    low, high = [*bounds[1:], None, None][:2] if n.op == "Clip" else (None, bounds[1 - at[0]]) if n.op == "Min" else (bounds[1 - at[0]], None)
    if (low is not None and old.low is not None) or (high is not None and (old.high is not None)):
        return None
    return Clipped(old.grid, old.low if low is None else low, old.high if high is None else high)


def _whole_numbers(f: WireFact) -> np.ndarray | None:
    """A static integer tensor of any size, where every element is known."""
    if f.dtype not in _INTS or f.shape is None or any(isinstance(d, Dim) for d in f.shape):
        return None
    if f.const is not None:
        return f.array()
    if isinstance(f.value, Iota) and isinstance(f.value.start, int) and isinstance(f.value.step, int):
        shape = [-1 if a == f.value.axis else 1 for a in range(f.rank)]
        row = (f.value.start + f.value.step * np.arange(int(f.shape[f.value.axis]))).reshape(shape)  # type: ignore[call-overload]
        return np.broadcast_to(row, [int(d) for d in f.shape])  # type: ignore[arg-type]
    elems = f.elems()
    return None if elems is None or any(isinstance(e, Dim) for e in elems.flat) else elems.astype(np.int64)


def _scalar(f: Any) -> Any:
    elems = f.elems()
    return elems.reshape(-1)[0] if elems is not None and elems.size == 1 else None


_REVERSED = {"Less": "Greater", "LessOrEqual": "GreaterOrEqual", "Greater": "Less", "GreaterOrEqual": "LessOrEqual"}


def _iota_against(n: NodeView) -> bool | None:
    """Whether every element of an iota compares the same way with a scalar: decided at its first and last element."""
    if n.op not in _REVERSED or len(n.inputs) != 2:
        return None
    at = [k for k in (0, 1) if isinstance(n.fact(k).value, Iota)]
    if len(at) != 1:
        return None
    fact, other = n.fact(at[0]), n.fact(1 - at[0])
    bound = other.value.value if isinstance(other.value, Fill) else _scalar(other)
    iota = fact.value
    if bound is None or not isinstance(iota, Iota) or not isinstance(iota.step, int) or fact.shape is None:
        return None
    ends = (iota.start, iota.start + iota.step * (fact.shape[iota.axis] - 1))
    law = LAWS[n.op if at[0] == 0 else _REVERSED[n.op]]
    answers = {law(n, e, bound) for e in ends}
    return answers.pop() if len(answers) == 1 else None


def _iota(n: NodeView, shape: tuple[Any, ...]) -> Value:
    """``a*iota + b`` stays an iota."""
    at = [k for k, f in enumerate(n.inputs) if f is not None and isinstance(f.value, Iota)]
    if len(at) != 1 or n.op not in ("Add", "Sub", "Mul", "Cast", "Identity", "Neg"):
        return None
    fact = n.fact(at[0])
    iota = fact.value
    assert isinstance(iota, Iota)
    axis = iota.axis + len(shape) - fact.rank
    if n.op == "Identity":
        return Iota(axis, iota.start, iota.step)
    if n.op == "Cast":
        whole = isinstance(iota.start, (int, Dim)) and isinstance(iota.step, int)
        keep = whole and ir.DataType(n.attr("to")) in (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.FLOAT)
        return Iota(axis, iota.start, iota.step) if keep else None
    if n.op == "Neg":
        return Iota(axis, -iota.start, -iota.step)
    other = n.fact(1 - at[0])
    b = _scalar(other)
    if b is None:
        return None
    if n.op == "Mul":
        return None if isinstance(b, Dim) else Iota(axis, iota.start * b, iota.step * b)
    if n.op == "Add":
        return Iota(axis, iota.start + b, iota.step)
    return Iota(axis, iota.start - b, iota.step) if at[0] == 0 else Iota(axis, b - iota.start, -iota.step)
