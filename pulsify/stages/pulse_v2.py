"""pulse-v2: rewrite the batch graph into one that eats a pulse at a time.

Promise: every streaming wire has a region, every node is given exactly the frames its plan asks for. What a node
needs beyond what its source provides is a PulseV2Buffer of its own; padding and slicing along time are PulseV2Pad
and PulseV2Slice, which move the delay and not the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import ceil, lcm

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim, law, symbols_of
from pulsify.errors import InternalError, Refusal, UsageError
from pulsify.facts import AxisRegion, Elems, Fill, Need, Plan, Window
from pulsify.graph import DOMAIN, Graph, Output, Pulse, captured
from pulsify.retime import retime
from pulsify.rewrites.fix_shapes import END
from pulsify.schedule import Point, Schedule, make_plans, schedule
from pulsify.stages._free import Free
from pulsify.stages._lengths import Lengths
from pulsify.stages._lowering import Lowering
from pulsify.stages._wires import Wires
from pulsify.summaries import Summaries, feedback

__all__ = ["pulse_v2"]


def pulse_v2(g: Graph, pulse: Pulse, least: bool = True) -> Graph:
    """The pulsed graph, its buffers as small as can be (``least``) or all delays as soon as possible. Refuses by node what
    cannot stream, or not at this pulse."""
    if isinstance(pulse.size, int) and pulse.size < 1:
        raise UsageError(
            f"a pulse of {pulse.size} frames", why="a pulse holds at least one frame", hint="a pulse of 1 or more"
        )
    plans = make_plans(g)
    _check_ends(g)
    s = schedule(g, plans)
    g.pulse, g.pulse_multiple = pulse, lcm(1, *(r.denominator for r in s.rates.values()))
    _check_pulse(g, s, pulse)
    builder = _Builder(g, s, pulse)
    if least:
        found = retime(g, s)
        builder.new.spared = found.soonest - found.least
        if not found.solved:
            builder.new.notes.append("delays as soon as possible, which may take more memory: install highspy for the least")
    return builder.run()


def _check_ends(g: Graph) -> None:
    for v in g.graph.inputs:
        for axis in g.time_axes(v):
            d = g.facts[v].shape[axis]  # type: ignore[index]
            ratio = d * Fraction(1) if isinstance(d, Dim) else None
            if not isinstance(ratio, Dim) or list(ratio.terms) != [(g.symbol,)]:
                raise Refusal(
                    f"cannot pulsify input {v.name!r} on axis {axis}",
                    why=f"it is {d} frames long, not a multiple of {g.symbol}",
                    hint="declare the axis itself as time with --axis input:axis",
                )
    for v in g.graph.outputs:
        axes = g.time_axes(v)
        if len(axes) > 1:
            raise Refusal(
                f"cannot pulsify output {v.name!r} on axes {', '.join(map(str, axes))}",
                why="it has time on two axes, and one pulse holds only a block of it",
                wire=g.describe(v),
                hint="leave this output out, or reduce one of the axes to a bounded window inside the model",
            )
        if any(g.rows(v, a) != 1 for a in axes):
            raise Refusal(
                f"cannot pulsify output {v.name!r} on axis {axes[0]}",
                why=f"it has {g.rows(v, axes[0])} whole streams one after the other",
                wire=g.describe(v),
                hint="reshape it back to a batch of streams inside the model",
            )


def _check_pulse(g: Graph, s: Schedule, pulse: Pulse) -> None:
    if isinstance(pulse.size, str):
        used = {g.symbol, *(s for v in g.graph.inputs for d in g.facts[v].shape or () for s in symbols_of(d))}
        if pulse.size in used:
            free = next(name for name in ("P", "pulse", *(f"P{k}" for k in range(len(used) + 1))) if name not in used)
            raise UsageError(f"the pulse cannot be named {pulse.size!r}", why="the model uses that symbol", hint=f"--pulse {free}")
        return
    for node, plan in s.plans.items():
        for stream in plan.streams:
            rate = s.rates.get((node.outputs[stream.output], stream.axis))
            if rate is None or (pulse.size * rate).denominator == 1:
                continue
            m = g.pulse_multiple
            near = sorted({max(m, pulse.size // m * m), -(-pulse.size // m) * m})
            stride = max((need.window.stride for need in stream.needs), default=1)
            raise Refusal(
                f"cannot pulsify {node.op_type} node {node.name!r} on axis {stream.axis}",
                why=f"a pulse of {pulse.size} frames does not split into strides of {stride}"
                + ("" if rate.denominator == stride else f" ({rate.denominator} in all up to here)"),
                wire=g.describe(node.inputs[0]) if node.inputs and node.inputs[0] is not None else "",
                hint=f"a pulse that is a multiple of {m} (nearest: {', '.join(map(str, near))})",
            )


class _Builder(Wires):
    """Builds the pulsed graph node by node."""

    # -- nodes ---------------------------------------------------------------------------------------------------

    def run(self) -> Graph:
        g, new = self.g, self.new
        self.lengths = Lengths(self)
        self._summaries()
        for v in g.graph.inputs:
            copy = ir.Value(name=v.name, type=v.type, shape=v.shape)
            new.graph.inputs.append(copy)
            self.map[v] = self.declare(copy, g.facts[v], self.regions_of(v))
        for node in g.graph:
            plan = self.s.plans.get(node)
            if plan is None:
                self._copy(node)
            elif plan.consumes or not all(v in self.s.free for v in node.outputs if g.time_axes(v)):
                self._stream(node, plan)
        for v in g.graph.outputs:
            new.graph.outputs.append(self._output(v))
        return new

    def _summaries(self) -> None:
        """Find the static wires that summarise the stream. No stream reads one: make_plans refuses it."""
        found = Summaries(self.g)
        for node in self.g.graph:
            found.see(node, self.s.plans.get(node))
        self.running.update(found.made)

    def _copy(self, node: ir.Node) -> None:
        """A node without time. What is known of its result is written again only where it is read."""
        facts = [self.g.facts[v] for v in node.outputs]
        if all(isinstance(f.value, (Elems, Fill)) for f in facts):
            return
        late = any(self.lengths.late(v) for v in node.inputs)
        if late:
            inputs, per_row = self.lengths.inputs(node)
        else:
            inputs, per_row = [self.static(v, node) for v in node.inputs], False
        if late or any(v in self.running for v in (*node.inputs, *captured(node))):
            self.running.update(node.outputs)
        self._clone(node, inputs, [{} for _ in node.outputs])
        if per_row:
            self.lengths.keep(node.outputs[0], self.map.pop(node.outputs[0]))

    def _clone(self, node: ir.Node, inputs: list[ir.Value | None], regions: list[Mapping[int, AxisRegion]]) -> None:
        outputs = [ir.Value(name=v.name, type=v.type) for v in node.outputs]
        self.build.graph.append(
            ir.Node(node.domain, node.op_type, inputs, self.attributes(node), outputs=outputs, name=node.name)
        )
        for old, value, region in zip(node.outputs, outputs, regions, strict=True):
            self.map[old] = self.declare(value, self.g.facts[old], region)

    def _stream(self, node: ir.Node, plan: Plan) -> None:
        g, s = self.g, self.s
        if plan.kind == "splice":
            return  # made where it is read
        for outer in captured(node):
            if outer in self.running:
                raise self.feedback(node, outer)
        inputs: list[ir.Value | None] = [None] * len(node.inputs)
        for k, v in enumerate(node.inputs):
            if v is None or (plan.dims is not None and plan.dims[0] == k):
                continue
            if k and plan.kind in ("pad", "slice", "stride"):
                continue  # amounts and bounds: the plan holds them
            if not g.time_axes(v):
                if v in self.running:
                    raise self.feedback(node, v)
                inputs[k] = self.static(v, node)
                continue
            # Every stream that reads this input must agree on how.
            asks = {
                (need.axis, need.window, s.read((v, need.axis), node)): None
                for need in plan.consumes
                if need.input == k
            }
            for stream in plan.streams:
                delay = s.delays[node.outputs[stream.output], stream.axis]
                for need in stream.needs:
                    if need.input == k:
                        asks[need.axis, need.window, delay] = None
            if len({axis for axis, _, _ in asks}) != len(asks):
                raise InternalError(f"the outputs of {node.name!r} ask for different regions of one input")
            (point, *_) = ((v, axis) for axis, _, _ in asks)
            wire = None if s.reads_source(point, node, plan) else self._provide(v, node, plan, asks)
            for axis, window, delay in asks:
                wire = self.at(v, Need(k, axis, window), delay, node, wire) if (v, axis) in s.delays else wire
            inputs[k] = wire
        if plan.dims is not None:
            inputs[plan.dims[0]] = self.target(node, plan, inputs)
        regions = [self.regions_of(v) for v in node.outputs]
        if plan.kind == "pad":
            self._pad(node, plan, inputs[0], regions[0])
        elif plan.kind == "slice":
            self._slice(node, plan, inputs[0], regions[0])
        elif plan.kind == "stride":
            self._stride(node, plan, inputs[0], regions[0])
        elif plan.kind in ("custom", "window"):
            self._custom(node, plan, inputs, regions)
        else:
            self._clone(node, inputs, list(regions))

    def _custom(
        self, node: ir.Node, plan: Plan, inputs: list[ir.Value | None], regions: list[dict[int, AxisRegion]]
    ) -> None:
        assert plan.lower is not None
        # Trailing outputs that nobody names are left out of a node.
        made = plan.lower(Lowering(self, node, inputs))[: len(node.outputs)]
        for old, new, region in zip(node.outputs, made, regions, strict=True):
            if not old.uses() and not old.is_graph_output():
                continue
            if new.producer() is None or any(new is v for v in self.map.values()):
                new = self.build.op("Identity", [new], f"{old.name}.same")
            self.declare(new, self.g.facts[old], region)
            self._rename(new, old)
            if not self.g.time_axes(old):
                self.running.add(old)

    def feedback(self, node: ir.Node, wire: ir.Value) -> Refusal:
        return feedback(self.g, node, wire, self._sources(wire))

    def _provide(self, v: ir.Value, node: ir.Node, plan: Plan, asks: Mapping[tuple[int, Window, int], None]) -> ir.Value:
        """The wire as it arrives; one made from nothing is made for the delay it is read at."""
        if v not in self.s.free:
            return self.arrives(v, next(iter(asks))[0], node)
        if len(asks) != 1:
            raise self.refuse(node, "it uses positions on two time axes at once", v)
        ((axis, _, delay),) = asks
        point = (v, axis)
        if point in self.s.delays:
            delay = self.s.delays[point]
        out = node.outputs[0]
        return Free(self, node).make(v, axis, delay, self.g.batch_axis(self.g.facts[out].shape), self.g.facts[out].rank)

    def _pad(self, node: ir.Node, plan: Plan, wire: ir.Value | None, regions: Mapping[int, AxisRegion]) -> None:
        assert wire is not None and plan.pad is not None
        axis, before, after = plan.pad
        start, end = self.s.masks.get(node, (False, False))
        source = node.inputs[0]
        assert source is not None
        hold = self.s.holds.get(node)
        have = self.s.delays[source, axis]
        assert hold is None or self.new.regions[wire][axis].delay >= max(hold, have)
        fact = self.g.facts[node.outputs[0]]
        if (start or end) and self.g.batch is not None and self.g.batch_axis(fact.shape) is None:
            raise self.refuse(
                node, "its batch axis is merged with another, and each stream ends at its own time", node.outputs[0]
            )
        out = self.op(
            "PulseV2Pad", [wire], node.name or "pad", fact, regions, DOMAIN,
            axis=axis, before=before, after=str(after), start=int(start), end=int(end),
            value=np.asarray(plan.pad_value, dtype=fact.dtype.numpy()),
        )  # fmt: skip
        self._rename(out, node.outputs[0])

    def _slice(self, node: ir.Node, plan: Plan, wire: ir.Value | None, regions: Mapping[int, AxisRegion]) -> None:
        assert wire is not None
        (axis, start), = [
            (st.axis, -need.window.before) for st in plan.streams for need in st.needs if not need.window.unit
        ] or [(plan.streams[0].axis, 0)]
        fact = self.g.facts[node.outputs[0]]
        out = self.op("PulseV2Slice", [wire], node.name or "slice", fact, regions, DOMAIN, axis=axis, start=start)
        self._rename(out, node.outputs[0])

    def _stride(self, node: ir.Node, plan: Plan, wire: ir.Value | None, regions: Mapping[int, AxisRegion]) -> None:
        """The region begins at the first frame kept, so every step-th from there is."""
        (axis, step), = [
            (st.axis, need.window.stride) for st in plan.streams for need in st.needs if need.window.stride != 1
        ]
        fact = self.g.facts[node.outputs[0]]
        bounds = [self.const([v]) for v in (0, END, axis, step)]
        out = self.op("Slice", [wire, *bounds], node.name or "slice", fact, regions)
        self._rename(out, node.outputs[0])

    def _rename(self, new: ir.Value, old: ir.Value) -> None:
        new.name = old.name
        new.type = old.type
        self.map[old] = new

    def _settle(self, v: ir.Value) -> int:
        """Least number of stream frames after the end until all that a running wire depends on has been seen.

        A wire of delay d, rate r and length L is complete once ``r*M - d >= L(S)``: after ``M - S = max over S of
        ceil((L(S) - r*S + d) / r)`` more frames.
        """
        worst = 0
        for node in self._sources(v):
            plan = self.s.plans[node]
            for need in (*plan.consumes, *(n for st in plan.streams for n in st.needs)):
                source = node.inputs[need.input]
                assert source is not None
                delay = self.s.read((source, need.axis), node)
                rate = self.s.rates[source, need.axis]
                form = law(self.g.length(source, need.axis), self.g.symbol)
                assert form is not None
                worst = max(worst, ceil((delay + form.offsets()[1]) / rate))
        return worst

    def _sources(self, v: ir.Value) -> list[ir.Node]:
        """The nodes over time whose running results a static wire is computed from."""
        found, todo, seen = [], [v], set()
        while todo:
            node = todo.pop().producer()
            if node is None or node in seen:
                continue
            seen.add(node)
            if node in self.s.plans:
                found.append(node)
            else:
                todo.extend(i for i in (*node.inputs, *captured(node)) if i in self.running)
        return found

    def _output(self, v: ir.Value) -> ir.Value:
        """A graph output: its own wire, from frame 0 on."""
        g, s = self.g, self.s
        axes = g.time_axes(v)
        marker = ir.Node("", "Output", [], outputs=[], name=v.name)
        if not axes:
            late = self.lengths.late(v)
            wire = self.lengths.value(v, v.producer() or marker) if late else self.static(v, v.producer() or marker)
            assert wire is not None
            if late or v in self.running:
                self.new.settle[v.name or ""] = self._settle(v)
        else:
            (axis,) = axes
            point: Point = (v, axis)
            if v in s.free:
                wire = Free(self, v.producer() or marker).make(v, axis, 0, g.batch_axis(g.facts[v].shape), g.facts[v].rank)
                delay = 0
            else:
                delay = max(0, s.delays[point])
                wire = self.at(v, Need(0, axis), delay, marker, self.arrives(v, axis, marker))
            length = g.length(v, axis)
            reach = s.reach.get(point)
            self.new.outputs[v.name or ""] = Output(
                axis, delay, length, reach.lookahead if reach else 0, reach.receptive_field if reach else 0
            )
        name = v.name or "output"
        if wire.name == name and wire.is_graph_input():
            return wire
        if wire.name != name or wire.is_graph_output() or wire.const_value is not None:
            inner = self.map.get(v)
            if inner is not None and inner.name == name:
                inner.name = self.build.unique(f"{name}.inner")
            copy = self.build.op("Identity", [wire], f"{name}.out")
            copy.name = name
            wire = self.declare(copy, g.facts[v], self.new.regions.get(wire))
        wire.type = v.type
        return wire
