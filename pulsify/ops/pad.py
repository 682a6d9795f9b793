"""Padding: ``out[j] = in[j - b] if 0 <= j - b < L else v``, or a frame of the input by ``mode``.

Constant, region transform on time: ``out [a, e) <- in [a - b, e - b)``; the data does not move, its delay does:
``d - b``. A mask writes v where frames outside the stream were sent. Negative amounts crop.

Edge and reflect: ``out[j] = in[m(j - b)]`` with ``m(i) = clip(i, 0, L - 1)``, or i mirrored at 0 and L - 1. A reader takes
what it needs from the input (stages/_splices.py). A window that begins at frame ``f < b`` waits for input frame 0
(edge) or ``b - f`` (reflect), no longer; padding after the stream waits for what is certain to be part of it. The history
is the window's own, unless it is shorter than the padding at the end, or than twice that (``Splice.behind``).
"""

from __future__ import annotations

import numpy as np

from pulsify.dim import Dim, DimLike, slope
from pulsify.facts import Fill, Need, Plan, Splice, Stream, Window, WireFact
from pulsify.ops._rule import NodeView, Rule, register


def pad_amounts(n: NodeView) -> list[tuple[DimLike, DimLike]]:
    """(before, after) for every axis of input 0."""
    rank = n.fact(0).rank if n.fact(0).shape is not None else n.refuse("its rank is unknown")
    pads = n.ints(1) if len(n.inputs) > 1 else n.attr("pads", n.attr("paddings"))
    axes = n.const_ints(3)
    where = list(range(rank)) if axes is None else [n.axis(a, rank) for a in axes]
    if pads is None or len(pads) != 2 * len(where):
        n.refuse(f"{0 if pads is None else len(pads)} pad amounts for {len(where)} axes")
    out: list[tuple[DimLike, DimLike]] = [(0, 0)] * rank
    for i, a in enumerate(where):
        out[a] = (pads[i], pads[i + len(where)])
    return out


def pad_constant(n: NodeView) -> object:
    """The fill value as a Python number, or None where it is not a constant."""
    f = n.optional(2)
    if f is None:
        return n.attr("value", 0)
    array = f.array()
    return None if array is None else array.reshape(-1)[0]


class Pad(Rule):
    status, note = "conditions", "along time: constant mode with a known value, edge and reflect; not wrap"

    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        amounts = pad_amounts(n)
        shape = tuple(d + b + a for d, (b, a) in zip(n.shape(0), amounts, strict=True))
        mode = n.attr("mode", "constant")
        for d, (b, a) in zip(n.shape(0), amounts, strict=True):
            for pad in (b, a):
                if mode in ("edge", "reflect") and isinstance(d, Dim) and pad != 0 and (isinstance(pad, Dim) or pad > 0):
                    # The batch model is not defined for fewer frames.
                    n.assume.ge(d, pad + 1 if mode == "reflect" else 1, n.name)
        return [WireFact(f.dtype, shape, f.value if mode in ("edge", "reflect") and isinstance(f.value, Fill) else None)]

    def plan(self, n: NodeView) -> Plan:
        amounts = pad_amounts(n)
        time = n.streaming(0)
        moved = [a for a in time if amounts[a] != (0, 0)]
        if not moved:
            return Plan(tuple(Stream(0, a, (Need(0, a),)) for a in time))
        (axis,) = moved[:1]
        before, after = amounts[axis]
        mode = n.attr("mode", "constant")
        if mode not in ("constant", "edge", "reflect"):
            n.refuse(
                f"{mode} padding along time reads the stream's other end",
                axis=axis,
                hint="export with constant, edge or reflect padding, or pad the stream before feeding it",
            )
        if isinstance(before, Dim):
            n.refuse(f"it pads {before} frames before the stream, which is unknown at its start", axis=axis)
        if slope(after, n.symbol) != 0:
            n.refuse(f"it pads {after} frames after the stream, more the longer it is", axis=axis)
        if any(amounts[a] != (0, 0) for a in range(len(amounts)) if a != axis):
            n.refuse("it pads other axes too, by amounts that are not constant", axis=axis, hint="pad one axis at a time")
        streams = tuple(
            Stream(0, a, (Need(0, a, Window(before=int(before)) if a == axis else Window()),)) for a in time
        )
        if mode != "constant":
            if len(time) > 1:
                n.refuse(f"{mode} padding of a wire with two time axes is not supported", axis=axis)
            if before < 0:
                n.refuse(f"it crops {-before} frames and pads {after}", axis=axis, hint="crop with a Slice of its own")
            return Plan(streams, kind="splice", splice=Splice(mode, int(before), after))
        value = pad_constant(n)
        if value is None:
            n.refuse("its fill value is not a constant", axis=axis, hint="bind the value when exporting the model")
        return Plan(streams, kind="pad", pad_value=np.asarray(value), pad=(axis, int(before), after))


register(Pad(), "Pad")
