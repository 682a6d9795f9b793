"""Wires in row form remember in one state: ``past [R, C]`` holds the history of every wire of C channels, one after the other.

A wire x of n frames per pulse with a history of H frames has the rows ``[at, at + H)``. What its readers need of it is
read for all wires at once, in front of everything else, and what is to be remembered is written at once behind it:

    past' = take(concat(past, x_1, x_2, ...), the last H_i rows of [past_i; x_i] for each i)

A window whose taps are each wholly past or wholly present (``P <= dilation``) is ``concat(past taps, x)``; any other is
taken from ``concat(past_i, x)``. Two nodes per wire at most are left of what was a Concat, Slices and a gathering of
windows. Bytes are those of the single buffers.

A long history is not moved at every pulse: its rows are rings. After T pulses, frame ``n*T - H + r`` of x is in row
``at + (n*T + r) mod H``, and so is, for what is written, frame ``n*T + r``. T is a counter of the model's, not of a row of
a batch, so models with a batch move theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.facts import State
from pulsify.graph import DOMAIN, Graph, StateSlot
from pulsify.rewrites._rows import Rows, RowView, row_view
from pulsify.rewrites.fix_shapes import END

__all__ = ["apply", "without_rings"]

#: Bytes that a copy moves in the time of a node.
_NODE = 8192

#: Bytes from which on a history is kept in rings.
_RING = 262144


@dataclass(slots=True)
class _Reader:
    """Who reads frames ``offsets [F, K]`` (0 is the first of the pulse) as rows of K*C; ``old`` is the wire to replace."""

    offsets: np.ndarray
    old: ir.Value


@dataclass(slots=True)
class _Source:
    """A wire with a history."""

    wire: ir.Value
    view: RowView
    delay: ir.Node
    slot: StateSlot
    readers: list[_Reader] = field(default_factory=list)
    at: int = 0
    #: Oldest frame that a reader of whole stretches needs.
    low: int = 0
    whole: ir.Value | None = None
    taken: dict[bytes, ir.Value] = field(default_factory=dict)

    @property
    def history(self) -> int:
        return int(self.slot.state.shape[self.view.axis])


def apply(g: Graph) -> int:
    return _share(g, rings=True)


def without_rings(g: Graph) -> int:
    """The same, every history moved at every pulse: no counter."""
    return _share(g, rings=False)


def _share(g: Graph, rings: bool) -> int:
    if g.pulse is None or not isinstance(g.pulse.size, int):
        return 0
    rows, groups = Rows(g), _groups(g)
    used = {n.name for n in g.graph}
    shared: dict[str, ir.Value] = {}
    for (channels, *_), sources in groups.items():
        size = sum(s.history for s in sources) * channels * sources[0].slot.state.dtype.itemsize
        (_Ring if rings and g.batch is None and size >= _RING else _Memory)(rows, sources, channels, used, shared).run()
    for node in list(g.graph):
        if node.domain == DOMAIN and node.op_type == "Taps":
            _alone(rows, node)
    g.graph.sort()
    return sum(map(len, groups.values()))


def _groups(g: Graph) -> dict[tuple[int, ir.DataType, bool], list[_Source]]:
    """The wires in row form that have a history, those that may share a state together."""
    slots = {slot.state.id: slot for slot in g.slots}
    groups: dict[tuple[int, ir.DataType, bool], list[_Source]] = {}
    for node in g.graph:
        if node.domain == DOMAIN and node.op_type == "Delay" and "init" not in node.attributes and node.inputs[0] is not None:
            view, before = row_view(g, node.inputs[0]), node.inputs[0].producer()
            # A history of a history reads what another one gives: it stays by itself.
            chained = before is not None and before.domain == DOMAIN and before.op_type == "Delay"
            if view is not None and view.plain and not chained:
                slot = slots[node.name or ""]
                key = (view.channels, slot.state.dtype, slot.state.zeros_read)
                groups.setdefault(key, []).append(_source(node, view, slot))
    return groups


def _source(node: ir.Node, view: RowView, slot: StateSlot) -> _Source:
    wire = node.inputs[0]
    assert wire is not None
    source = _Source(wire, view, node, slot)
    a = node.attributes
    for delay, overlap, out in zip(a.get_ints("delay"), a.get_ints("overlap"), node.outputs):
        first = -(delay + overlap)
        others = out.is_graph_output()
        for user, _ in out.uses():
            if user.domain == DOMAIN and user.op_type == "Taps":
                source.readers.append(_Reader(first + _windows(user), user.outputs[0]))
            else:
                others = True
        if others:
            frames = np.arange(first, view.frames - delay).reshape(-1, 1)
            source.readers.append(_Reader(frames, out))
    return source


def _windows(taps: ir.Node) -> np.ndarray:
    """Frames that a Taps reads, counted from the first of its input: ``[F, K]``."""
    a = taps.attributes
    return a.get_int("step") * np.arange(a.get_int("frames"))[:, None] + a.get_int("dilation") * np.arange(a.get_int("taps"))


def _alone(rows: Rows, node: ir.Node) -> None:
    """Windows over a wire that remembers nothing, or in a way of its own."""
    x = node.inputs[0]
    view = row_view(rows.g, x)
    assert x is not None and view is not None
    made = _take(rows, x, view, _windows(node), node.outputs[0].name or "taps")
    rows.replace(node.outputs[0], made)
    rows.g.graph.remove(node, safe=True)


def _note(rows: Rows, v: ir.Value, like: ir.Value, shape: Sequence[Any]) -> ir.Value:
    """A wire on the way: type and what it holds."""
    rows._loose(v, like)
    rows.g.chunks[v] = tuple(shape)
    return v


def _take(rows: Rows, x: ir.Value, view: RowView, offsets: np.ndarray, stem: str) -> ir.Value:
    """Rows of K*C made of frames ``offsets [F, K]`` of x, which has the given frames."""
    frames, taps = offsets.shape
    step = _stride(offsets)
    if taps > step > 1 and taps % step == 0 and offsets[0, 0] == 0 and offsets[-1, -1] == view.frames - 1:
        return _blocks(rows, x, view, frames, taps // step, step, stem)
    every = offsets.size == view.frames and np.array_equal(offsets.reshape(-1), np.arange(view.frames))
    wire = x
    if not every:
        index = offsets.reshape(-1) if taps == 1 else offsets
        (wire,) = rows.node("Gather", [x, rows.const(index, stem="frames")], f"{stem}.frames", axis=view.axis)
        _note(rows, wire, x, [frames, taps, view.channels])
    if taps == 1:
        return wire
    return _shaped(rows, wire, frames, taps * view.channels, view, stem)


def _stride(offsets: np.ndarray) -> int:
    """How far windows of neighbouring frames are apart; 0 if there are none, or none such."""
    if len(offsets) < 2 or np.any(np.diff(offsets, axis=1) != 1) or np.any(np.diff(offsets[:, 0]) != offsets[1, 0] - offsets[0, 0]):
        return 0
    return int(offsets[1, 0] - offsets[0, 0])


def _blocks(rows: Rows, x: ir.Value, view: RowView, frames: int, count: int, step: int, stem: str) -> ir.Value:
    """Overlapping windows of ``count`` blocks of ``step`` frames: the blocks as rows, and as often beside themselves, each
    time one further."""
    blocks = _shaped(rows, x, frames + count - 1, step * view.channels, view, f"{stem}.blocks")
    parts = []
    for k in range(count):
        (part,) = rows.node("Slice", [blocks, *(rows.const([v]) for v in (k, k + frames, view.axis))], f"{stem}.block")
        parts.append(_note(rows, part, x, [frames, step * view.channels]))
    (out,) = rows.node("Concat", parts, stem, axis=view.axis + 1)
    return _note(rows, out, x, [frames, count * step * view.channels])


def _shaped(rows: Rows, wire: ir.Value, frames: int, width: int, view: RowView, stem: str) -> ir.Value:
    target = [*([] if view.batch is None else [-1]), frames, width]
    (out,) = rows.node("Reshape", [wire, rows.const(target)], stem)
    return _note(rows, out, wire, [frames, width])


class _Memory:
    """One state for the wires of one number of channels."""

    def __init__(self, rows: Rows, sources: list[_Source], channels: int, used: set[str | None], shared: dict[str, ir.Value]):
        self.rows, self.g, self.sources, self.channels = rows, rows.g, sources, channels
        self.shared = shared
        self.view = sources[0].view
        at = 0
        for source in sources:
            source.at = at
            at += source.history
        self.size = at
        #: What is read in front: per number of taps, (rows of the state [F, K], who gets them).
        self.asked: dict[int, list[tuple[np.ndarray, str]]] = {}
        self.got: dict[tuple[int, bytes], ir.Value] = {}
        first = sources[0].slot.state
        if len(sources) == 1:
            self.state = first
        else:
            origin = ", ".join(s.slot.state.origin for s in sources)
            shape = tuple(at if a == self.view.axis else d for a, d in enumerate(first.shape))
            id = f"frames.{channels}"
            while id in used:
                id += "_"
            used.add(id)
            self.state = State(id, first.dtype, shape, first.axis, first.batch_axis, "buffer", origin, first.zeros_read)
        self.states = [self.state]
        self.past = self._past(self.state)

    def _past(self, state: State) -> ir.Value:
        (past,) = self.rows.pseudo("State", [], state.id, id=state.id, dtype=int(state.dtype), shape=[str(d) for d in state.shape])
        return _note(self.rows, past, self.sources[0].wire, state.shape)

    def run(self) -> None:
        g = self.g
        for source in self.sources:
            for reader in source.readers:
                self._ask(source, reader)
            if source.low < 0:
                self._want(np.arange(source.low, 0).reshape(-1, 1), source)
        self._read()
        for source in self.sources:
            if source.low < 0:
                self._join(source)
            for reader in source.readers:
                self._serve(source, reader)
        self._store()
        mine = {s.slot.state.id for s in self.sources}
        g.slots = [s for s in g.slots if s.state.id not in mine] + [StateSlot(state) for state in self.states]
        for source in self.sources:
            for v in source.delay.outputs:
                for user, _ in list(v.uses()):
                    for out in user.outputs:
                        g.forget(out)
                    g.graph.remove(user, safe=True)
                g.forget(v)
            g.graph.remove(source.delay, safe=True)

    # -- what readers need ----------------------------------------------------------------------------------------

    @staticmethod
    def _past_taps(offsets: np.ndarray) -> int | None:
        """How many taps are wholly past, the others wholly present; None if one is neither."""
        past = offsets < 0
        if offsets.shape[1] == 1 and len(offsets) > 1:
            return None
        if np.any(past.any(axis=0) != past.all(axis=0)):
            return None
        return int(past[0].sum())

    def _ask(self, source: _Source, reader: _Reader) -> None:
        taps = self._past_taps(reader.offsets)
        if taps is None:
            source.low = min(source.low, int(reader.offsets.min()))
        elif taps:
            self._want(reader.offsets[:, :taps], source)

    def _want(self, offsets: np.ndarray, source: _Source) -> None:
        index = offsets + source.at + source.history
        key = (offsets.shape[1], index.tobytes())
        if key not in self.got:
            self.got[key] = self.past
            self.asked.setdefault(offsets.shape[1], []).append((index, source.wire.name or ""))

    def _have(self, offsets: np.ndarray, source: _Source) -> ir.Value:
        return self.got[offsets.shape[1], (offsets + source.at + source.history).tobytes()]

    def _read(self) -> None:
        rows, view = self.rows, self.view
        for taps, asked in self.asked.items():
            index = np.concatenate([i for i, _ in asked])
            stem = self._stem(taps)
            contiguous = taps == 1 and len(index) > 1 and np.all(np.diff(index[:, 0]) == 1)
            if contiguous and len(index) < self.size:
                bounds = [rows.const([v]) for v in (int(index[0, 0]), int(index[-1, 0]) + 1, view.axis)]
                (wire,) = rows.node("Slice", [self.past, *bounds], stem)
                _note(rows, wire, self.past, [len(index), self.channels])
            else:
                whole = RowView(view.rank, view.time, view.channel, view.batch, self.size, self.channels, view.region, view.length)
                wire = _take(rows, self.past, whole, index, stem)
            self._hand_out(wire, taps, asked)

    def _stem(self, taps: int) -> str:
        return f"{self.state.id}.taps" if taps > 1 else f"{self.state.id}.past"

    def _hand_out(self, wire: ir.Value, taps: int, asked: list[tuple[np.ndarray, str]]) -> None:
        """Cut what was read for all into what each asked for."""
        rows, parts = self.rows, [wire]
        if len(asked) > 1:
            sizes = [len(i) for i, _ in asked]
            parts = rows.node("Split", [wire, rows.const(sizes, stem="rows")], f"{self._stem(taps)}.of", len(asked), axis=self.view.axis)
        for part, (i, name) in zip(parts, asked, strict=True):
            if len(asked) > 1:
                part.name = rows.build.unique(f"{name}.past")
                _note(rows, part, self.past, [len(i), taps * self.channels])
            self.got[taps, i.tobytes()] = part

    def _join(self, source: _Source) -> None:
        rows, view = self.rows, source.view
        past = self._have(np.arange(source.low, 0).reshape(-1, 1), source)
        (whole,) = rows.node("Concat", [past, source.wire], f"{source.wire.name}.frames", axis=view.axis)
        source.whole = _note(rows, whole, source.wire, [view.frames - source.low, view.channels])

    def _serve(self, source: _Source, reader: _Reader) -> None:
        key = reader.offsets.tobytes() + bytes(reader.offsets.shape[1])
        if key not in source.taken:
            source.taken[key] = self._made(source, reader)
        self.rows.replace(reader.old, source.taken[key])

    def _made(self, source: _Source, reader: _Reader) -> ir.Value:
        rows, view, offsets = self.rows, source.view, reader.offsets
        stem = reader.old.name or "taps"
        taps = self._past_taps(offsets)
        if taps is None:
            assert source.whole is not None
            frames = view.frames - source.low
            index = offsets - source.low
            if offsets.shape[1] == 1 and len(index) < frames:
                bounds = [rows.const([v]) for v in (int(index[0, 0]), int(index[-1, 0]) + 1 if index[-1, 0] + 1 < frames else END, view.axis)]
                return _note(rows, rows.node("Slice", [source.whole, *bounds], stem)[0], source.wire, [len(index), view.channels])
            joined = RowView(view.rank, view.time, view.channel, view.batch, frames, view.channels, view.region, view.length)
            return _take(rows, source.whole, joined, index, stem)
        parts = []
        if taps:
            parts.append(self._have(offsets[:, :taps], source))
        if taps < offsets.shape[1]:
            parts.append(_take(rows, source.wire, view, offsets[:, taps:], f"{stem}.now"))
        if len(parts) == 1:
            return parts[0]
        (out,) = rows.node("Concat", parts, stem, axis=view.axis + 1)
        return out

    # -- what is remembered ---------------------------------------------------------------------------------------

    def _store(self) -> None:
        rows, view = self.rows, self.view
        past = any(s.view.frames < s.history for s in self.sources)
        if len(self.sources) == 1:
            (source,) = self.sources
            new = self._last(source)
        else:
            parts, index, base = [], [], 0
            if past:
                parts.append(self.past)
                base = self.size
            for source in self.sources:
                wire, frames = source.wire, source.view.frames
                if (frames - source.history) * self.channels * source.slot.state.dtype.itemsize > _NODE:
                    wire, frames = self._tail(source), source.history
                parts.append(wire)
                kept = np.arange(frames, frames + source.history) - source.history  # the last ones of [past; x], counted in x
                index.append(np.where(kept < 0, kept + source.at + source.history, kept + base))
                base += frames
            (new,) = rows.node("Concat", parts, f"{self.state.id}.all", axis=view.axis)
            _note(rows, new, self.past, [base, self.channels])
            picked = np.concatenate(index)
            if len(picked) < base or np.any(np.diff(picked) != 1):
                (new,) = rows.node("Gather", [new, rows.const(picked, stem="frames")], f"{self.state.id}.kept", axis=view.axis)
                _note(rows, new, self.past, [self.size, self.channels])
        self._keep(self.state, new)

    def _keep(self, state: State, new: ir.Value) -> None:
        self.rows.build.node("Store", [new], f"{state.id}.store", {"id": state.id}, domain=DOMAIN, outputs=[])

    def _last(self, source: _Source) -> ir.Value:
        """The last H frames of ``[past; x]``."""
        rows, view, keep = self.rows, source.view, source.history
        if view.frames == keep:
            return source.wire
        if view.frames > keep:
            return self._tail(source)
        wire = source.whole if source.low == -keep and source.whole is not None else None
        if wire is None:
            (wire,) = rows.node("Concat", [self.past, source.wire], f"{self.state.id}.all", axis=view.axis)
            _note(rows, wire, self.past, [keep + view.frames, self.channels])
        bounds = [rows.const([v]) for v in (-keep, END, view.axis)]
        return _note(rows, rows.node("Slice", [wire, *bounds], f"{self.state.id}.kept")[0], self.past, [keep, self.channels])

    def _tail(self, source: _Source) -> ir.Value:
        rows, view = self.rows, source.view
        bounds = [rows.const([v]) for v in (-source.history, END, view.axis)]
        (out,) = rows.node("Slice", [source.wire, *bounds], f"{source.wire.name}.tail")
        return _note(rows, out, source.wire, [source.history, view.channels])


class _Ring(_Memory):
    """The same without moving what is remembered: only the counter turns."""

    def _read(self) -> None:
        rows = self.rows
        asked = [(taps, i) for taps, group in self.asked.items() for i, _ in group]
        index = np.concatenate([i.reshape(-1) for _, i in asked])
        owner = np.concatenate([np.full(s.history, k) for k, s in enumerate(self.sources)])[index]
        kept = [np.arange(max(0, s.view.frames - s.history), s.view.frames) for s in self.sources]
        who = np.concatenate([owner, *(np.full(len(k), i) for i, k in enumerate(kept))])
        frame = np.concatenate([index - np.array([s.at for s in self.sources])[owner], *kept])
        where = self._where(frame, who)
        read, self.written = rows.node("Split", [where, rows.const([len(index), len(who) - len(index)], stem="rows")], f"{self.state.id}.rows", 2, axis=0)
        (wire,) = rows.node("Gather", [self.past, read], f"{self.state.id}.read", axis=0)
        _note(rows, wire, self.past, [len(index), self.channels])
        sizes = [sum(i.size for i, _ in group) for group in self.asked.values()]
        parts = [wire]
        if len(sizes) > 1:
            parts = rows.node("Split", [wire, rows.const(sizes, stem="rows")], f"{self.state.id}.read.of", len(sizes), axis=0)
        for (taps, group), part, size in zip(self.asked.items(), parts, sizes, strict=True):
            _note(rows, part, self.past, [size, self.channels])
            if taps > 1:
                part = _shaped(rows, part, size // taps, taps * self.channels, self.view, self._stem(taps))
            self._hand_out(part, taps, group)

    def _where(self, frame: np.ndarray, who: np.ndarray) -> ir.Value:
        """``at + (n*T + r) mod H`` for the frames r of sources ``who``: int64, one per frame."""
        rows, id = self.rows, f"{self.state.id}.pulses"
        wire = self._pulses()
        n, h, at = (np.array(v)[who] for v in ([s.view.frames for s in self.sources], [s.history for s in self.sources], [s.at for s in self.sources]))
        for op, values in (("Mul", n), ("Add", frame), ("Mod", h), ("Add", at)):
            same = op != "Add" and np.all(values == values[0])
            if op == "Mul" and same and values[0] == 1:
                continue
            (wire,) = rows.node(op, [wire, rows.const(values[:1] if same else values, stem="rows")], f"{id}.{op.lower()}")
            _note(rows, wire, rows.const([1]), [len(who)])
        return wire

    def _pulses(self) -> ir.Value:
        """How many pulses have been: one counter for all rings."""
        rows = self.rows
        if "pulses" not in self.shared:
            pulses = State("pulses", ir.DataType.INT64, (1,), None, None, "counter", "pulses received")
            self.states.append(pulses)
            past = _note(rows, self._past(pulses), rows.const([1]), [1])
            (after,) = rows.node("Add", [past, rows.const([1])], "pulses.next")
            self._keep(pulses, _note(rows, after, rows.const([1]), [1]))
            self.shared["pulses"] = past
        return self.shared["pulses"]

    def _store(self) -> None:
        rows = self.rows
        parts = [self._tail(s) if s.view.frames > s.history else s.wire for s in self.sources]
        wire = parts[0]
        if len(parts) > 1:
            (wire,) = rows.node("Concat", parts, f"{self.state.id}.new", axis=0)
            _note(rows, wire, self.past, [sum(min(s.view.frames, s.history) for s in self.sources), self.channels])
        (index,) = rows.node("Unsqueeze", [self.written, rows.const([1])], f"{self.state.id}.at")
        _note(rows, index, rows.const([1]), [sum(min(s.view.frames, s.history) for s in self.sources), 1])
        (new,) = rows.node("ScatterND", [self.past, index, wire], f"{self.state.id}.kept")
        self._keep(self.state, _note(rows, new, self.past, self.state.shape))
