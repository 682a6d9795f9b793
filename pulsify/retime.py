"""Delays chosen for the least memory: the schedule moved from as soon as possible to where its buffers are smallest.

A wire w of delay d_w costs ``bytes per frame * H_w``, where a reader of stride s, left padding b and blocks of ``up``
frames reaches ``s*d_o/up + b - d_w`` frames behind what arrives, and one buffer serves all readers:

    minimise    sum over w of  bytes(w) * max(0, max over readers o of (s*d_o/up + b - d_w))
    subject to  s*d_o/up >= d_w + span - s - b          a window waits for its last frame
                d_o = 0 modulo up,  d >= as soon as possible,  d of an output as it is

(Leiserson and Saxe, *Retiming synchronous circuitry*, 1991, with fanout shared.) So the program decides whether a delay
sits before or behind a layer that widens or narrows, and which branch waits where.

**What is one wire.** A slice along time and a padding that writes nothing move the delay and not the data: their output
is the wire of their source, a fixed number of frames apart. That costs nothing: histories of a wire and of a delayed
copy of it add up, those of one wire share. The same holds for a padding that writes, where it is the only one of its
wire and frames coincide; others make a wire of their own. Frames that are announced (a negative delay) and not zero
are the initial content of a buffer that others cannot share.

**What does not move.**
 * Outputs, and what a running result reads: its last frame, and ``settle``, stay.
 * A wire that, later than 0, would need a mask where it needs none: the source of a padding that somebody reads, the input
   of a memory. (At a delay above 0 the mask is there, and moves along.)
 * Wires with two time axes, with the batch merged into another axis, beside spliced frames, or made from nothing, and
   whatever reads or makes one of the first two.
 * Where the same node gives several outputs, they move together.

**Why the optimum.** Any schedule that :mod:`pulsify.schedule` may give differs from the least one in delays only, keeps
the constraints above (they are what each node waits for), and its buffers, merged per wire, hold exactly H_w frames;
:mod:`pulsify._program` solves that exactly, and gives the least of all optimal schedules. Within what does not move, the
bytes are therefore the least there are, and no output is later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import lcm, prod

import numpy as np
import onnx_ir as ir

from pulsify._program import Affine, Problem, Wire, solve
from pulsify.dim import sym
from pulsify.facts import Need, Plan, Window
from pulsify.graph import Graph, captured
from pulsify.schedule import Point, Schedule
from pulsify.splices import history

__all__ = ["Retiming", "retime"]

#: Types that every client can hold. Of others no buffer is made, or a longer one, that need not be.
_HELD = frozenset(
    ir.DataType[name]
    for name in ("FLOAT", "DOUBLE", "FLOAT16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64", "BOOL")
)


#: What a buffer begins with: constants, time first, or static wires one after the other.
_Content = np.ndarray | tuple[ir.Value | None, ...]


@dataclass(frozen=True, slots=True)
class Retiming:
    """Bytes of the buffers as soon as possible, and with the delays chosen. Those on wires with two time axes, which
    stay as they are, are not counted. ``solved`` is False where there was no solver, or no answer in time."""

    soonest: int
    least: int
    solved: bool = True


def retime(g: Graph, s: Schedule) -> Retiming:
    """Move the delays of ``s`` to where buffers are smallest. Outputs keep theirs."""
    program = _Program(g, s)
    p, found = program.problem, solve(program.problem)
    if found is not None:
        program.apply(found)
    soonest, least = (-(-p.cost(e) // 8) for e in (p.low, found or p.low))
    return Retiming(soonest, least, found is not None)


class _Program:
    """The problem of one graph; ``apply`` writes a solution into the schedule."""

    def __init__(self, g: Graph, s: Schedule):
        self.g, self.s = g, s
        self.ties = _Ties()
        #: The point that stands for the wire a point's buffers are on.
        self.wires = _Ties()
        #: Points that may be no later than so.
        self.most: dict[Point, int] = {}
        #: Frames of a point come in blocks of that many.
        self.blocks: dict[Point, int] = {}
        self.problem = Problem()
        #: The first of equal slices of a wire that is spliced where it is read.
        self._cuts: dict[tuple[Point, Window], Point] = {}
        self._buffers: dict[Point, list[tuple[_Content | None, Affine]]] = {}
        self._axes: dict[ir.Value, tuple[int, ...]] = {}
        nodes = [(node, plan) for node, plan in s.plans.items() if self._counts(node, plan)]
        self._crowded = self._beside_merged(nodes)
        pads = [(node, plan) for node, plan in nodes if not self._restrict(node, plan) and plan.kind == "pad"]
        self._pads(pads)
        self._ends()
        self._variables()
        for node, plan in nodes:
            self._reads(node, plan)
        for v in g.graph.outputs:
            for axis in self._time(v):
                if (v, axis) in s.delays:
                    self._read((v, axis), Affine(None, 0, max(0, s.delays[v, axis])))
        self._wires()

    def apply(self, e: list[int]) -> None:
        """Delays, and with them what a Pad or a result holds its source to."""
        s = self.s
        late = {p: self._at(p).at(e) for p in s.delays}
        for node, hold in s.holds.items():
            s.holds[node] = max(hold, *(late[p] for _, p in self._needs(node, s.plans[node])))
        s.delays.update(late)

    def _time(self, v: ir.Value | None) -> tuple[int, ...]:
        """Axes on which a wire streams."""
        if v is None:
            return ()
        if v not in self._axes:
            self._axes[v] = self.g.time_axes(v)
        return self._axes[v]

    # -- what moves --------------------------------------------------------------------------------------------------

    def _counts(self, node: ir.Node, plan: Plan) -> bool:
        """Whether a node is scheduled, not made from nothing where it is read."""
        return bool(plan.consumes) or not all(v in self.s.free for v in node.outputs if self._time(v))

    def _needs(self, node: ir.Node, plan: Plan) -> Iterator[tuple[Need, Point]]:
        for need in (*plan.consumes, *(n for stream in plan.streams for n in stream.needs)):
            v = node.inputs[need.input]
            if v is not None and (v, need.axis) in self.s.delays:
                yield need, (v, need.axis)

    def _makes(self, node: ir.Node, plan: Plan) -> list[Point]:
        points = [(node.outputs[stream.output], stream.axis) for stream in plan.streams]
        return [p for p in points if p in self.s.delays]

    def _limit(self, p: Point, most: int) -> None:
        self.most[p] = min(self.most.get(p, most), most)

    def _fix(self, points: Iterable[Point]) -> None:
        for p in points:
            self._limit(p, self.s.delays[p])

    def _merged(self, v: ir.Value) -> bool:
        """Whether a wire has sizes a state cannot have: the batch merged into another axis, or unknown symbols."""
        g, shape = self.g, self.g.facts[v].shape
        batch = None if g.batch is None else sym(g.batch)
        times = self._time(v)
        return any(not isinstance(d, int) and d != batch for a, d in enumerate(shape or ()) if a not in times) or any(
            g.rows(v, a) != 1 for a in times
        )

    def _beside_merged(self, nodes: list[tuple[ir.Node, Plan]]) -> set[ir.Value]:
        """Merged wires and what they are made from: their buffers may be one."""
        found: set[ir.Value] = set()
        for node, _ in nodes:
            if any(self._time(v) and self._merged(v) for v in node.outputs):
                found.update(v for v in (*node.inputs, *node.outputs) if v is not None)
        return found

    def _restrict(self, node: ir.Node, plan: Plan) -> bool:
        """What a node allows of the delays around it. Whether none of them may move."""
        s = self.s
        ins, outs = [p for _, p in self._needs(node, plan)], self._makes(node, plan)
        streaming = [v for v in (*node.inputs, *node.outputs) if self._time(v)]
        windows = {n.window for n, _ in self._needs(node, plan)}
        if (
            plan.kind in ("splice", "free")
            or any(len(self._time(v)) != 1 or v in self._crowded for v in streaming)
            or any(self._time(v) for v in captured(node))
            or len({stream.needs for stream in plan.streams}) > 1
            or len({s.delays[q] for q in outs}) > 1
        ):
            self._fix([*ins, *outs])
            return True
        summary = plan.ends or plan.consumes or not all(self._time(v) for v in node.outputs)
        if summary:
            # Its last frame, and how long after the end it comes, stay.
            for p in ins:
                self._limit(p, max(s.delays[p], s.read(p, node)))
        for q in outs:
            if summary:
                self._limit(q, s.delays[q])
            elif plan.kind == "custom" and windows == {Window()} and s.delays[q] <= 0:
                self._limit(q, 0)
        for q in outs:
            self.blocks[q] = lcm(self.blocks.get(q, 1), *(w.up for w in windows))
            self.ties.join(q, outs[0], 0)
        if plan.kind == "slice":
            ((window,), (p,), (q,)) = windows, ins, outs
            if p in s.splices:
                self._same(q, self._cuts.setdefault((p, window), q))
            elif s.delays[q] == window.least_delay(s.delays[p]):
                self._same(q, p)
        return False

    def _same(self, q: Point, p: Point) -> None:
        """q is the wire of p, renumbered."""
        between = self.s.delays[q] - self.s.delays[p]
        self.ties.join(q, p, between)
        self.wires.join(q, p, between)

    def _pads(self, pads: list[tuple[ir.Node, Plan]]) -> None:
        """Those that write nothing renumber their source. Those that write the same value on it, at whichever ends, are
        one wire: that of the source, if no other writes on it and all frames that come are there when the Pad wants them."""
        s = self.s
        masks: dict[tuple[Point, int], dict[tuple[object, ...], list[Point]]] = {}
        for node, plan in pads:
            assert plan.pad is not None and node.inputs[0] is not None
            axis, before, _ = plan.pad
            p, q = (node.inputs[0], axis), (node.outputs[0], axis)
            read, want = s.read(p, node), s.demand.get(q)
            unmasked = read <= 0 and want is not None and before > want.low
            if unmasked:
                self._limit(p, 0)
            if s.delays[q] != read - before:
                continue  # it waits for frame 0
            if unmasked:
                self._limit(q, -before)
            start, end = s.masks[node]
            if not start and not end:
                self._same(q, p)
                continue
            root, behind = self.wires.find(p)
            key = (read, str(self.g.facts[p[0]].shape), plan.pad_value.tobytes())
            masks.setdefault((root, behind), {}).setdefault(key, []).append(q)
        for (root, behind), by_mask in masks.items():
            alone = [key for key in by_mask if not behind and key[0] == s.delays[root]]
            for mask, made in by_mask.items():
                for q in made:
                    self._same(q, root if alone == [mask] else made[0])

    def _ends(self) -> None:
        """Wires that meet the outside, or are made for one delay."""
        s = self.s
        for p, delay in s.delays.items():
            v = p[0]
            if v.is_graph_output():
                self._limit(p, max(0, delay))
            if v.is_graph_input() or v in s.free or p in s.splices:
                self._limit(p, delay)

    def _variables(self) -> None:
        """One for every class of points that are a fixed number of frames apart: steps from as soon as possible."""
        s = self.s
        room: dict[Point, int] = {}
        step: dict[Point, int] = {}
        for p, delay in s.delays.items():
            root, _ = self.ties.find(p)
            step[root] = lcm(step.get(root, 1), self.blocks.get(p, 1))
            if p in self.most:
                room[root] = min(room.get(root, self.most[p] - delay), self.most[p] - delay)
        self._steps = step
        self._var = {
            root: self.problem.variable(0, room[root] // n if root in room else None)
            for root, n in step.items()
            if room.get(root, n) >= n
        }

    # -- what it costs -----------------------------------------------------------------------------------------------

    def _at(self, p: Point) -> Affine:
        """The delay of a point."""
        root, _ = self.ties.find(p)
        var = self._var.get(root)
        return Affine(var, 0 if var is None else self._steps[root], self.s.delays[p])

    def _reads(self, node: ir.Node, plan: Plan) -> None:
        g, s = self.g, self.s
        for need in plan.consumes:
            v = node.inputs[need.input]
            assert v is not None
            p = (v, need.axis)
            self._read(p, Affine(None, 0, s.read(p, node)), history(g, s, p) if node in s.ahead else None)
        for stream in plan.streams:
            q = (node.outputs[stream.output], stream.axis)
            if q not in s.delays or plan.kind == "splice":
                continue
            for need in stream.needs:
                v, w = node.inputs[need.input], need.window
                assert v is not None
                p = (v, need.axis)
                if p not in s.delays or self.wires.find(p)[0] == self.wires.find(q)[0]:
                    continue
                out = self._at(q)
                back = Affine(out.var, w.stride * out.coef // w.up, w.stride * (out.const // w.up) + w.before)
                direct = s.reads_source(p, node, plan) is not None
                self._read(p, back, history(g, s, p, w, node) if direct else None)
                if not direct:
                    self.problem.waits.append((back + (w.stride - w.span), self._at(p)))

    def _read(self, p: Point, back: Affine, behind: int | None = None, begin: _Content | None = None) -> None:
        """A reader of p whose first frame needed is ``[n*T - back``; ``behind``: made from what p is spliced from, so far
        behind. ``begin``: the static frames that its history ends with before the first pulse."""
        g, s = self.g, self.s
        if p in s.splices:
            splice, node = s.splices[p].splice, p[0].producer()
            assert node is not None
            if behind is None:
                back, behind = Affine(None, 0, s.delays[p]), history(g, s, p)
            ((_, source),) = self._needs(node, s.plans[node])
            first = tuple(node.inputs[k] for k in splice.first) if s.splices[p].begins else None
            return self._read(source, back + behind, begin=first)
        fact = g.facts[p[0]]
        if fact.shape is None or len(self._time(p[0])) != 1:
            return
        root, behind = self.wires.find(p)
        if begin is None and s.delays[p] < 0:
            begin = self._begin(p)
        self._buffers.setdefault(root, []).append((begin, back + -behind))

    def _wires(self) -> None:
        """A buffer for each wire and each content that its readers find before the first frame."""
        for root, reads in self._buffers.items():
            fact, axis = self.g.facts[root[0]], root[1]
            known = fact.dtype in _HELD
            cost = (fact.dtype.bitwidth if known else 0) * prod(d for a, d in enumerate(fact.shape or ()) if a != axis and isinstance(d, int))
            begins: list[tuple[_Content, Wire]] = []
            free = []
            for begin, back in reads:
                if begin is None:
                    free.append(back)  # warm-up: whatever is there
                    continue
                wire = next((w for b, w in begins if _agree(b, begin)), None)
                if wire is None:
                    wire = Wire(cost, self._at(root))
                    begins.append((begin, wire))
                wire.reads.append(back)
            wires = [w for _, w in begins]
            zeros = [w for b, w in begins if isinstance(b, np.ndarray) and not b.any()]
            if free:
                mates = zeros[:1] or wires[: len(wires) == 1]
                if not mates:
                    mates = [Wire(cost, self._at(root))]
                    wires += mates
                mates[0].reads += free
            for w in () if known else wires:
                soonest = w.frames(self.problem.low)
                self.problem.waits += [(w.x + soonest, back) for back in w.reads]
            self.problem.wires += wires

    def _begin(self, p: Point) -> np.ndarray:
        """The frames a wire announces and never sends, time first."""
        frames = self.s.prologues.get(p[0])
        return np.zeros(-self.s.delays[p], bool) if frames is None else np.moveaxis(frames, p[1], 0)


def _agree(a: _Content, b: _Content) -> bool:
    """Whether the shorter is how the longer ends."""
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
        return type(a) is type(b) and a == b
    common = min(len(a), len(b))
    a, b = a[len(a) - common :], b[len(b) - common :]
    return np.array_equal(a, b) if a.shape == b.shape else not a.any() and not b.any()


class _Ties:
    """Points a fixed number of frames apart: ``find`` gives the point that stands for them, and how much later one is."""

    def __init__(self) -> None:
        self._parent: dict[Point, tuple[Point, int]] = {}

    def find(self, p: Point) -> tuple[Point, int]:
        trail, late = [], 0
        while p in self._parent:
            trail.append(p)
            p = self._parent[p][0]
        for q in reversed(trail):
            late += self._parent[q][1]
            self._parent[q] = (p, late)
        return p, late

    def join(self, q: Point, p: Point, behind: int) -> None:
        """q is ``behind`` frames later than p."""
        (b, y), (a, x) = self.find(q), self.find(p)
        if a != b:
            self._parent[b] = (a, x + behind - y)
