"""The time structure of a model: what each layer reaches, where the delay comes from, where the memory goes.

The delays are those of the schedule as soon as possible (:mod:`pulsify.schedule`): the outputs' are the conversion's own,
an inner wire may be kept back further in the pulsed graph to save memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import onnx_ir as ir

from pulsify.api import Conversion
from pulsify.facts import Plan, Window
from pulsify.graph import Graph
from pulsify.pipeline import Options, run
from pulsify.replay import axis_of
from pulsify.schedule import Point, Schedule, make_plans, schedule

__all__ = ["Anatomy", "Layer", "Link", "anatomy", "state_rows"]


@dataclass(frozen=True)
class Layer:
    """A node over time and its first streaming output.

    ``rate`` is frames of the wire per frame of the stream symbol, ``delay`` in frames of the wire. Its frame at stream
    time t depends on the stream from ``t - back`` to ``t + ahead`` (frames of the symbol; ``unbounded``: and all before).
    ``reads`` is what it reads over time, in words; '' where it is pointwise in time.
    """

    name: str
    op: str
    wire: str
    shape: tuple[str, ...]
    axis: int
    rate: Fraction
    delay: int
    back: Fraction
    ahead: Fraction
    unbounded: bool
    reads: str

    @property
    def late(self) -> Fraction:
        """The delay in frames of the stream symbol."""
        return self.delay / self.rate if self.rate else Fraction(0)


@dataclass(frozen=True)
class Link:
    """One node of the chain that makes an output late: it adds ``adds`` frames of the symbol (negative: gives some back)."""

    node: str
    op: str
    adds: Fraction
    total: Fraction
    reads: str


@dataclass
class Anatomy:
    """``chains`` per output, from the input on, nodes that add nothing left out; ``readers`` of each wire by name."""

    symbol: str
    layers: list[Layer] = field(default_factory=list)
    chains: dict[str, list[Link]] = field(default_factory=dict)
    readers: dict[str, list[str]] = field(default_factory=dict)


def anatomy(c: Conversion) -> Anatomy:
    """Look into a conversion's batch model, decluttered."""
    g = run(c.source, Options(axis_of(c.manifest, c.source)), until="declutter")
    plans = make_plans(g)
    s = schedule(g, plans)
    out = Anatomy(g.symbol)
    for node in g.graph:
        plan = plans.get(node)
        if plan is None:
            continue
        for v in node.inputs:
            if v is not None and v.name and g.time_axes(v):
                out.readers.setdefault(v.name, []).append(node.name or "")
        layer = _layer(g, s, node, plan)
        if layer is not None:
            out.layers.append(layer)
    trail = _trails(s)
    for v in g.graph.outputs:
        for axis in g.time_axes(v):
            if (v, axis) in s.delays:
                out.chains[v.name or ""] = _chain(s, trail, (v, axis))
    return out


def _layer(g: Graph, s: Schedule, node: ir.Node, plan: Plan) -> Layer | None:
    for stream in plan.streams:
        wire = node.outputs[stream.output]
        point = (wire, stream.axis)
        shape = g.facts[wire].shape
        if point not in s.delays or point not in s.reach or shape is None:
            continue
        r, rate = s.reach[point], s.rates[point]
        return Layer(
            node.name or "", node.op_type, wire.name or "", tuple(map(str, shape)), stream.axis, rate, s.delays[point],
            r.back, r.width - r.back - r.sigma, r.unbounded, _reads(plan, stream.axis),
        )  # fmt: skip
    return None


def _reads(plan: Plan, axis: int) -> str:
    """What a node reads over time, in a few words."""
    if plan.kind == "pad" and plan.pad is not None:
        return f"pads {plan.pad[1]} before, {plan.pad[2]} after" if plan.pad[0] == axis else ""
    if plan.splice is not None:
        return f"{plan.splice.mode}: {plan.splice.before} before, {plan.splice.after} after"
    words = ["remembers all before"] if plan.memory or plan.consumes else []
    for stream in plan.streams:
        windows = {n.window for n in stream.needs if n.window != Window()} if stream.axis == axis else set()
        for w in sorted(windows, key=lambda w: (w.span, w.stride, w.before)):
            if w.span == 1 and w.stride == 1 and w.up == 1:
                words.append(f"drops the first {-w.before}" if w.before < 0 else f"{w.before} before")
                continue
            text = f"window of {w.span}"
            text += f", step {w.stride}" if w.stride != 1 else ""
            text += f", {w.before} of it before" if w.before > 0 else f", {-w.before} later" if w.before < 0 else ""
            words.append(text + (f", makes {w.up}" if w.up != 1 else ""))
    return "; ".join(dict.fromkeys(words))


def _trails(s: Schedule) -> dict[Point, Point]:
    """For every late wire, the input that its node waits for. Where several ask for the same delay, the one on whose way
    windows account for most of it: a branch that is cut to fit the others is their consequence, not the cause."""
    trail: dict[Point, Point] = {}
    earned: dict[Point, Fraction] = {}
    for node, plan in s.plans.items():
        for stream in plan.streams:
            point = (node.outputs[stream.output], stream.axis)
            if point not in s.delays:
                continue
            asks = [
                (_asked(s, node, plan, need.window, (source, need.axis)), earned.get((source, need.axis), Fraction(0)), (source, need.axis))
                for need in stream.needs
                if (source := node.inputs[need.input]) is not None and (source, need.axis) in s.delays
            ]
            if asks:
                _, known, source_point = max(asks, key=lambda a: a[:2])
                trail[point] = source_point
                adds = _late(s, point) - _late(s, source_point)
                earned[point] = known if plan.kind == "slice" else known + adds
    return trail


def _chain(s: Schedule, trail: Mapping[Point, Point], point: Point) -> list[Link]:
    """The nodes whose needs make a wire as late as it is, from the input on."""
    links: list[Link] = []
    while point in trail:
        node, source = point[0].producer(), trail[point]
        assert node is not None
        total = _late(s, point)
        links.append(Link(node.name or "", node.op_type, total - _late(s, source), total, _reads(s.plans[node], point[1])))
        point = source
    return [link for link in reversed(links) if link.adds]


def _asked(s: Schedule, node: ir.Node, plan: Plan, window: Window, source: Point) -> int:
    """The least output delay that one input asks for."""
    spliced = s.reads_source(source, node, plan)
    if spliced is not None:
        return spliced.least_delay(window)
    return window.least_delay(s.read(source, node))


def _late(s: Schedule, point: Point) -> Fraction:
    rate = s.rates[point]
    return s.delays[point] / rate if rate else Fraction(0)


def state_rows(manifest: Mapping[str, Any], readers: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    """The states of a manifest, the largest first: ``state``, ``kind``, ``shape``, ``dtype``, ``bytes`` at batch 1, the
    wire or node it is of, and the nodes that read that wire."""
    import numpy as np

    rows = []
    for s in manifest["states"]:
        size = int(np.prod([d if isinstance(d, int) else 1 for d in s["shape"]], dtype=np.int64))
        rows.append(
            {
                "state": s["input"].removeprefix("past_"),
                "kind": s["kind"],
                "shape": s["shape"],
                "dtype": s["dtype"],
                "bytes": size * np.dtype(s["dtype"]).itemsize,
                "of": s["origin"],
                "readers": readers.get(s["origin"], []),
            }
        )
    return sorted(rows, key=lambda r: -r["bytes"])
