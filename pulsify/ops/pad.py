"""Constant padding: ``out[j] = in[j - b] if 0 <= j - b < L else v``.

Region transform on time: ``out [a, e) <- in [a - b, e - b)``; the data does not move, its delay does: ``d - b``.
A mask writes v where frames outside the stream were sent. Negative amounts crop.
"""

from __future__ import annotations

import numpy as np

from pulsify.dim import Dim, DimLike, slope
from pulsify.facts import Need, Plan, Stream, Window, WireFact
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
    status, note = "conditions", "along time: constant mode with a known value"

    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        shape = tuple(d + b + a for d, (b, a) in zip(n.shape(0), pad_amounts(n), strict=True))
        return [WireFact(f.dtype, shape)]

    def plan(self, n: NodeView) -> Plan:
        amounts = pad_amounts(n)
        time = n.streaming(0)
        moved = [a for a in time if amounts[a] != (0, 0)]
        if not moved:
            return Plan(tuple(Stream(0, a, (Need(0, a),)) for a in time))
        (axis,) = moved[:1]
        before, after = amounts[axis]
        mode = n.attr("mode", "constant")
        if mode != "constant":
            n.refuse(
                f"{mode} padding along time is not supported",
                axis=axis,
                hint="export with constant padding, or pad the stream before feeding it",
            )
        if isinstance(before, Dim):
            n.refuse(f"it pads {before} frames before the stream, which is unknown at its start", axis=axis)
        if slope(after, n.symbol) != 0:
            n.refuse(f"it pads {after} frames, which grows with the stream", axis=axis)
        value = pad_constant(n)
        if value is None:
            n.refuse("its fill value is not a constant", axis=axis, hint="bind the value when exporting the model")
        others = any(amounts[a] != (0, 0) for a in range(len(amounts)) if a != axis)
        assert not others, "declutter splits a Pad per axis"
        streams = tuple(
            Stream(0, a, (Need(0, a, Window(before=int(before)) if a == axis else Window()),)) for a in time
        )
        return Plan(streams, kind="pad", pad_value=np.asarray(value), pad=(axis, int(before), after))



register(Pad(), "Pad")
