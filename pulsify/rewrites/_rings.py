"""Long histories as rings (see shared_memory.py)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.facts import State
from pulsify.rewrites._memory import Memory, past_rows
from pulsify.rewrites._row_windows import note, shaped

__all__ = ["Ring"]


class Ring(Memory):
    """The same without moving what is remembered: only the counter turns."""

    _moves = False

    def _read(self) -> None:
        rows = self.rows
        asked = [(taps, i) for taps, group in self.asked.items() for i, _ in group]
        index = np.concatenate([i.reshape(-1) for _, i in asked])
        begins = np.array([s.at for s in self.sources])
        owner = np.searchsorted(begins, index, side="right") - 1
        kept = [np.arange(max(0, s.view.frames - s.history), s.view.frames) for s in self.sources]
        who = np.concatenate([owner, *(np.full(len(k), i) for i, k in enumerate(kept))])
        frame = np.concatenate([index - begins[owner], *kept])
        where = self._where(frame, who)
        read, self.written = rows.node("Split", [where, rows.const([len(index), len(who) - len(index)], stem="rows")], f"{self.state.id}.rows", 2, axis=0)
        (wire,) = rows.node("Gather", [self.past, read], f"{self.state.id}.read", axis=0)
        note(rows, wire, self.past, [len(index), self.channels])
        sizes = [sum(i.size for i, _ in group) for group in self.asked.values()]
        parts = [wire]
        if len(sizes) > 1:
            parts = rows.node("Split", [wire, rows.const(sizes, stem="rows")], f"{self.state.id}.read.of", len(sizes), axis=0)
        for (taps, group), part, size in zip(self.asked.items(), parts, sizes, strict=True):
            note(rows, part, self.past, [size, self.channels])
            if taps > 1:
                part = shaped(rows, part, size // taps, taps * self.channels, self.view, self._stem(taps))
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
            note(rows, wire, rows.const([1]), [len(who)])
        return wire

    def _pulses(self) -> ir.Value:
        """How many pulses have been: one counter for all rings."""
        rows = self.rows
        if "pulses" not in self.shared:
            pulses = State("pulses", ir.DataType.INT64, (1,), None, None, "counter", "pulses received")
            self.states.append(pulses)
            past = note(rows, past_rows(rows, pulses, rows.const([1])), rows.const([1]), [1])
            (after,) = rows.node("Add", [past, rows.const([1])], "pulses.next")
            self._keep(pulses, note(rows, after, rows.const([1]), [1]))
            self.shared["pulses"] = past
        return self.shared["pulses"]

    def _store(self) -> None:
        rows = self.rows
        parts = [self._tail(s) if s.view.frames > s.history else s.wire for s in self.sources]
        wire = parts[0]
        if len(parts) > 1:
            (wire,) = rows.node("Concat", parts, f"{self.state.id}.new", axis=0)
            note(rows, wire, self.past, [sum(min(s.view.frames, s.history) for s in self.sources), self.channels])
        (index,) = rows.node("Unsqueeze", [self.written, rows.const([1])], f"{self.state.id}.at")
        note(rows, index, rows.const([1]), [sum(min(s.view.frames, s.history) for s in self.sources), 1])
        (new,) = rows.node("ScatterND", [self.past, index, wire], f"{self.state.id}.kept")
        self._keep(self.state, note(rows, new, self.past, self.state.shape))
