"""pulse-v2-declutter: buffers become one Delay per wire, slices and idle pads disappear.

Promise: no PulseV2 operator is left; every wire has at most one state per initial content.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import replace

import onnx_ir as ir

from pulsify.dim import DimLike, parse, sym
from pulsify.errors import Refusal
from pulsify.facts import AxisRegion, State
from pulsify.graph import DOMAIN, Graph, NodeBuilder, StateSlot, tensor_fact
from pulsify.rewrites import narrow_histories
from pulsify.rewrites.fix_shapes import END
from pulsify.stages._histories import end_of, frames_of, shared, widen

__all__ = ["pulse_v2_declutter"]


def pulse_v2_declutter(g: Graph) -> Graph:
    lower = _Lower(g)
    lower.merge()
    for node in list(g.graph):
        if node.domain == DOMAIN and node.op_type == "PulseV2Slice":
            lower.drop(node)
        elif node.domain == DOMAIN and node.op_type == "PulseV2Pad":
            lower.pad(node)
    lower.buffers()
    narrow_histories.apply(g)
    return g


class _Lower:
    def __init__(self, g: Graph):
        self.g = g
        taken = {v.name for n in g.graph for v in n.outputs if v.name} | {n.name for n in g.graph if n.name}
        self.build = NodeBuilder(g.graph, taken)
        self.masks: dict[Hashable, ir.Value] = {}
        self.masked: dict[ir.Value, list[ir.Value]] = {}

    def merge(self) -> None:
        """Buffers of one wire that hold the same are one; Pads behind them can be, too."""
        seen: dict[Hashable, ir.Value] = {}
        for node in list(self.g.graph):
            if node.domain != DOMAIN or node.op_type != "PulseV2Buffer":
                continue
            a, out = node.attributes, node.outputs[0]
            ints = (a.get_int(k) for k in ("axis", "delay", "overlap", "reads_zeros"))
            init = a["init"].as_tensor().tobytes() if "init" in a else None
            until = a.get_string("until", "")
            first = seen.setdefault((*node.inputs, *ints, init, until), out)
            if first is not out and not out.is_graph_output():
                out.replace_all_uses_with(first)
                self._forget(node)

    def drop(self, node: ir.Node) -> None:
        """Let readers read the source; a graph output keeps its name."""
        source, out = node.inputs[0], node.outputs[0]
        assert source is not None
        if not out.is_graph_output():
            out.replace_all_uses_with(source)
            self._forget(node)
            return
        name = out.name
        if source.is_graph_input() or source.is_graph_output() or source.const_value is not None:
            for user, k in list(out.uses()):
                user.replace_input_with(k, source)
            node.op_type, node.domain = "Identity", ""
            node.resize_inputs(1)
            node.attributes.clear()
            return
        out.replace_all_uses_with(source, replace_graph_outputs=True)
        self._forget(node)
        source.name = name

    def _forget(self, node: ir.Node) -> None:
        for v in node.outputs:
            self.g.forget(v)
        self.g.graph.remove(node, safe=True)

    def _after(self, source: ir.Value, new: ir.Node) -> None:
        """Place a node right behind what it reads."""
        producer = source.producer()
        if producer is not None:
            self.g.graph.insert_after(producer, new)
        else:
            first = next(iter(self.g.graph), None)
            if first is None:
                self.g.graph.append(new)
            else:
                self.g.graph.insert_before(first, new)

    def pad(self, node: ir.Node) -> None:
        """A Pad that writes becomes a Mask; any other is bookkeeping. Those that write the same on one wire are one Mask, at both
        ends if one of them is: the frames i < 0 and i >= L(V) are outside for all, and none comes before it is certain, as the
        one that writes the end sees the same frames."""
        start, end = (node.attributes.get_int(k) for k in ("start", "end"))
        source = node.inputs[0]
        assert source is not None
        if not start and not end:
            self.drop(node)
            return
        g = self.g
        axis = node.attributes.get_int("axis")
        value = node.attributes.get_tensor("value")
        region, length = self._label(node, source, axis)
        key = (source, axis, region.delay, str(length), value.tobytes())
        if key not in self.masks:
            out = self.build.value(f"{source.name}.masked")
            attributes = [
                ir.AttrInt64("axis", axis),
                ir.AttrInt64("delay", region.delay),
                ir.AttrInt64("end", end),
                ir.AttrString("length", str(length)),
                ir.AttrString("rate", str(region.rate)),
                ir.AttrInt64("start", start),
                ir.AttrTensor("value", value),
            ]
            new = ir.Node(DOMAIN, "Mask", [source], attributes, outputs=[out], name=self.build.unique(f"{out.name}/Mask"))
            self._after(source, new)
            g.facts[out] = g.facts[source]
            g.regions[out] = dict(g.regions[source])
            g.chunks[out] = g.chunks[source]
            out.type = source.type
            self.masks[key] = out
            own = g.regions[source][axis]
            # Readers of the bare wire may read the masked one where it only writes what lies outside for them too.
            if own.delay == region.delay and g.assume.same(g.facts[source].shape[axis], length):  # type: ignore[index]
                self.masked.setdefault(source, []).append(out)
        mask = self.masks[key].producer()
        assert mask is not None
        for name, writes in (("start", start), ("end", end)):
            mask.attributes.add(ir.AttrInt64(name, mask.attributes.get_int(name) | writes))
        node.replace_input_with(0, self.masks[key])
        self.drop(node)

    def _label(self, node: ir.Node, source: ir.Value, axis: int) -> tuple[AxisRegion, DimLike]:
        """Delay and length of the wire as the Pad sees it (slices in between may have been dropped)."""
        out = self.g.regions[node.outputs[0]][axis]
        before = node.attributes.get_int("before")
        after = parse(node.attributes.get_string("after"))
        length = self.g.facts[node.outputs[0]].shape[axis] - before - after  # type: ignore[index]
        return AxisRegion(out.rate, out.delay + before), length

    # -- buffers -------------------------------------------------------------------------------------------------

    def buffers(self) -> None:
        for node in list(self.g.graph):
            if node.domain == DOMAIN and node.op_type == "PulseV2Buffer":
                self._compose(node)
        found: dict[tuple[ir.Value, int], list[ir.Node]] = {}
        for node in list(self.g.graph):
            if node.domain != DOMAIN or node.op_type not in ("PulseV2Buffer", "Last"):
                continue
            if node.op_type == "PulseV2Buffer":
                node = self._ahead(node)
            source = node.inputs[0]
            assert source is not None
            while len(self.masked.get(source, ())) == 1:
                source = self.masked[source][0]
                node.replace_input_with(0, source)
            axis = node.attributes.get_int("axis")
            if frames_of(node) <= 0:
                self._crop(node, axis)
                continue
            found.setdefault((source, axis), []).append(node)
        for (_, axis), group in found.items():
            for nodes in shared(group, axis, self.g.assume):
                wire = nodes[0].inputs[0]  # what a buffer made may have become its Delay's by now
                assert wire is not None
                self._delay(wire, axis, nodes)

    def _compose(self, node: ir.Node) -> None:
        """A history of a stream that begins with static frames is one of the stream itself: ``Buffer(Buffer(x, first, d, 0),
        e, o) = Buffer(x, first, d + e, o)``, for all the static frames are in the history of d frames, and only zeros before
        them."""
        source, a = node.inputs[0], node.attributes
        inner = None if source is None else source.producer()
        if inner is None or inner.domain != DOMAIN or inner.op_type != "PulseV2Buffer" or len(inner.inputs) < 2 or len(node.inputs) > 1:
            return
        x, first = inner.inputs
        assert x is not None and first is not None
        axis, delay = (inner.attributes.get_int(k) for k in ("axis", "delay"))
        shape = self.g.facts[first].shape
        if inner.attributes.get_int("overlap") or a.get_int("axis") != axis or "init" in a or shape is None or delay < int(shape[axis]):  # type: ignore[arg-type]
            return
        a.add(ir.AttrInt64("delay", a.get_int("delay") + delay))
        node.resize_inputs(2)
        node.replace_input_with(0, x)
        node.replace_input_with(1, first)
        if not inner.outputs[0].uses() and not inner.outputs[0].is_graph_output():
            self._forget(inner)

    def _ahead(self, node: ir.Node) -> ir.Node:
        """``Buffer(Reshape(x)) = Reshape(Buffer(x))`` where the Reshape merges the batch with another axis: a state has
        its batch on an axis of its own. Returns the buffer."""
        g, wire, out = self.g, node.inputs[0], node.outputs[0]
        reshape = None if wire is None else wire.producer()
        if g.batch is None or wire is None or reshape is None or reshape.op_type != "Reshape" or reshape.domain:
            return node
        source, axis = reshape.inputs[0], node.attributes.get_int("axis")
        assert source is not None
        given, merged, times = g.facts[source].shape, g.facts[wire].shape, list(g.regions.get(source, ()))
        if given is None or merged is None or len(times) != 1 or list(g.regions[wire]) != [axis] or "init" in node.attributes:
            return node
        (at,) = times
        others = [d for a, d in enumerate(merged) if a != axis and not isinstance(d, int)]
        if g.batch_axis(merged) is not None or g.batch_axis(given) is None or len(others) != 1 or g.chunks[source][at] != g.chunks[wire][axis]:
            return node
        frames = g.chunks[out][axis]
        if math.prod(given[:at]) != math.prod(merged[:axis]) or not isinstance(frames, int):
            return node
        early = self.build.value(f"{source.name}.ahead")
        early.type = source.type
        attributes = [ir.AttrInt64("axis", at) if a.name == "axis" else a for a in node.attributes.values()]
        buffer = ir.Node(DOMAIN, "PulseV2Buffer", [source], attributes, outputs=[early], name=self.build.unique(f"{early.name}/Buffer"))
        g.graph.insert_before(node, buffer)
        behind = g.regions[source][at].delay - g.regions[wire][axis].delay  # what slices in between took off the count
        region = replace(g.regions[out][axis], delay=g.regions[out][axis].delay + behind)
        g.facts[early], g.regions[early] = g.facts[source], {at: region}
        g.chunks[early] = tuple(frames if a == at else d for a, d in enumerate(g.chunks[source]))
        target = self.build.const([frames if a == axis else d if isinstance(d, int) else -1 for a, d in enumerate(merged)])
        if target not in g.facts:
            assert target.const_value is not None
            g.facts[target] = tensor_fact(target.const_value)
        node.op_type, node.domain = "Reshape", ""
        node.attributes.clear()
        node.resize_inputs(2)
        node.replace_input_with(0, early)
        node.replace_input_with(1, target)
        return buffer

    def _crop(self, node: ir.Node, axis: int) -> None:
        """A region that lies inside one chunk of its source: no history, only fewer frames."""
        delay, overlap = (node.attributes.get_int(k) for k in ("delay", "overlap"))
        first = node.inputs[1] if len(node.inputs) > 1 else None
        if first is not None and not delay and not overlap:
            # All of the chunk, behind the static frames: they matter to who keeps the last frames.
            for user, _ in list(node.outputs[0].uses()):
                if user.domain == DOMAIN and user.op_type == "Last":
                    user.resize_inputs(2)
                    user.replace_input_with(1, first)
            self.drop(node)
            return
        node.op_type, node.domain = "Slice", ""
        node.attributes.clear()
        bounds = [self._const(v) for v in (-delay - overlap, -delay or END, axis)]
        node.resize_inputs(4)
        for k, v in enumerate(bounds, 1):
            node.replace_input_with(k, v)

    def _const(self, v: int) -> ir.Value:
        value = self.build.const([v])
        if value not in self.g.facts:
            assert value.const_value is not None
            self.g.facts[value] = tensor_fact(value.const_value)
        return value

    def _delay(self, source: ir.Value, axis: int, nodes: list[ir.Node]) -> None:
        g = self.g
        views: dict[tuple[int, int], list[ir.Node]] = {}
        lasts: dict[int, list[ir.Node]] = {}
        for node in nodes:
            if node.op_type == "Last":
                lasts.setdefault(frames_of(node), []).append(node)
                continue
            view = (node.attributes.get_int("delay"), node.attributes.get_int("overlap"))
            views.setdefault(view, []).append(node)
        order = sorted(views)
        stem = f"{source.name}.delay" if views else f"{source.name}.last"
        outs = []
        for view in order:
            old = views[view][0].outputs[0]
            out = self.build.value(f"{source.name}.d{view[0]}o{view[1]}")
            out.type = old.type
            g.facts[out], g.regions[out], g.chunks[out] = g.facts[old], g.regions[old], g.chunks[old]
            outs.append(out)
        for count in sorted(lasts):
            old = lasts[count][0].outputs[0]
            out = self.build.value(f"{source.name}.last{count}")
            out.type = old.type
            g.facts[out], g.chunks[out] = g.facts[old], g.chunks[old]
            outs.append(out)
        history = max(frames_of(node) for node in nodes)
        attributes = [
            ir.AttrInt64("axis", axis),
            ir.AttrInt64s("delay", [d for d, _ in order]),
            ir.AttrInt64s("overlap", [o for _, o in order]),
        ]
        init = max((n.attributes["init"].as_tensor() for n in nodes if "init" in n.attributes), key=lambda t: t.size, default=None)
        if init is not None:
            attributes.append(ir.AttrTensor("init", widen(init, axis, history)))
        if lasts:
            ((rate, end),) = {end_of(node) for group in lasts.values() for node in group}
            attributes += [ir.AttrInt64s("last", sorted(lasts)), ir.AttrString("rate", rate), ir.AttrString("end", end)]
        first = [node.inputs[1] for node in nodes if len(node.inputs) > 1][:1]
        new = ir.Node(DOMAIN, "Delay", [source, *first], attributes, outputs=outs, name=self.build.unique(stem))
        if first:
            mine = set(nodes)
            self.g.graph.insert_before(next(n for n in self.g.graph if n in mine), new)
        else:
            self._after(source, new)
        for old_nodes, out in zip([*(views[v] for v in order), *(lasts[c] for c in sorted(lasts))], outs, strict=True):
            for node in old_nodes:
                self._become(new, node.outputs[0], out)
                self._forget(node)
        reads = any(n.attributes.get_int("reads_zeros", 0) for n in nodes)
        g.slots.append(StateSlot(self._state(new, source, axis, history, reads, "buffer" if views else "cache")))

    def _become(self, delay: ir.Node, old: ir.Value, out: ir.Value) -> None:
        """Who reads ``old`` reads ``out``; an output of the graph keeps its name, and is a wire of its own."""
        if old.is_graph_output():
            if out.is_graph_output():
                g = self.g
                copy = ir.Node("", "Identity", [out], outputs=[self.build.value(f"{old.name}.out")], name=self.build.unique(f"{old.name}/Identity"))
                g.graph.insert_after(delay, copy)
                out = copy.outputs[0]
                g.facts[out], g.chunks[out] = g.facts[old], g.chunks[old]
                if old in g.regions:
                    g.regions[out] = g.regions[old]
            out.type = old.type
            old.name, out.name = out.name, old.name
        old.replace_all_uses_with(out, replace_graph_outputs=True)

    def _state(self, node: ir.Node, source: ir.Value, axis: int, history: int, reads: bool, kind: str) -> State:
        fact = self.g.facts[source]
        assert fact.shape is not None
        batch = self.g.batch_axis(fact.shape)
        shape: list[int | str] = []
        for a, d in enumerate(fact.shape):
            if a == axis:
                shape.append(history)
            elif isinstance(d, int):
                shape.append(d)
            elif self.g.batch is not None and d == sym(self.g.batch):
                shape.append(self.g.batch)
            else:
                raise Refusal(
                    f"cannot buffer the wire {source.name!r}",
                    why=f"its axis {a} is {d} long, and a state needs fixed sizes besides the batch",
                    wire=self.g.describe(source),
                    hint=f"fix {d} in the model, or keep the batch on an axis of its own",
                )
        return State(node.name or "", fact.dtype, tuple(shape), axis, batch, kind, source.name or "", reads)
