"""Where an operator under test sits: alone, behind a delay, before a merge, between pads, at the end of the stream.

An operator is a function ``op(g, *wires) -> wire`` along a time axis. :func:`verify` builds a model around it and
runs the one contract check on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.api import Conversion
from tests.contract_check import check, check_least_delay
from tests.graphs import G

__all__ = ["CONTEXTS", "batches", "build", "contexts", "cut", "pad", "pulses", "verify", "window"]

Op = Callable[..., str]

#: alone; behind a delay of 3; behind padding that announces frames; behind a mask on both ends; before a merge of
#: two delays; between a window and a window over padding; before a merge with its own causal padding.
CONTEXTS = ("alone", "late", "early", "masked", "merged", "padded", "causal")

contexts = st.sampled_from(CONTEXTS)
batches = st.sampled_from(["N", 1, 2])


@st.composite
def pulses(draw: st.DrawFn) -> tuple[int | str, ...]:
    """One fixed pulse, or one fixed and the dynamic one."""
    fixed = draw(st.sampled_from([1, 2, 3, 5, 8]))
    return (fixed, "P") if draw(st.booleans()) else (fixed,)


def cut(g: G, x: str, axis: int, start: int = 0, end: int = 0) -> str:
    """``x[start : len - end]`` along the axis."""
    stop = g.ints(-end if end else 2**63 - 1)
    return g("Slice", x, g.ints(start), stop, g.ints(axis))


def pad(g: G, x: str, axis: int, rank: int, before: int, after: int, value: float = 0.0, dtype: Any = np.float32) -> str:
    """Constant padding along the axis."""
    amounts = [0] * (2 * rank)
    amounts[axis], amounts[axis + rank] = before, after
    extra = [] if value == 0 else [g.const(value, dtype)]
    return g("Pad", x, g.ints(*amounts), *extra)


def window(g: G, x: str, axis: int) -> str:
    """A difference of frames two apart: a window of 3, whatever the rank."""
    return g("Sub", cut(g, x, axis, 2), cut(g, x, axis, 0, 2))


def _arrive(g: G, context: str, x: str, k: int, axis: int, rank: int, fill: float, dtype: Any) -> str:
    """Input k as it arrives at the operator; all inputs have one length, not one delay."""
    if context == "late":
        return cut(g, x, axis, 3) if k == 0 else cut(g, x, axis, 0, 3)
    if context == "early":
        return pad(g, x, axis, rank, *((2, 0) if k == 0 else (0, 2)), fill, dtype)
    if context == "masked":
        return pad(g, cut(g, x, axis, 3), axis, rank, 1, 2, fill, dtype) if k == 0 else x
    return x


def build(
    op: Op,
    shape: Sequence[Any],
    context: str = "alone",
    *,
    axis: int = -1,
    out: int | None = None,
    rank: int | None = None,
    inputs: int = 1,
    dtype: int = TensorProto.FLOAT,
    result: int = TensorProto.FLOAT,
    fill: float = 0.0,
    opset: int = 18,
    seed: int = 0,
) -> onnx.ModelProto:
    """A model with the operator in the context. ``out`` and ``rank`` tell of its output, where they differ."""
    g = G(seed, opset)
    axis = axis % len(shape)
    out, rank = axis if out is None else out, len(shape) if rank is None else rank
    wires = [g.input(f"x{k}", list(shape), dtype) for k in range(inputs)]
    kind = onnx.helper.tensor_dtype_to_np_dtype(dtype)
    y = op(g, *(_arrive(g, context, x, k, axis, len(shape), fill, kind) for k, x in enumerate(wires)))
    if context in ("alone", "late", "early", "masked"):
        return g.model(y, **{y: result})
    if result != TensorProto.FLOAT:
        y = g("Cast", y, to=TensorProto.FLOAT)
    if context == "merged":
        y = g("Add", window(g, y, out), cut(g, y, out, 1, 1))
    elif context == "padded":
        y = window(g, pad(g, window(g, y, out), out, rank, 1, 2, fill), out)
    else:
        assert context == "causal", context
        y = g("Add", window(g, pad(g, y, out, rank, 2, 0, fill), out), y)
    return g.model(y)


def verify(
    op: Op,
    shape: Sequence[Any],
    context: str = "alone",
    at: Sequence[int | str] = (1, 3, "P"),
    *,
    multiple: int = 1,
    least: bool = True,
    ints: int = 3,
    **kw: Any,
) -> Conversion:
    """Contract check, and that no smaller delay would do. ``multiple`` is what every pulse must be one of."""
    model = build(op, shape, context, **kw)
    c = check(model, "S", [p if isinstance(p, str) else p * multiple for p in at], ints=ints)
    assert multiple % c.manifest["pulse_multiple"] == 0, c.manifest["pulse_multiple"]
    if least:
        check_least_delay(model)
    return c
