"""When every wire carries which frames: demand, delays, reach. Pure functions of the plans; no graph is changed.

* **Demand** runs backwards: which frames ``[low, high)`` of a wire any output frame of the batch model depends on.
  Padding nobody reads needs no mask, and a crop after a padded window takes the window's padding back.
* **Delay** runs forwards: ``d_out = max over needs of ceil((d_in + span - stride - before) / stride)``, the least
  there is. A wire whose end somebody pads must not run ahead of what is certain: ``d >= n*k - L(P*k)``.
* **Reach** runs forwards: output frame j depends on the stream frames ``[sigma*j - back, sigma*j - back + width)``,
  ``sigma`` stream frames per frame of the wire.

The formulation as a schedule is retiming (Leiserson and Saxe, 1991): all delays least, as soon as possible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil, lcm

import onnx_ir as ir

from pulsify.dim import DimLike, floor_div, law, slope
from pulsify.errors import InternalError, PulsifyError, Refusal
from pulsify.facts import UNIT, Fill, Iota, Need, Plan, Splice, Stream, Window
from pulsify.graph import Graph
from pulsify.ops._infer import view
from pulsify.ops._rule import find
from pulsify.prologue import Prologues
from pulsify.summaries import Summaries

__all__ = ["Demand", "Point", "Reach", "Schedule", "make_plans", "schedule"]

#: One time axis of one wire.
Point = tuple[ir.Value, int]


@dataclass(frozen=True, slots=True)
class Demand:
    """Frames ``[low, high)`` of a wire that some output frame depends on."""

    low: int
    high: DimLike


@dataclass(frozen=True, slots=True)
class Reach:
    """Stream frames ``[sigma*j - back, sigma*j - back + width)`` that frame j of a wire depends on.

    ``unbounded``: and, through a memory, on every frame before them.
    """

    sigma: Fraction
    back: Fraction
    width: Fraction
    unbounded: bool = False

    @property
    def lookahead(self) -> int:
        """Stream frames needed beyond the frame's own, at least 0."""
        return max(0, ceil(self.width - self.back - self.sigma))

    @property
    def receptive_field(self) -> int | None:
        """Stream frames the frame depends on; None where that is all before it."""
        return None if self.unbounded else ceil(self.width)


