"""Getting wires into the pulsed graph: static ones, sizes computed at run time, and regions with their history."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim, DimLike, sym, symbols_of
from pulsify.errors import InternalError, Refusal
from pulsify.facts import AxisRegion, Elems, Fill, Need, Plan, WireFact
from pulsify.graph import DOMAIN, Graph, NodeBuilder, Pulse, captured, shape_attribute, subgraphs
from pulsify.ops._unbake import reshape_target
from pulsify.schedule import Schedule
from pulsify.splices import history
from pulsify.stages._expressions import write_expression
from pulsify.stages._free import Free
from pulsify.stages._splices import spliced

__all__ = ["Wires"]


class Wires(ABC):
    """The pulsed graph under construction beside the batch graph, and how to get wires into it."""

    def __init__(self, g: Graph, s: Schedule, pulse: Pulse):
        self.g, self.s, self.pulse = g, s, pulse
        graph = ir.Graph([], [], nodes=[], opset_imports=dict(g.graph.opset_imports), name=g.graph.name)
        graph.opset_imports.setdefault("", 18)
        graph.opset_imports[DOMAIN] = 1
        model = ir.Model(graph, ir_version=g.model.ir_version, producer_name="pulsify")
        model.metadata_props.update(g.model.metadata_props)
        model.doc_string = g.model.doc_string
        self.new = Graph(
            model, g.symbol, g.assume, stage=g.stage, pulse=pulse, pulse_multiple=g.pulse_multiple, batch=g.batch,
            source=g.source, notes=g.notes,
        )  # fmt: skip
        taken = {v.name for n in g.graph for v in n.outputs if v.name}
        taken |= {v.name for v in (*g.graph.inputs, *g.graph.initializers.values()) if v.name}
        taken |= {n.name for n in g.graph if n.name}
        self.build = NodeBuilder(graph, taken)
        self.map: dict[ir.Value, ir.Value] = {}
        self.made: dict[object, ir.Value] = {}
        self.varies: dict[object, bool] = {}
        #: Static wires that summarise the stream so far.
        self.running: set[ir.Value] = set()
        #: Whether a result is the last frames of a stream, which a buffer may hold anyway.
        self.lasts = any(plan.last for plan in s.plans.values())
        self.sizes: dict[DimLike, ir.Value] = {}

    # -- wires ---------------------------------------------------------------------------------------------------

    def declare(self, value: ir.Value, fact: WireFact, regions: Mapping[int, AxisRegion] | None = None) -> ir.Value:
        self.new.facts[value] = fact
        if regions:
            self.new.regions[value] = dict(regions)
        return value

    def regions_of(self, v: ir.Value) -> dict[int, AxisRegion]:
        points = [(v, a) for a in self.g.time_axes(v)]
        return {p[1]: AxisRegion(self.s.rates[p], self.s.delays[p], rows=self.g.rows(*p)) for p in points}

    def const(self, array: object, stem: str = "const", dtype: object = np.int64) -> ir.Value:
        value = self.build.const(array, stem, dtype)
        if value not in self.new.facts:
            tensor = value.const_value
            assert tensor is not None
            self.declare(value, WireFact(tensor.dtype, tuple(int(d) for d in tensor.shape.numpy()), const=tensor))
        return value

    def op(
        self, op: str, inputs: list[ir.Value | None], stem: str, fact: WireFact,
        regions: Mapping[int, AxisRegion] | None = None, domain: str = "", **attributes: object,
    ) -> ir.Value:  # fmt: skip
        return self.declare(self.build.op(op, inputs, stem, domain, **attributes), fact, regions)

    def static(self, v: ir.Value | None, node: ir.Node) -> ir.Value | None:
        """A wire without time: an initializer, a static input, a computed wire, or a shape written again."""
        if v is None:
            return None
        if v in self.map:
            return self.map[v]
        fact = self.g.facts[v]
        if v.const_value is not None:
            self.map[v] = self._initializer(v)
        elif isinstance(fact.value, Elems):
            self.map[v] = self.dims(list(fact.value.array.reshape(-1)), f"{v.name}", node, fact)
        else:
            self.map[v] = self.scalar_fill(v, fact, node)
        return self.map[v]

    def attributes(self, node: ir.Node) -> list[ir.Attr]:
        """The node's attributes; what its subgraphs read from outside is the pulsed graph's."""
        outer = captured(node)
        if not outer and not subgraphs(node):
            return list(node.attributes.values())
        for v in outer:
            self.static(v, node)

        def rewire(graph: ir.Graph) -> ir.Graph:
            for inner in ir.traversal.RecursiveGraphIterator(graph):
                for k, v in enumerate(inner.inputs):
                    if v in outer:
                        inner.replace_input_with(k, self.map[v])
            return graph

        out = []
        for a in node.attributes.values():
            if a.type == ir.AttributeType.GRAPH:
                a = ir.AttrGraph(a.name, rewire(a.value.clone(allow_outer_scope_values=True)))
            elif a.type == ir.AttributeType.GRAPHS:
                a = ir.AttrGraphs(a.name, [rewire(sub.clone(allow_outer_scope_values=True)) for sub in a.value])
            out.append(a)
        return out

    def _initializer(self, v: ir.Value) -> ir.Value:
        assert v.const_value is not None and v.name is not None
        new = ir.Value(name=v.name, type=v.type, shape=v.shape, const_value=v.const_value)
        self.build.graph.register_initializer(new)
        return self.declare(new, self.g.facts[v])

    def scalar_fill(self, v: ir.Value, fact: WireFact, node: ir.Node) -> ir.Value:
        if not isinstance(fact.value, Fill) or isinstance(fact.value.value, Dim):
            raise self.refuse(node, f"its input {v.name!r} is computed from the length of the whole stream", v)
        assert fact.shape is not None
        one = self.const(fact.value.value, "fill", fact.dtype.numpy())
        shape = self.dims(list(fact.shape), f"{v.name}.shape", node, None)
        return self.op("Expand", [one, shape], v.name or "fill", WireFact(fact.dtype, fact.shape))

    def dims(self, dims: list[DimLike], stem: str, node: ir.Node, fact: WireFact | None) -> ir.Value:
        """Expressions of the batch and the pulse as an integer tensor, computed at run time where not constant."""
        dtype = ir.DataType.INT64 if fact is None else fact.dtype
        shape: tuple[DimLike, ...] = (len(dims),) if fact is None else (fact.shape or ())
        if not any(isinstance(d, Dim) for d in dims):
            return self.const(np.asarray(dims, dtype=dtype.numpy()).reshape([int(d) for d in shape]), stem, dtype.numpy())
        parts = [self._dim(d, node) for d in dims]
        flat = parts[0]
        if len(parts) > 1:
            flat = self.op("Concat", list(parts), stem, WireFact(ir.DataType.INT64, (len(dims),)), axis=0)
        if len(shape) != 1:
            flat = self.op("Reshape", [flat, self.const([int(d) for d in shape])], stem, WireFact(ir.DataType.INT64, shape))
        if dtype != ir.DataType.INT64:
            flat = self.op("Cast", [flat], stem, WireFact(dtype, shape), to=dtype)
        return flat

    def _dim(self, d: DimLike, node: ir.Node) -> ir.Value:
        """One expression as an int64 tensor of one element."""
        if isinstance(d, Dim) and self.g.symbol in symbols_of(d):
            raise self.refuse(node, f"it uses {d}, which depends on the length of the whole stream")
        unit = WireFact(ir.DataType.INT64, (1,))
        return write_expression(
            d,
            lambda name: self._leaf(name, node),
            lambda v: self.const([v]),
            lambda op, inputs: self.op(op, list(inputs), "size", unit),
            self.sizes,
        )

    def _leaf(self, name: str, node: ir.Node) -> ir.Value:
        """The size a symbol stands for, read off an input that has it alone on an axis."""
        key = ("leaf", name)
        if key not in self.made:
            want = sym(name)
            for v in self.g.graph.inputs:
                for axis, d in enumerate(self.g.facts[v].shape or ()):
                    pulse = name == self.pulse.size and d == sym(self.g.symbol)
                    if d == want or pulse:
                        fact = WireFact(ir.DataType.INT64, (1,))
                        self.made[key] = self.op(
                            "Shape", [self.map[v]], f"{name}.size", fact, start=axis, end=axis + 1
                        )
                        return self.made[key]
            raise self.refuse(node, f"it uses the size {name}, which no input has alone on an axis")
        return self.made[key]

    @abstractmethod
    def feedback(self, node: ir.Node, wire: ir.Value) -> Refusal:
        """Why a stream cannot read a running wire."""

    def refuse(self, node: ir.Node, why: str, wire: ir.Value | None = None) -> Refusal:
        return Refusal(
            f"cannot pulsify {node.op_type} node {node.name!r}",
            why=why,
            wire=self.g.describe(wire) if wire is not None else "",
            hint="remove the dependence on the stream's length, or declare that length as a static input",
        )

    def target(self, node: ir.Node, plan: Plan, inputs: list[ir.Value | None]) -> ir.Value:
        """The shape input of a node, for one pulse."""
        assert plan.dims is not None
        k, style = plan.dims
        out, shape_wire = node.outputs[0], node.inputs[k]
        assert shape_wire is not None
        if shape_wire.const_value is not None:
            wire = self.static(shape_wire, node)
            assert wire is not None
            return wire
        rates = {a: self.s.rates[out, a] for a in self.g.time_axes(out)}
        fact = self.g.facts[out]
        assert fact.shape is not None and node.inputs[0] is not None
        target = self.pulsed_shape(out, fact.shape, rates)
        source_shape = self.g.facts[node.inputs[0]].shape
        assert source_shape is not None
        given = {a: self.s.rates[node.inputs[0], a] for a in self.g.time_axes(node.inputs[0])}
        source = self.pulsed_shape(node.inputs[0], source_shape, given)
        if style == "reshape":
            fixed = reshape_target(source, target)
            return self.dims(list(fixed) if fixed is not None else list(target), f"{out.name}.shape", node, None)
        wide = (*(1,) * (len(target) - len(source)), *source)
        if style == "expand":
            return self.dims([1 if a == b else a for a, b in zip(target, wide, strict=True)], f"{out.name}.shape", node, None)
        repeats = [t if w == 1 else 1 if t == w else None for t, w in zip(target, wide, strict=True)]
        if None in repeats:
            raise self.refuse(node, "its repeats must be constant")
        return self.dims([r for r in repeats if r is not None], f"{out.name}.repeats", node, None)

    # -- regions -------------------------------------------------------------------------------------------------

    def pulsed_shape(self, v: ir.Value, shape: tuple[DimLike, ...], axes: Mapping[int, Fraction]) -> tuple[DimLike, ...]:
        """The shape with one pulse on each time axis."""
        return tuple(
            self.new.frames(AxisRegion(axes[a], 0, rows=self.g.rows(v, a))) if a in axes else d for a, d in enumerate(shape)
        )

    def arrives(self, v: ir.Value, axis: int, node: ir.Node) -> ir.Value:
        """A streaming wire with the delay the schedule gives it, for reading along one axis."""
        if v in self.s.free:
            shape = self.g.facts[v].shape
            assert shape is not None
            return Free(self, node).make(v, axis, self.s.delays[v, axis], self.g.batch_axis(shape), len(shape))
        if v not in self.map:
            delay = self.s.delays[v, axis]
            wire = spliced(self, v, axis, delay, 0, history(self.g, self.s, (v, axis)), self._until(v, axis, delay, 1))
            wire.name, wire.type = v.name, v.type
            self.map[v] = wire
        return self.map[v]

    def joined(self, node: ir.Node, k: int) -> ir.Value:
        """Static frames that a node puts beside a stream."""
        v = node.inputs[k]
        assert v is not None
        if v in self.running:
            raise self.feedback(node, v)
        wire = self.static(v, node)
        assert wire is not None
        return wire

    def take(
        self, wire: ir.Value, index: ir.Value, axis: int, batch: int | None, shape: Sequence[DimLike], stem: str,
        fact: WireFact, regions: Mapping[int, AxisRegion] | None, node: ir.Node,
    ) -> ir.Value:  # fmt: skip
        """Frames of a wire by number: ``[m]``, or ``[.., N, .., m, ..]`` where every batch row has its own."""
        if batch is None:
            return self.op("Gather", [wire, index], stem, fact, regions, axis=axis)
        others = [1 if a in (axis, batch) else d for a, d in enumerate(shape)]
        if any(d != 1 for d in others):
            wide = self.dims(others, f"{stem}.shape", node, None)
            index = self.op("Expand", [index, wide], f"{stem}.index", WireFact(ir.DataType.INT64, None))
        return self.op("Take", [wire, index], stem, fact, regions, DOMAIN, axis=axis, shape=shape_attribute(shape))

    def at(self, source: ir.Value, need: Need, delay: int, node: ir.Node, wire: ir.Value | None) -> ir.Value:
        """``wire`` with the frames that output frames of the given delay read along one axis; without a wire, made from
        what the source is spliced from."""
        w, have = need.window, self.s.delays[source, need.axis]
        if delay % w.up:
            raise InternalError(f"{node.name!r} makes blocks of {w.up} frames and is scheduled at {delay}")
        back = w.stride * (delay // w.up) + w.before  # the first frame needed is [n*T - back
        end = back + w.stride - w.span  # and the last chunk frame n*(T+1) - end)
        until = self._until(source, need.axis, back, w.span)
        if wire is None:
            behind = history(self.g, self.s, (source, need.axis), w, node)
            return spliced(self, source, need.axis, end, back - end, behind, until)
        if end < have:
            raise InternalError(f"{node.name!r} is scheduled before its input {source.name!r} arrives")
        shift = have if end - have < w.stride and not w.whole else end
        return self.behind(source, need.axis, shift - have, back - shift, node, wire, until)

    def _until(self, source: ir.Value, axis: int, back: int, span: int) -> str:
        """The last first frame ``n*T`` of a pulse in which a window ``[n*T - back, n*T - back + span)`` ends within the wire;
        empty where nobody asks."""
        return str(self.g.length(source, axis) + back - span) if self.lasts else ""

    def behind(
        self, source: ir.Value, axis: int, extra: int, overlap: int, node: ir.Node, wire: ir.Value, until: str = ""
    ) -> ir.Value:
        """``wire`` with more delay and history. ``until``: see :meth:`_until`."""
        if extra == 0 and overlap == 0:
            return wire
        have = self.s.delays[source, axis]
        fact = self.new.facts[wire]
        regions = dict(self.new.regions[wire])
        old = regions[axis]
        if old.rows != 1:
            raise Refusal(
                f"cannot pulsify {node.op_type} node {node.name!r} on axis {axis}",
                why=f"it needs frames before or after the pulse, and {old.rows} streams follow each other on that axis",
                wire=self.g.describe(source),
                hint="reshape it back to a batch of streams in front of this node",
            )
        regions[axis] = AxisRegion(old.rate, old.delay + extra, overlap)
        attributes: dict[str, object] = {"axis": axis, "delay": extra, "overlap": overlap}
        init = self._initial(source, axis, have, extra + overlap)
        if init is not None:
            attributes["init"] = init
        attributes["reads_zeros"] = self._reads_zeros(source, have, extra + overlap)
        if until:
            attributes["until"] = until
        return self.op(
            "PulseV2Buffer", [wire], f"{node.name}.buffer", fact, regions, DOMAIN, **attributes
        )

    def _reads_zeros(self, source: ir.Value, have: int, history: int) -> int:
        """Whether valid frames depend on the initial zeros: frames announced and never sent."""
        return int(have < 0 and history > 0)

    def _initial(self, source: ir.Value, axis: int, have: int, history: int) -> np.ndarray | None:
        """Initial history where it is not zero: the frames ``[0, -have)`` end just before the first chunk."""
        frames = self.s.prologues.get(source)
        if have >= 0 or frames is None or history <= 0:
            return None
        frames = np.take(frames, range(max(0, -have - history), -have), axis=axis)
        if not frames.any():
            return None
        pad = [(0, 0)] * frames.ndim
        pad[axis] = (history - frames.shape[axis], 0)
        return np.pad(frames, pad)
