"""One state for the wires of one number of channels (see shared_memory.py)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from pulsify.facts import State
from pulsify.graph import DOMAIN, StateSlot, shape_attribute
from pulsify.rewrites._row_windows import note, take
from pulsify.rewrites._rows import Rows, RowView
from pulsify.rewrites.fix_shapes import END

__all__ = ["Memory", "Reader", "Source", "forget", "past_rows"]

#: Bytes that a copy moves in the time of a node.
_NODE = 8192


@dataclass(slots=True)
class Reader:
    """Who reads frames ``offsets [F, K]`` (0 is the first of the pulse) as rows of K*C; ``old`` is the wire to replace."""

    offsets: np.ndarray
    old: ir.Value


@dataclass(slots=True)
class Source:
    """A wire with a history."""

    wire: ir.Value
    view: RowView
    delay: ir.Node
    slot: StateSlot
    readers: list[Reader] = field(default_factory=list)
    at: int = 0
    #: Oldest frame that a reader of whole stretches needs.
    low: int = 0
    whole: ir.Value | None = None
    #: The last ``history`` frames of a pulse, once somebody cut them off.
    tail: ir.Value | None = None
    taken: dict[bytes, ir.Value] = field(default_factory=dict)

    @property
    def history(self) -> int:
        return int(self.slot.state.shape[self.view.axis])


class Memory:
    """One state for the wires of one number of channels."""

    #: Whether what is remembered moves at every pulse.
    _moves = True

    def __init__(self, rows: Rows, sources: list[Source], channels: int, used: set[str | None], shared: dict[str, ir.Value]):
        self.rows, self.g, self.sources, self.channels = rows, rows.g, sources, channels
        self.shared = shared
        self.view = sources[0].view
        at = 0
        for source in sources:
            source.at = at
            at += source.history
        self.size = at
        #: Whether history and pulse are joined anyway, for what is remembered.
        self.joined = len(sources) == 1 and self._moves and sources[0].history > sources[0].view.frames
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
        self.past = past_rows(rows, self.state, sources[0].wire)

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
            forget(self.rows, source)

    # -- what readers need ----------------------------------------------------------------------------------------

    def _past(self, source: Source, offsets: np.ndarray) -> tuple[int | None, int, int]:
        """How many taps of these windows are wholly past, the others wholly present; by how many frames the wire is beside
        itself; how many windows are wholly past. ``(None, 0, 0)`` for what is taken from history and pulse joined."""
        if self.joined and np.any(offsets < 0):
            return None, 0, 0
        taps = _past_taps(offsets)
        return taps, _shift(offsets, source.view.frames), _past_windows(offsets) if taps is None else 0

    def _ask(self, source: Source, reader: Reader) -> None:
        taps, shift, windows = self._past(source, reader.offsets)
        if shift:
            self._want(np.arange(-shift, 0).reshape(-1, 1), source)
        elif windows:
            self._want(reader.offsets[:windows], source)
        elif taps is None:
            source.low = min(source.low, int(reader.offsets.min()))
        elif taps:
            self._want(reader.offsets[:, :taps], source)

    def _want(self, offsets: np.ndarray, source: Source) -> None:
        index = offsets + source.at + source.history
        key = (offsets.shape[1], index.tobytes())
        if key not in self.got:
            self.got[key] = self.past
            self.asked.setdefault(offsets.shape[1], []).append((index, source.wire.name or ""))

    def _have(self, offsets: np.ndarray, source: Source) -> ir.Value:
        return self.got[offsets.shape[1], (offsets + source.at + source.history).tobytes()]

    def _read(self) -> None:
        rows, view = self.rows, self.view
        for taps, asked in self.asked.items():
            index = np.concatenate([i for i, _ in asked])
            stem = self._stem(taps)
            contiguous = taps == 1 and len(index) > 1 and np.all(np.diff(index[:, 0]) == 1)
            if contiguous and len(index) < self.size:
                first, rest = int(index[0, 0]), self.size - len(index)
                if len(asked) > 1 and rest * self.channels * self.state.dtype.itemsize <= _NODE:
                    self._hand_out(self.past, taps, asked, first)
                    continue
                bounds = [rows.const([v]) for v in (first, first + len(index), view.axis)]
                (wire,) = rows.node("Slice", [self.past, *bounds], stem)
                note(rows, wire, self.past, [len(index), self.channels])
            else:
                whole = RowView(view.rank, view.time, view.channel, view.batch, self.size, self.channels, view.region, view.length)
                wire = take(rows, self.past, whole, index, stem)
            self._hand_out(wire, taps, asked)

    def _stem(self, taps: int) -> str:
        return f"{self.state.id}.taps" if taps > 1 else f"{self.state.id}.past"

    def _hand_out(self, wire: ir.Value, taps: int, asked: list[tuple[np.ndarray, str]], first: int | None = None) -> None:
        """Cut what was read for all into what each asked for. ``wire`` is that, or the whole state, of which they ask the
        rows from ``first`` on."""
        rows, parts = self.rows, [wire]
        sizes = [len(i) for i, _ in asked]
        before = 0 if first is None else first
        behind = 0 if first is None else self.size - first - sum(sizes)
        if len(asked) > 1:
            every = [n for n in (before, *sizes, behind) if n]
            parts = rows.node("Split", [wire, rows.const(every, stem="rows")], f"{self._stem(taps)}.of", len(every), axis=self.view.axis)
            for part, n in zip(parts, every, strict=True):
                note(rows, part, self.past, [n, taps * self.channels])
            parts = parts[bool(before) :][: len(asked)]
        for part, (i, name) in zip(parts, asked, strict=True):
            if len(asked) > 1:
                part.name = rows.build.unique(f"{name}.past")
            self.got[taps, i.tobytes()] = part

    def _join(self, source: Source) -> None:
        rows, view = self.rows, source.view
        past = self._have(np.arange(source.low, 0).reshape(-1, 1), source)
        (whole,) = rows.node("Concat", [past, source.wire], f"{source.wire.name}.frames", axis=view.axis)
        source.whole = note(rows, whole, source.wire, [view.frames - source.low, view.channels])

    def _serve(self, source: Source, reader: Reader) -> None:
        key = reader.offsets.tobytes() + bytes(reader.offsets.shape[1])
        if key not in source.taken:
            source.taken[key] = self._made(source, reader)
        self.rows.replace(reader.old, source.taken[key])

    def _made(self, source: Source, reader: Reader) -> ir.Value:
        rows, view, offsets = self.rows, source.view, reader.offsets
        stem = reader.old.name or "taps"
        taps, shift, windows = self._past(source, offsets)
        if shift:
            return self._beside(source, shift, stem)
        if windows:
            now = take(rows, source.wire, view, offsets[windows:], f"{stem}.now")
            (out,) = rows.node("Concat", [self._have(offsets[:windows], source), now], stem, axis=view.axis)
            return note(rows, out, source.wire, [len(offsets), offsets.shape[1] * view.channels])
        if taps is None:
            assert source.whole is not None
            frames = view.frames - source.low
            index = offsets - source.low
            if offsets.shape[1] == 1 and len(index) < frames and np.all(np.diff(index[:, 0]) == 1):
                bounds = [rows.const([v]) for v in (int(index[0, 0]), int(index[-1, 0]) + 1 if index[-1, 0] + 1 < frames else END, view.axis)]
                return note(rows, rows.node("Slice", [source.whole, *bounds], stem)[0], source.wire, [len(index), view.channels])
            joined = RowView(view.rank, view.time, view.channel, view.batch, frames, view.channels, view.region, view.length)
            return take(rows, source.whole, joined, index, stem)
        parts = []
        if taps:
            parts.append(self._have(offsets[:, :taps], source))
        if taps < offsets.shape[1]:
            parts.append(take(rows, source.wire, view, offsets[:, taps:], f"{stem}.now"))
        if len(parts) == 1:
            return parts[0]
        (out,) = rows.node("Concat", parts, stem, axis=view.axis + 1)
        return out

    def _beside(self, source: Source, shift: int, stem: str) -> ir.Value:
        """Rows of two frames: the wire ``shift`` frames ago beside itself."""
        rows, view, x = self.rows, source.view, source.wire
        past = self._have(np.arange(-shift, 0).reshape(-1, 1), source)
        (whole,) = rows.node("Concat", [past, x], f"{x.name}.frames", axis=view.axis)
        note(rows, whole, x, [shift + view.frames, view.channels])
        before, tail = rows.node("Split", [whole, rows.const([view.frames, shift], stem="rows")], f"{stem}.before", 2, axis=view.axis)
        for part, n in ((before, view.frames), (tail, shift)):
            note(rows, part, x, [n, view.channels])
        if shift == source.history:
            source.tail = tail
        return rows.node("Concat", [before, x], stem, axis=view.axis + 1)[0]

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
                surplus = (frames - source.history) * self.channels * source.slot.state.dtype.itemsize
                if source.tail is not None or surplus > _NODE:
                    wire, frames = self._tail(source), source.history
                parts.append(wire)
                kept = np.arange(frames, frames + source.history) - source.history  # the last ones of [past; x], counted in x
                index.append(np.where(kept < 0, kept + source.at + source.history, kept + base))
                base += frames
            (new,) = rows.node("Concat", parts, f"{self.state.id}.all", axis=view.axis)
            note(rows, new, self.past, [base, self.channels])
            picked = np.concatenate(index)
            if len(picked) < base or np.any(np.diff(picked) != 1):
                (new,) = rows.node("Gather", [new, rows.const(picked, stem="frames")], f"{self.state.id}.kept", axis=view.axis)
                note(rows, new, self.past, [self.size, self.channels])
        self._keep(self.state, new)

    def _keep(self, state: State, new: ir.Value) -> None:
        self.rows.build.node("Store", [new], f"{state.id}.store", {"id": state.id}, domain=DOMAIN, outputs=[])

    def _last(self, source: Source) -> ir.Value:
        """The last H frames of ``[past; x]``."""
        rows, view, keep = self.rows, source.view, source.history
        if view.frames == keep:
            return source.wire
        if view.frames > keep:
            return self._tail(source)
        wire = source.whole if source.low == -keep and source.whole is not None else None
        if wire is None:
            (wire,) = rows.node("Concat", [self.past, source.wire], f"{self.state.id}.all", axis=view.axis)
            note(rows, wire, self.past, [keep + view.frames, self.channels])
        bounds = [rows.const([v]) for v in (-keep, END, view.axis)]
        return note(rows, rows.node("Slice", [wire, *bounds], f"{self.state.id}.kept")[0], self.past, [keep, self.channels])

    def _tail(self, source: Source) -> ir.Value:
        rows, view = self.rows, source.view
        if source.tail is not None:
            return source.tail
        bounds = [rows.const([v]) for v in (-source.history, END, view.axis)]
        (out,) = rows.node("Slice", [source.wire, *bounds], f"{source.wire.name}.tail")
        return note(rows, out, source.wire, [source.history, view.channels])


def past_rows(rows: Rows, state: State, like: ir.Value) -> ir.Value:
    """What a state held before the pulse, of frames of the wire ``like``."""
    (wire,) = rows.pseudo("State", [], state.id, id=state.id, dtype=int(state.dtype), shape=shape_attribute(state.shape))
    return note(rows, wire, like, state.shape)


def forget(rows: Rows, source: Source) -> None:
    """Remove a history that nobody reads any longer, with who had."""
    g = rows.g
    for v in source.delay.outputs:
        for user, _ in list(v.uses()):
            for out in user.outputs:
                g.forget(out)
            g.graph.remove(user, safe=True)
        g.forget(v)
    g.graph.remove(source.delay, safe=True)


def _past_taps(offsets: np.ndarray) -> int | None:
    """How many taps are wholly past, the others wholly present; None if one is neither."""
    past = offsets < 0
    if offsets.shape[1] == 1 and len(offsets) > 1:
        return None
    if np.any(past.any(axis=0) != past.all(axis=0)):
        return None
    return int(past[0].sum())


def _past_windows(offsets: np.ndarray) -> int:
    """How many windows are wholly past where all others are wholly present; 0 if that is not so, or if they are a stretch."""
    past = offsets < 0
    stretch = offsets.shape[1] == 1 and np.all(np.diff(offsets[:, 0]) == 1)
    split = np.array_equal(past.any(axis=1), past.all(axis=1)) and np.all(np.diff(past[:, 0].astype(int)) <= 0)
    return int(past[:, 0].sum()) if split and not stretch and past[0, 0] and not past[-1, 0] else 0


def _shift(offsets: np.ndarray, frames: int) -> int:
    """How many frames apart the two columns are where one is the pulse itself and the other begins in the past and ends in
    the pulse; 0 for anything else."""
    now, shift = np.arange(frames), -int(offsets[0, 0])
    if offsets.shape != (frames, 2) or not 0 < shift < frames:
        return 0
    return shift if np.array_equal(offsets, np.stack([now - shift, now], axis=1)) else 0