@dataclass(frozen=True, slots=True)
class Spliced:
    """A wire with frames beside the stream, as readers find it that make what they need from its source.

    Frames from ``splice.before`` on have the delay ``base``; an earlier one comes with a later one.
    """

    splice: Splice
    base: int
    reach: Reach

    @property
    def begins(self) -> bool:
        """Whether the frames beside the stream are nothing but what its history begins with: static ones in front of a
        stream that comes on time."""
        return self.splice.mode == "join" and self.splice.after == 0 and self.base + self.splice.before == 0

    def least_delay(self, w: Window) -> int:
        """The steady delay, and the wait of the first block for what its mirrored frames are made of."""
        steady = w.least_delay(self.base)
        first = max(0, -w.before)
        if self.splice.needs(first) == first:
            return steady
        return max(steady, w.up * -(-(self.base + self.splice.needs(first) + 1 - w.stride) // w.stride))


@dataclass
class Schedule:
    """The answer. ``masks`` tells of each Pad node whether its (start, end) must be written."""

    plans: Mapping[ir.Node, Plan]
    free: set[ir.Value]
    delays: dict[Point, int] = field(default_factory=dict)
    rates: dict[Point, Fraction] = field(default_factory=dict)
    reach: dict[Point, Reach] = field(default_factory=dict)
    demand: dict[Point, Demand] = field(default_factory=dict)
    masks: dict[ir.Node, tuple[bool, bool]] = field(default_factory=dict)
    #: Raised input delays: what a Pad that writes the end needs of its source.
    holds: dict[ir.Node, int] = field(default_factory=dict)
    #: Negative input delays: the last frames of a stream with static ones in front, which are announced.
    ahead: dict[ir.Node, int] = field(default_factory=dict)
    prologues: Prologues = field(default_factory=Prologues)
    splices: dict[Point, Spliced] = field(default_factory=dict)

    def reads_source(self, point: Point, node: ir.Node, plan: Plan) -> Spliced | None:
        """Whether a node makes what it needs of a spliced wire from that wire's source."""
        windows = plan.kind in ("op", "slice", "stride", "window") and not plan.consumes and node not in self.holds
        return self.splices.get(point) if windows or node in self.ahead else None

    def read(self, point: Point, node: ir.Node) -> int:
        """The delay at which a node reads what it takes frame by frame, or waits for its end with."""
        if node in self.ahead:
            return self.ahead[node]
        return max(self.delays[point], self.holds.get(node, self.delays[point]))


def make_plans(g: Graph, obstacles: list[PulsifyError] | None = None) -> dict[ir.Node, Plan]:
    """Every streaming node's region transform. Refuses by name, in the order of the graph, what has none and what reads
    a summary of the stream; with ``obstacles``, collects the refusals there."""
    plans = {}
    summaries = Summaries(g)
    for node in g.graph:
        try:
            if any(g.time_axes(v) for v in (*node.inputs, *node.outputs) if v is not None):
                rule = find(node.domain, node.op_type)
                assert rule is not None, "type refuses a streaming node without a rule"
                plans[node] = rule.plan(view(g, node, outputs=True))
            fault = summaries.see(node, plans.get(node))
            if fault is not None:
                raise fault
        except Refusal as e:
            if obstacles is None:
                raise
            obstacles.append(e)
    return plans


def free_wires(g: Graph, plans: Mapping[ir.Node, Plan]) -> set[ir.Value]:
    """Wires every frame of which is known from its index: provided at any delay."""
    free: set[ir.Value] = set()
    for node, plan in plans.items():
        streaming = [v for v in node.inputs if g.time_axes(v)]
        plain = all(need.window.unit for s in plan.streams for need in s.needs)
        derived = plan.kind in ("op", "free") and plain and all(v in free for v in streaming)
        for v in node.outputs:
            if g.time_axes(v) and (derived or isinstance(g.facts[v].value, (Fill, Iota))):
                free.add(v)
    return free


def schedule(g: Graph, plans: Mapping[ir.Node, Plan]) -> Schedule:
    """Demand, then delays as soon as possible.

    Where the frames that a negative delay announces cannot be computed when converting, the output waits for frame 0.
    """
    s = Schedule(plans, free_wires(g, plans))
    for v in g.graph.inputs:
        for axis in g.time_axes(v):
            rate = slope(g.length(v, axis), g.symbol)
            assert rate is not None
            s.rates[v, axis], s.delays[v, axis] = rate, 0
            s.reach[v, axis] = Reach(1 / rate, Fraction(0), max(1 / rate, Fraction(1)))
    for v in s.free:
        for axis in g.time_axes(v):
            rate = slope(g.length(v, axis), g.symbol)
            s.rates[v, axis] = rate if rate is not None else Fraction(0)
    _demand(g, s)
    for node, plan in plans.items():
        if not plan.consumes and all(v in s.free for v in node.outputs if g.time_axes(v)):
            continue
        if plan.kind == "custom":
            _anchor(g, s, node, plan)
        if plan.ends:
            _hold(g, s, node, plan)
        for stream in plan.streams:
            _delay(g, s, node, plan, stream)
    return s


def _demand(g: Graph, s: Schedule) -> None:
    for v in g.graph.outputs:
        for axis in g.time_axes(v):
            _ask(g, s, (v, axis), 0, g.length(v, axis))
    for node, plan in reversed(list(s.plans.items())):
        for stream in plan.streams:
            want = s.demand.get((node.outputs[stream.output], stream.axis))
            if want is None:
                continue
            for need in stream.needs:
                source = node.inputs[need.input]
                assert source is not None
                if plan.kind == "splice":
                    _ask(g, s, (source, need.axis), 0, g.length(source, need.axis))
                    continue
                w = need.window
                length = g.length(source, need.axis)
                high = w.end(want.high)
                if not g.assume.at_most(high, length):
                    high = length
                low = 0 if plan.memory else max(w.stride * (want.low // w.up) - w.before, 0)
                _ask(g, s, (source, need.axis), low, high)
        for need in plan.consumes:
            source = node.inputs[need.input]
            assert source is not None
            _ask(g, s, (source, need.axis), 0, g.length(source, need.axis))


def _ask(g: Graph, s: Schedule, point: Point, low: int, high: DimLike) -> None:
    old = s.demand.get(point)
    if old is not None:
        low = min(low, old.low)
        if g.assume.at_most(high, old.high):
            high = old.high
        elif not g.assume.at_most(old.high, high):
            high = g.length(*point)
    s.demand[point] = Demand(low, high)


def _delay(g: Graph, s: Schedule, node: ir.Node, plan: Plan, stream: Stream) -> None:
    out = node.outputs[stream.output]
    length = g.length(out, stream.axis)
    live = []
    for need in stream.needs:
        source = node.inputs[need.input]
        assert source is not None
        point = (source, need.axis)
        if source in s.free and (not need.window.unit or plan.kind == "splice"):
            # A window over frames made from nothing: they are provided as if they had been sent.
            s.delays.setdefault(point, 0)
            s.reach.setdefault(point, Reach(1 / s.rates[point], Fraction(0), Fraction(0)))
        if point in s.delays:
            live.append((need, point))
    if plan.kind == "pad":
        need, point = live[0]
        axis, before, after = plan.pad  # type: ignore[misc]
        if stream.axis == axis:
            _pad(g, s, node, point, before, after, (out, axis))
    rates = {_rate(s.rates[node.inputs[n.input], n.axis], n.window) for n in stream.needs}  # type: ignore[index]
    if slope(length, g.symbol) is None:
        raise Refusal(
            f"cannot pulsify {node.op_type} node {node.name!r} on axis {stream.axis}",
            why=f"its output is {length} frames long, which no rate in {g.symbol} gives: it treats streams that follow "
            "each other as one",
            wire=", ".join(g.describe(point[0]) for _, point in live),
            hint="keep the batch on an axis of its own in front of this node",
        )
    if len(rates) > 1 or (rates and slope(length, g.symbol) not in rates):
        raise InternalError(
            f"the rate of {node.op_type} node {node.name!r} is inconsistent",
            why=f"its inputs give {sorted(map(str, rates))} frames per frame of {g.symbol}, its type {length}",
        )
    rate = rates.pop() if rates else slope(length, g.symbol) or Fraction(0)
    _check_length(g, node, plan, stream, length)
    if plan.kind == "splice":
        _splice(g, s, plan, live[0][1], (out, stream.axis))
    delay = max((_least(s, node, plan, n, p, (out, stream.axis)) for n, p in live), default=0)
    if delay < 0 and not s.prologues.extend(g, node, plan, stream, delay):
        delay = 0
    s.delays[out, stream.axis], s.rates[out, stream.axis] = delay, rate
    if plan.kind == "splice":
        reach = _reach(s, [], rate, [(UNIT, s.splices[out, stream.axis])])
    else:
        spliced = [(n.window, s.reads_source(p, node, plan)) for n, p in live]
        plain = [(n.window, p) for n, p in live if s.reads_source(p, node, plan) is None]
        reach = _reach(s, plain, rate, [(w, x) for w, x in spliced if x is not None])
    s.reach[out, stream.axis] = replace(reach, unbounded=True) if plan.memory else reach


def _rate(rate: Fraction, w: Window) -> Fraction:
    """Frames that a window makes per frame of the stream, from those it is given."""
    return rate if w.up == w.stride else rate * w.up / w.stride


def _anchor(g: Graph, s: Schedule, node: ir.Node, plan: Plan) -> None:
    """A memory reads frames made from nothing as if they had been sent."""
    for need in (*plan.consumes, *(n for stream in plan.streams for n in stream.needs)):
        source = node.inputs[need.input]
        assert source is not None
        if source in s.free:
            s.delays.setdefault((source, need.axis), 0)
            s.reach.setdefault((source, need.axis), Reach(1 / s.rates[source, need.axis], Fraction(0), Fraction(0)))


def _least(s: Schedule, node: ir.Node, plan: Plan, need: Need, point: Point, out: Point) -> int:
    if plan.kind == "splice":
        return max(0, s.splices[out].least_delay(UNIT))
    spliced = s.reads_source(point, node, plan)
    if spliced is not None:
        return spliced.least_delay(need.window)
    return need.window.least_delay(s.read(point, node))


def _splice(g: Graph, s: Schedule, plan: Plan, source: Point, out: Point) -> None:
    """Where frames follow the last, none is sent before it is certain to be one of the stream's."""
    assert plan.splice is not None
    delay, r = s.delays[source], s.reach[source]
    if plan.splice.after != 0:
        delay = max(delay, certain_delay(g.length(*source), s.rates[source], g.symbol))
    before = plan.splice.before
    s.splices[out] = Spliced(plan.splice, delay - before, replace(r, back=r.back + r.sigma * before))


def _hold(g: Graph, s: Schedule, node: ir.Node, plan: Plan) -> None:
    """What a final result reads waits until it is certain to be part of the stream."""
    for need in (*plan.consumes, *(n for stream in plan.streams for n in stream.needs)):
        source = node.inputs[need.input]
        assert source is not None
        point = (source, need.axis)
        if point in s.delays:
            least = certain_delay(g.length(source, need.axis), s.rates[point], g.symbol)
            spliced = s.splices.get(point)
            if plan.last and spliced is not None and spliced.begins and least <= spliced.base:
                s.ahead[node] = spliced.base
                continue
            s.holds[node] = max(s.holds.get(node, 0), s.delays[point], least)


def _check_length(g: Graph, node: ir.Node, plan: Plan, stream: Stream, length: DimLike) -> None:
    """The length the region transform predicts is the one that ``type`` found on its own."""
    if plan.kind in ("slice", "stride", "free"):
        return
    for need in stream.needs:
        source = node.inputs[need.input]
        assert source is not None
        w, given = need.window, g.length(source, need.axis)
        if plan.splice is not None:
            predicted = given + plan.splice.before + plan.splice.after
        elif plan.kind == "pad" and plan.pad is not None and plan.pad[0] == stream.axis:
            predicted = given + plan.pad[1] + plan.pad[2]
        elif w.unit:
            predicted = given
        else:
            predicted = w.up * (floor_div(given + w.before - w.span, w.stride) + 1)
        if not g.assume.same(predicted, length):
            raise InternalError(
                f"the length of {node.op_type} node {node.name!r} is inconsistent",
                why=f"its region transform predicts {predicted} frames, its shape law {length}",
            )


def _pad(g: Graph, s: Schedule, node: ir.Node, source: Point, before: int, after: DimLike, out: Point) -> None:
    want = s.demand.get(out)
    length = g.length(*source)
    end = want is not None and after != 0 and not g.assume.at_most(want.high, length + before)
    if end:
        least = certain_delay(length, s.rates[source], g.symbol)
        s.holds[node] = max(s.delays[source], least)
    delay = s.holds.get(node, s.delays[source])
    start = want is not None and delay > 0 and before > want.low
    s.masks[node] = (start, end)


def certain_delay(length: DimLike, rate: Fraction, symbol: str) -> int:
    """Least d with ``n*k - d <= L(P*k)`` for all k: no frame is sent that a stream ending now would not have.

    P is a multiple of the denominator of the rate, so only such lengths count.
    """
    form = law(length, symbol)
    if form is None:
        raise Refusal(f"cannot stream a wire of {length} frames", why=f"its length has no linear law in {symbol}")
    step = rate.denominator
    worst = []
    for r in range(0, lcm(form.m, step), step):
        k, rest = divmod(r, form.m)
        worst.append(ceil(rate * r - (form.A * k + form.table[rest])))
    return max(worst)


def _reach(
    s: Schedule, needs: Iterable[tuple[Window, Point]], rate: Fraction, spliced: Iterable[tuple[Window, Spliced]] = ()
) -> Reach:
    needs, spliced = list(needs), list(spliced)
    if len(needs) == 1 and not spliced:
        ((w, point),) = needs
        if w.unit and s.rates[point] is rate:
            return s.reach[point]
    sigma = 1 / rate if rate else Fraction(1)
    back = ahead = None
    unbounded = False
    reads = [(w, s.reach[point], w.span - 1 - w.before) for w, point in needs]
    reads += [(w, x.reach, max(w.span - 1 - w.before, x.splice.needs(max(0, -w.before)))) for w, x in spliced]
    for w, r, last in reads:
        unbounded |= r.unbounded
        a = r.width - r.back + (r.sigma * last if last else 0)
        b = r.back + (r.sigma * w.before if w.before else 0) + (sigma * (w.up - 1) if w.up > 1 else 0)
        back = b if back is None else max(back, b)
        ahead = a if ahead is None else max(ahead, a)
    if back is None or ahead is None:
        return Reach(sigma, Fraction(0), Fraction(0))
    return Reach(sigma, back, ahead + back, unbounded)
