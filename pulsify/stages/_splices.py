"""Reading a wire with frames beside the stream: edge and reflect padding, static frames joined before and after.

Static frames in front of a stream that comes on time are what its history begins with: frame i of the joined wire is frame
``i - p`` of its source, so a region of delay d is one of delay ``d + p`` of the source, and its buffer holds, before the
first pulse, the frames ``[p - H, p)``. One state serves all readers.

Frame i of any other such a wire is frame ``m(i)`` of its source (or of a static tensor). Nothing is stored of it: every region a
reader asks for is gathered from the source, which keeps as much history as its windows reach back (``Splice.behind``). A frame that
does not exist as if the stream ended now is one that the end makes (:mod:`pulsify.schedule` sees to it that none is
made too early), so one rule is exact at both ends, per batch row, at any pulse.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from pulsify.dim import DimLike, sym
from pulsify.facts import AxisRegion, WireFact
from pulsify.graph import DOMAIN, shape_attribute

if TYPE_CHECKING:
    from pulsify.stages._wires import Wires

__all__ = ["spliced"]


def spliced(b: Wires, v: ir.Value, axis: int, delay: int, overlap: int, behind: int, until: str = "") -> ir.Value:
    """Frames ``[n*T - delay - overlap, n*(T+1) - delay)`` of the spliced wire v, read from so many frames behind the first
    one on (:func:`pulsify.splices.history`). ``until``: see ``Wires.behind``."""
    key = ("spliced", v, axis, delay, overlap, behind, until)
    if key not in b.made:
        node = v.producer()
        assert node is not None
        (k,) = (need.input for stream in b.s.plans[node].streams for need in stream.needs)
        source = node.inputs[k]
        assert source is not None
        if b.g.batch is not None and b.g.batch_axis(b.g.facts[v].shape) is None:
            raise b.refuse(
                node, "its batch axis is merged with another or missing, and each stream begins and ends at its own time", source
            )
        begins = b.s.splices[v, axis].begins
        b.made[key] = (
            _begun(b, v, source, axis, delay, overlap, until) if begins else _make(b, v, source, axis, delay, overlap, behind)
        )
    return b.made[key]


def _begun(b: Wires, v: ir.Value, source: ir.Value, axis: int, delay: int, overlap: int, until: str) -> ir.Value:
    """The history of a stream that begins with static frames."""
    node, splice, fact = v.producer(), b.s.splices[v, axis].splice, b.g.facts[v]
    assert node is not None and fact.shape is not None
    first = _first(b, v, axis)
    wire = b.arrives(source, axis, node)
    region = {axis: AxisRegion(b.s.rates[v, axis], delay, overlap)}
    attributes = {"axis": axis, "delay": delay + splice.before, "overlap": overlap, "reads_zeros": 0}
    return b.op(
        "PulseV2Buffer", [wire, first], f"{v.name}.spliced", fact, region, DOMAIN, **attributes, **({"until": until} if until else {})
    )


def _first(b: Wires, v: ir.Value, axis: int) -> ir.Value:
    """The static frames in front, in one wire."""
    key = ("first", v, axis)
    if key not in b.made:
        node, splice, fact = v.producer(), b.s.splices[v, axis].splice, b.g.facts[v]
        assert node is not None and fact.shape is not None
        pieces = [k for k in splice.first if b.g.facts[node.inputs[k]].shape[axis] != 0]  # type: ignore[index]
        wires: list[ir.Value | None] = [b.joined(node, k) for k in pieces]
        shape = tuple(splice.before if a == axis else d for a, d in enumerate(fact.shape))
        b.made[key] = wires[0] if len(wires) == 1 else b.op("Concat", wires, f"{v.name}.first", WireFact(fact.dtype, shape), axis=axis)  # type: ignore[assignment]
    return b.made[key]


def _make(b: Wires, v: ir.Value, source: ir.Value, axis: int, delay: int, overlap: int, behind: int) -> ir.Value:
    g, s = b.g, b.s
    node, splice = v.producer(), s.splices[v, axis].splice
    assert node is not None
    fact, shape = g.facts[v], g.facts[v].shape
    assert shape is not None
    batch = g.batch_axis(shape)
    have = s.delays[source, axis]
    history = max(delay + overlap + behind, have)
    wire = b.arrives(source, axis, node)
    wire = b.behind(source, axis, 0, history - have, node, wire)
    first, last = ([b.joined(node, k) for k in ks] for ks in (splice.first, splice.last))
    region = AxisRegion(s.rates[v, axis], delay, overlap)
    if first or last:
        # What the pieces hold together is nobody's region; only the gathered frames are.
        wire = b.op("Concat", [*first, wire, *last], f"{v.name}.pieces", WireFact(fact.dtype, None), axis=axis)
    place: list[DimLike] = [1] * (1 if batch is None else fact.rank)
    time = 0 if batch is None else axis
    place[time] = b.new.frames(region)
    if batch is not None and g.batch is not None:
        place[batch] = sym(g.batch)
    index = b.op(
        "Source", [], f"{v.name}.source", WireFact(ir.DataType.INT64, None), None, DOMAIN,
        rate=str(region.rate), delay=delay, overlap=overlap, mode=splice.mode, before=splice.before,
        after=str(splice.after), length=str(g.facts[source].shape[axis]), history=history, kept=history - have,  # type: ignore[index]
        shape=shape_attribute(place), time=time, batch=-1 if batch is None else batch,
    )  # fmt: skip
    regions = {axis: region}
    pulsed = [place[time] if a == axis else d for a, d in enumerate(shape)]
    return b.take(wire, index, axis, batch, pulsed, f"{v.name}.spliced", fact, regions, node)
