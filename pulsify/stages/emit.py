"""emit: ONNX. Delays, masks and positions become Concat, Slice, Where and counters; states become inputs.

Promise: no pseudo-operator is left, no operator beyond the standard's but those of the batch model and of the target, states
are paired, the manifest is written (docs/contract.md).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify import contract
from pulsify.facts import Shape, Splice, State
from pulsify.graph import DOMAIN, Graph, NodeBuilder, StateSlot, name_bodies, sort, tensor
from pulsify.rewrites.fix_shapes import END
from pulsify.stages._counters import Counters, parse_length, parse_rate
from pulsify.stages._first_pulse import FirstPulse
from pulsify.stages._in_place import mark_in_place

__all__ = ["emit"]

#: Types the Where of common runtimes takes; others go through one that does.
_WHERE = {"FLOAT", "DOUBLE", "INT64", "INT32", "UINT8", "STRING", "FLOAT16"}
_VIA = {"BOOL": ir.DataType.UINT8, "UINT64": ir.DataType.INT64, "UINT32": ir.DataType.INT64, "BFLOAT16": ir.DataType.FLOAT}


#: From so many inputs on, replacing them one by one is slow.
_WIDE = 32


def emit(g: Graph) -> Graph:
    """Lower the pulsed graph and write its interface."""
    _Emitter(g).run()
    return g


class _Emitter:
    def __init__(self, g: Graph):
        self.g = g
        self.nodes = list(g.graph)
        taken = {v.name for n in self.nodes for v in n.outputs if v.name} | {n.name for n in self.nodes if n.name}
        taken |= {v.name for v in g.graph.outputs if v.name}
        self.build = NodeBuilder(g.graph, taken)
        self.counters = Counters(g, self.build)
        self.slots = {slot.state.id: slot for slot in g.slots}
        self.first_pulse = FirstPulse(self.build)

    def run(self) -> None:
        g = self.g
        # New nodes are appended behind everything; a final sort puts each where it belongs.
        mine = [n for n in self.nodes if n.domain == DOMAIN]
        for node in mine:
            if node.op_type in ("Mask", "Valid"):
                self.counters.expect(*self._where(node))
        # A Delay and a Store read a wire for good once nothing else is swapped.
        for node in sorted(mine, key=lambda n: (n.op_type == "Store", n.op_type == "Delay")):
            getattr(self, f"_{node.op_type.lower()}")(node)
        if self.first_pulse:
            self.first_pulse.finish(self.counters.started(1, None))
        sort(g.graph)
        g.graph.opset_imports.pop(DOMAIN, None)
        for name, value in list(g.graph.initializers.items()):
            if not value.uses() and not value.is_graph_output():
                del g.graph.initializers[name]
        self._interface()
        name_bodies(g.graph)
        contract.write(g, self.counters.valid_frames)

    def _swap(self, node: ir.Node, outputs: list[ir.Value]) -> None:
        for old, new in zip(node.outputs, outputs, strict=True):
            name = old.name
            was_output = old.is_graph_output()
            if was_output:
                if new.is_graph_input() or new.is_graph_output():
                    new = self.build.op("Identity", [new], f"{name}.out")
                old.name = self.build.unique(f"{name}.old")
                new.name = name
            new.type = new.type or old.type
            self.g.rename(old, new)
            old.replace_all_uses_with(new, replace_graph_outputs=True)
        self.g.graph.remove(node, safe=True)

    def _turn(self, node: ir.Node, new: ir.Value) -> None:
        """Put ``new``, which nothing else knows of, in place of the node's output. For wide readers the node becomes the one that makes it."""
        made, out = new.producer(), node.outputs[0]
        if made is None or out.is_graph_output() or not any(len(user.inputs) > _WIDE for user, _ in out.uses()):
            self._swap(node, [new])
            return
        inputs, name = list(made.inputs), new.name
        node.op_type, node.domain, node.name = made.op_type, made.domain, made.name
        node.attributes.clear()
        node.attributes.update(made.attributes)
        self.g.graph.remove(made, safe=True)
        node.resize_inputs(len(inputs))
        for k, v in enumerate(inputs):
            node.replace_input_with(k, v)
        out.name, out.type = name, new.type or out.type

    def _delay(self, node: ir.Node) -> None:
        slot = self.slots[node.name or ""]
        source = node.inputs[0]
        assert source is not None
        axis = node.attributes.get_int("axis")
        views = list(zip(node.attributes.get_ints("delay"), node.attributes.get_ints("overlap"), strict=True))
        history = int(slot.state.shape[axis])
        past = ir.Value(name=self.build.unique(f"past_{_identifier(slot.state.id)}"), type=ir.TensorType(slot.state.dtype))
        slot.past = past
        before, state = past, slot.state
        first = node.attributes["init"].as_tensor() if "init" in node.attributes else node.inputs[1] if len(node.inputs) > 1 else None
        if node.attributes.get_int("once", 0) and isinstance(first, ir.Value):
            shape = self.g.facts[first].shape
            assert shape is not None
            fitted = self._fitted(first, shape, axis, history, state.dtype)
            before = self.first_pulse.choose(past, fitted, state, f"{node.name}.past")
        elif first is not None:
            flag = self.counters.started(len(state.shape), state.batch_axis)
            before = self._choose(flag, past, first, f"{node.name}.past", len(state.shape), axis, history)
        lasts = node.attributes.get_ints("last", ())
        stem = f"present_{_identifier(state.id)}"
        frames = self.g.chunks.get(source, (None,) * len(state.shape))[axis]
        if views == [(history, 0)] and not lasts and isinstance(frames, int):
            self._swap(node, [self._late(slot, before, source, axis, frames, history, stem)])
            return
        whole = self.build.op("Concat", [before, source], f"{node.name}.frames", axis=axis)
        late: ir.Value | None = None
        if lasts:
            slot.present = self._held(node, state, past, whole, history, stem)
        elif frames == history and self._free(source):
            slot.present = source  # a pulse is all that is remembered
        elif isinstance(frames, int) and (history, 0) in views:
            late, slot.present = self._parts(whole, axis, (frames, history), stem)
        else:
            slot.present = self._cut(whole, axis, -history, END, stem)
        outputs = []
        for (delay, overlap), out in zip(views, node.outputs):
            start, end = history - delay - overlap, -delay if delay else END
            if late is not None and (delay, overlap) == (history, 0):
                outputs.append(late)
            else:
                outputs.append(whole if (start, end) == (0, END) else self._cut(whole, axis, start, end, f"{out.name}.view"))
        for count, out in zip(lasts, node.outputs[len(views) :], strict=True):
            if count < history:
                outputs.append(self._cut(slot.present, axis, -count, END, f"{out.name}.view"))
            else:
                outputs.append(self.build.op("Identity", [slot.present], f"{out.name}.view") if out.is_graph_output() else slot.present)
        self._swap(node, outputs)

    def _late(self, slot: StateSlot, before: ir.Value, source: ir.Value, axis: int, frames: int, history: int, stem: str) -> ir.Value:
        """A wire delayed by all that is remembered of it: that, and the begin of the pulse. The rest is remembered next."""
        if frames == history:
            slot.present = source if self._free(source) else self.build.op("Identity", [source], stem)
            return before
        whole = self.build.op("Concat", [before, source], f"{stem}.frames", axis=axis)
        late, slot.present = self._parts(whole, axis, (frames, history), stem)
        return late

    def _parts(self, wire: ir.Value, axis: int, sizes: tuple[int, int], stem: str) -> tuple[ir.Value, ir.Value]:
        first, last = self.build.node("Split", [wire, self.build.const(sizes)], f"{stem}.of", {"axis": axis}, num_outputs=2).outputs
        return first, last

    def _free(self, wire: ir.Value) -> bool:
        """Whether a wire may be what a state is next, under the state's name."""
        if wire.is_graph_output() or wire.is_graph_input() or wire.producer() is None:
            return False
        return all(slot.present is not wire for slot in self.slots.values())

    def _held(self, node: ir.Node, state: State, past: ir.Value, whole: ir.Value, history: int, stem: str) -> ir.Value:
        """The last real frames: ``whole[r : r + history]``, r the real ones of this pulse, per row."""
        assert state.axis is not None
        rank, axis, batch = len(state.shape), state.axis, state.batch_axis
        end = parse_rate(node.attributes.get_string("rate")), parse_length(node.attributes.get_string("end")), history
        if batch is None:
            return self.build.op("Slice", [whole, *self.counters.kept(*end), self.build.const([axis])], stem)
        index = self.counters.kept_rows(*end, rank, axis, batch)
        if rank > 2:
            index = self.build.op("Expand", [index, self.build.op("Shape", [past], f"{stem}.shape")], f"{stem}.index")
        return self.build.op("GatherElements", [whole, index], stem, axis=axis)

    def _cut(self, wire: ir.Value, axis: int, start: int, end: int, stem: str) -> ir.Value:
        return self.build.op("Slice", [wire, *(self.build.const([v]) for v in (start, end, axis))], stem)

    def _where(self, node: ir.Node) -> tuple[Any, ...]:
        """What a Mask or Valid asks of the counters."""
        a = node.attributes
        place = parse_rate(a.get_string("rate")), a.get_int("delay"), parse_length(a.get_string("length"))
        ends = bool(a.get_int("start")), bool(a.get_int("end"))
        if node.op_type == "Mask":
            fact = self.g.facts[node.inputs[0]]  # type: ignore[index]
            factor = tensor(node, "value").dtype if a.get_int("product", 0) else None
            rank, time, batch = fact.rank, a.get_int("axis"), self.g.batch_axis(fact.shape)
            if self.g.batch is None and self.g.chunks.get(node.inputs[0], (1,) * rank)[time] != 1:  # type: ignore[arg-type]
                # Axes in front of time broadcast, and masks of more wires are equal. A single frame keeps all its axes:
                # see full_rank_scalars.py.
                rank, time = rank - time, 0
            return *place, *ends, rank, time, batch, factor
        _, rank, batch = self._placed(node)
        return *place, *ends, rank, a.get_int("time"), batch, None

    def _mask(self, node: ir.Node) -> None:
        source = node.inputs[0]
        assert source is not None
        keep = self.counters.valid(*self._where(node))
        if node.attributes.get_int("product", 0):
            out = self.build.op("Mul", [source, keep], f"{source.name}.real")
        else:
            out = self._choose(keep, source, tensor(node, "value"), f"{source.name}.real", self.g.facts[source].rank)
        self._turn(node, out)

    def _choose(
        self, keep: ir.Value, source: ir.Value, other: ir.TensorProtocol | ir.Value, stem: str, rank: int, axis: int = 0, frames: int = 0
    ) -> ir.Value:
        """``source``, of the given rank, where ``keep``, else the constant, or the last ``frames`` of a static wire (zeros in front of it where it
        is shorter); through a type that Where takes."""
        if isinstance(other, ir.Value) and other.const_value is not None:
            other = ir.tensor(_last_of(np.asarray(other.const_value.numpy()), axis, frames), dtype=other.const_value.dtype)
        dtype = other.dtype if not isinstance(other, ir.Value) else self.g.facts[other].dtype
        via = dtype
        if dtype.name not in _WHERE:
            via = _VIA.get(dtype.name, ir.DataType.INT32 if dtype.is_integer() else ir.DataType.FLOAT)
            source = self.build.op("Cast", [source], f"{stem}.wide", to=via)
        if isinstance(other, ir.Value):
            shape = self.g.facts[other].shape
            assert shape is not None
            other = other if via == dtype else self.build.op("Cast", [other], f"{stem}.first", to=via)
            fill = self._fitted(other, shape, axis, frames, via)
        else:
            fill = self._fill(other.numpy() if via == dtype else other.numpy().astype(via.numpy()), rank)
        if via == dtype:
            return self.build.op("Where", [keep, source, fill], stem)
        chosen = self.build.op("Where", [keep, source, fill], f"{stem}.chosen")
        return self.build.op("Cast", [chosen], stem, to=dtype)

    def _fitted(self, wire: ir.Value, shape: Shape, axis: int, frames: int, dtype: ir.DataType) -> ir.Value:
        """The last frames of a static wire, or all of them behind zeros."""
        missing = frames - int(shape[axis])  # type: ignore[arg-type]
        stem = f"{wire.name}.fitted"
        if missing <= 0:
            return self._cut(wire, axis, -frames, END, stem) if missing else wire
        if all(isinstance(d, int) for d in shape):
            zeros = np.zeros([missing if a == axis else int(d) for a, d in enumerate(shape)], dtype.numpy())  # type: ignore[arg-type]
            return self.build.op("Concat", [self.build.const(zeros, "zeros", zeros.dtype), wire], stem, axis=axis)
        pads = self.build.const([missing * (a == axis) for a in range(2 * len(shape))], "pads")
        return self.build.op("Pad", [wire, pads], stem)

    def _fill(self, array: np.ndarray, rank: int) -> ir.Value:
        if array.size == 1:
            return self.build.const(array.reshape([1] * rank), "fill", array.dtype)
        return self.build.initializer(ir.tensor(array), "fill")

    def _position(self, node: ir.Node) -> None:
        a, rank, batch = self._placed(node)
        out = self.counters.index(parse_rate(a.get_string("rate")), a.get_int("delay"), rank, a.get_int("time"), batch)
        self._swap(node, [out])

    def _take(self, node: ir.Node) -> None:
        out = self.build.op("GatherElements", list(node.inputs), f"{node.name}", axis=node.attributes.get_int("axis"))
        self._swap(node, [out])

    def _source(self, node: ir.Node) -> None:
        a, rank, batch = self._placed(node)
        splice = Splice(a.get_string("mode"), a.get_int("before"), parse_length(a.get_string("after")))
        out = self.counters.source(
            parse_rate(a.get_string("rate")), a.get_int("delay"), a.get_int("overlap"), splice,
            parse_length(a.get_string("length")), a.get_int("history"), a.get_int("kept"), rank, a.get_int("time"), batch,
        )  # fmt: skip
        self._swap(node, [out])

    def _valid(self, node: ir.Node) -> None:
        self._swap(node, [self.counters.valid(*self._where(node))])

    def _length(self, node: ir.Node) -> None:
        a, rank, batch = self._placed(node)
        self._swap(node, [self.counters.length(parse_length(a.get_string("length")), rank, batch)])

    def _count(self, node: ir.Node) -> None:
        a, rank, batch = self._placed(node)
        out = self.counters.count(
            parse_rate(a.get_string("rate")), a.get_int("delay"), parse_length(a.get_string("length")), rank, batch
        )
        self._swap(node, [out])

    def _bound(self, node: ir.Node) -> None:
        a = node.attributes
        rate, length = parse_rate(a.get_string("rate")), parse_length(a.get_string("length"))
        self._swap(node, [self.counters.bound(rate, a.get_int("delay"), length, bool(a.get_int("end")))])

    def _started(self, node: ir.Node) -> None:
        _, rank, batch = self._placed(node)
        self._swap(node, [self.counters.started(rank, batch)])

    @staticmethod
    def _placed(node: ir.Node) -> tuple[Any, int, int | None]:
        a = node.attributes
        batch = a.get_int("batch")
        return a, len(a.get_strings("shape")), None if batch < 0 else batch

    def _state(self, node: ir.Node) -> None:
        slot = self.slots[node.attributes.get_string("id")]
        slot.past = ir.Value(name=self.build.unique(f"past_{_identifier(slot.state.id)}"), type=ir.TensorType(slot.state.dtype))
        self._swap(node, [slot.past])

    def _store(self, node: ir.Node) -> None:
        slot = self.slots[node.attributes.get_string("id")]
        present = node.inputs[0]
        assert present is not None
        if not self._free(present):
            present = self.build.op("Identity", [present], f"{slot.state.id}.present")
        slot.present = present
        self.g.graph.remove(node, safe=True)

    def _interface(self) -> None:
        """Inputs and outputs in the order of the contract, with their shapes."""
        g = self.g
        for v in (*g.graph.inputs, *g.graph.outputs):
            f = g.facts.get(v)
            chunk = g.chunks.get(v, f.shape if f is not None else None)
            if chunk is not None:
                v.shape = ir.Shape([d if isinstance(d, int) else self._name(d) for d in contract.pulsed_shape(g, v)])
            if v.type is None and f is not None:
                v.type = ir.TensorType(f.dtype)
        if self.counters.valid_frames is not None:
            v = self.counters.valid_frames
            v.shape = ir.Shape([g.batch if g.batch is not None else 1])
            g.graph.inputs.append(v)
        slots = [*g.slots, *self.counters.slots]
        for slot in slots:
            assert slot.past is not None and slot.present is not None
            for v in (slot.past, slot.present):
                v.shape = ir.Shape(list(slot.state.shape))
                v.type = ir.TensorType(slot.state.dtype)
            self._name_present(slot)
            g.graph.inputs.append(slot.past)
            g.graph.outputs.append(slot.present)
        g.slots = slots
        mark_in_place(g.graph, slots)

    @staticmethod
    def _name(d: object) -> str:
        return str(d)

    def _name_present(self, slot: StateSlot) -> None:
        assert slot.past is not None and slot.present is not None and slot.past.name is not None
        name = "present_" + slot.past.name.removeprefix("past_")
        if slot.present.name != name:
            slot.present.name = name if name not in self.build.names else self.build.unique(name)


def _last_of(array: np.ndarray, axis: int, frames: int) -> np.ndarray:
    """The last frames, zeros in front of them where there are fewer."""
    missing = frames - array.shape[axis]
    if missing <= 0:
        return np.take(array, range(-missing, array.shape[axis]), axis)
    return np.pad(array, [(missing * (a == axis), 0) for a in range(array.ndim)])


def _identifier(text: str) -> str:
    """A state id that every client's language can hold: letters, digits, dots and underscores."""
    return re.sub(r"[^0-9A-Za-z_.]+", "_", text).strip("_") or "state"
