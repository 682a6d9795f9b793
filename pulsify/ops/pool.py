"""Pooling of any rank: ``out[j] = fold over k of in[s*j - b + dilation*k]``, 0 <= k < K, padding left out of the fold.

``ceil_mode`` adds a last partial window where it still begins in the data or the padding before it: the same as
``e = min(after + s - 1, w - 1)`` frames of padding behind the data, ``L_out = floor((L + b + e - w) / s) + 1``. Automatic
padding leaves no partial window.

Region transform on a spatial time axis: ``out [a, z) <- in [s*a - b, s*(z-1) - b + w)``. Padding along time is written
as a Pad before the pool (rewrites/plain_pools.py): the lowest number for a maximum, zero for a sum of powers. A mean
divides by the number of frames it counts, which is K in the middle of the stream; at its ends a Recount behind
the pool corrects the divisor:

    count[j] = A(high) - A(low),  A(v) = clip(ceil((v - (s*j - b)) / dilation), 0, K)

where frames ``[low, high)`` count: the data, and the padding too with ``count_include_pad`` (never what ``ceil_mode``
adds). A mean over causal padding so needs the position of a frame, and no knowledge of the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.dim import DimLike, parse
from pulsify.facts import Need, Plan, Stream, WireFact
from pulsify.ops._rule import NodeView, Rule, register
from pulsify.ops._windows import Geometry, geometry, window_length, window_stream

__all__ = ["Pool", "counted", "pool_windows"]


def pool_windows(n: NodeView) -> list[tuple[Geometry, int]]:
    """Per spatial axis the window with the padding of ``ceil_mode`` counted in, and the padding behind without it."""
    kernel = n.attr("kernel_shape")
    if kernel is None:
        n.refuse("it has no kernel_shape")
    same = n.attr("auto_pad", "NOTSET").startswith("SAME")
    if same and max(n.attr("dilations", (1,))) > 1:
        n.refuse(
            "its automatic padding is ambiguous with dilation: runtimes disagree on it",
            hint="export the model with explicit padding",
        )
    out = []
    for g in geometry(n, kernel):
        after = g.after
        if n.attr("ceil_mode", 0) and not same:
            g = Geometry(g.axis, g.kernel, g.stride, g.dilation, g.before, min(after + g.stride - 1, g.span - 1))
        out.append((g, after))
    return out


def counted(first: Any, high: Any, kernel: int, dilation: int) -> Any:
    """A(high): how many of ``first + dilation*k``, 0 <= k < K, lie below ``high``."""
    return np.clip(-((first - high) // dilation), 0, kernel)


class Pool(Rule):
    """Time on any spatial axis, in the channels or in the batch."""

    status, note = "conditions", "automatic padding without dilation; the indices of a MaxPool must not be used"

    def infer(self, n: NodeView) -> list[WireFact]:
        x = n.shape(0)
        spatial = [window_length(n, x[g.axis], g) for g, _ in pool_windows(n)]
        shape = (*x[:2], *spatial)
        facts = [WireFact(n.fact(0).dtype, shape), WireFact(ir.DataType.INT64, shape)]
        return facts[: len(n.node.outputs)]

    def plan(self, n: NodeView) -> Plan:
        time = n.streaming(0)
        if len(n.node.outputs) > 1:
            n.refuse(
                "its second output holds indices into the whole stream, and is used",
                axis=time[0],
                hint="use only the first output, or ArgMax over another axis",
            )
        streams: list[Stream] = []
        windows = {g.axis: g for g, _ in pool_windows(n)}
        for axis in time:
            if axis < 2:
                streams.append(Stream(0, axis, (Need(0, axis),)))
                continue
            g = windows[axis]
            assert not g.before and not g.after, "declutter writes padding along time as a Pad"
            streams.append(window_stream(axis, g))
        return Plan(tuple(streams))


class Recount(Rule):
    """``out[j] = in[j] * K / count[j]``: a mean over K divided by what counts instead."""

    domain, status = "pulsify", "pseudo"

    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        return [WireFact(f.dtype, f.shape)]

    def plan(self, n: NodeView) -> Plan:
        streams = tuple(Stream(0, a, (Need(0, a),)) for a in n.streaming(0))
        return Plan(
            streams, kind="custom", lower=lambda low: [_recount(low, n)], evaluate=lambda arrays: [_first(arrays[0], n)]
        )


def _first(frames: Any, n: NodeView) -> Any:
    """The first frames, before any end can be near."""
    axis, kernel, dilation = n.attr("axis"), n.attr("kernel"), n.attr("dilation")
    at = n.attr("stride") * np.arange(frames.shape[axis]) - n.attr("before")
    count = kernel - counted(at, n.attr("low"), kernel, dilation)
    factor = (kernel / np.maximum(count, 1)).astype(frames.dtype)
    return frames * factor.reshape([-1 if a == axis else 1 for a in range(frames.ndim)])


def _recount(low: Any, n: NodeView) -> Any:
    axis, kernel, dilation, before = (n.attr(k) for k in ("axis", "kernel", "dilation", "before"))
    dtype = low.facts[0].dtype
    limit, asked = parse(n.attr("high")), low.demand(0, axis)
    high: DimLike | None = limit
    if asked is None or n.assume.at_most(n.attr("stride") * (asked.high - 1) - before + (kernel - 1) * dilation + 1, limit):
        high = None
    start = n.attr("low") > -before
    if high is None and not start:
        return low.inputs[0]
    at = low.position(0, axis)
    if n.attr("stride") != 1:
        at = low.op("Mul", [at, low.const(n.attr("stride"))], "first")

    def room(limit: ir.Value) -> Any:
        """A(limit), not clipped to K."""
        left = low.op("Sub", [limit, at], "room")
        if dilation == 1:
            return left
        return low.op("Div", [low.op("Max", [left, low.const(0)], "room"), low.const(dilation)], "room")

    shift = before + dilation - 1
    count = low.const(kernel)
    if high is not None:
        end = low.length(high, low.facts[0].rank, low.batch_axis(low.facts[0].shape))
        count = low.op("Min", [room(low.op("Add", [end, low.const(shift)], "limit") if shift else end), count], "counted")
    if start:
        missing = low.op("Max", [room(low.const(n.attr("low") + shift)), low.const(0)], "missing")
        count = low.op("Sub", [count, missing], "counted")
    if dilation > 1:
        # A window between the frames of a very short stream counts nothing.
        count = low.op("Max", [count, low.const(1)], "counted")
    count = low.op("Cast", [count], "count", to=dtype)
    factor = low.op("Div", [low.const(kernel, dtype.numpy()), count], "factor")
    return low.op("Mul", [low.inputs[0], factor], "recounted")


register(Pool(), "MaxPool", "AveragePool", "LpPool")
register(Recount(), "Recount")
