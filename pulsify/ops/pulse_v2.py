"""The pseudo-operators of a pulsed graph, and their shape laws on what one pulse holds.

============== =======================================================================================
PulseV2Buffer  adds history (``overlap``) and ``delay`` to a wire: frames ``[n*T - d - delay - overlap, ..)``; a second
               input is what the history ends with before the first pulse
PulseV2Pad     writes a value where frames lie outside the stream; moves the delay back by ``before``
PulseV2Slice   nothing but bookkeeping: the delay grows by ``start``
Delay          all histories of one wire in one state; one output per view, and per number of ``last`` frames
Last           the last real frames so far
Mask           writes a value where frames lie outside the stream
Position       the index of every frame of a pulse, per batch row
Valid          which frames of a pulse are real, per batch row
Started        whether a batch row has had a pulse before
Bound          where in a pulse the real frames begin, or end, per batch row
Source         which frame of a region each frame of a pulse is read from, per batch row
Length         a length law at the real frames so far, per batch row
Take           frames of a wire by the numbers of a Source, broadcast over the other axes
Count          real frames so far on a wire, per batch row
State          a state's past
Store          a state's present
============== =======================================================================================
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.dim import DimLike, parse
from pulsify.facts import WireFact
from pulsify.graph import DOMAIN
from pulsify.ops._rule import NodeView, Rule, register


class Pseudo(Rule):
    domain = DOMAIN
    status = "pseudo"


class SameShape(Pseudo):
    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        return [WireFact(f.dtype, f.shape)]


class Buffer(Pseudo):
    def infer(self, n: NodeView) -> list[WireFact]:
        f, axis = n.fact(0), n.attr("axis")
        views = zip(_many(n.attr("delay")), _many(n.attr("overlap")), strict=True)
        sizes = [*(n.shape(0)[axis] + o for _, o in views), *n.attr("last", ())]
        return [WireFact(f.dtype, tuple(s if a == axis else d for a, d in enumerate(n.shape(0)))) for s in sizes]


class Shaped(Pseudo):
    """Its shape is its attribute."""

    def __init__(self, dtype: ir.DataType):
        self.dtype = dtype

    def infer(self, n: NodeView) -> list[WireFact]:
        return [WireFact(self.dtype, tuple(_dim(d) for d in n.attr("shape", ())))]


class Shown(Pseudo):
    """Its shape is its attribute, its type its input's."""

    def infer(self, n: NodeView) -> list[WireFact]:
        return [WireFact(n.fact(0).dtype, tuple(_dim(d) for d in n.attr("shape")))]


class Store(Pseudo):
    def infer(self, n: NodeView) -> list[WireFact]:
        return []


class State(Pseudo):
    def infer(self, n: NodeView) -> list[WireFact]:
        return [WireFact(ir.DataType(n.attr("dtype")), tuple(_dim(d) for d in n.attr("shape")))]


def _many(v: int | tuple[int, ...]) -> tuple[int, ...]:
    return v if isinstance(v, tuple) else (v,)


def _dim(text: str | int) -> DimLike:
    return parse(str(text))


register(SameShape(), "PulseV2Pad", "PulseV2Slice", "Mask")
register(Buffer(), "PulseV2Buffer", "Delay")
register(Shaped(ir.DataType.INT64), "Position", "Length", "Count", "Bound", "Source")
register(Shaped(ir.DataType.BOOL), "Valid", "Started")
register(Shown(), "Take", "Last")
register(Store(), "Store")
register(State(), "State")
