"""Streams many recordings through one pulsed model, each at its own pace.

A call runs exactly the rows that have a whole pulse (or end), gathered into a compact batch, so a row without data never
passes through the model. Rows stay in the compact batch until another set of rows has to run; then their states go back
to where each row keeps its own.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from ..errors import ClientError
from . import saved
from .bound import Memory, runner
from .client import Client
from .compact import Compact
from .model import Model, Port, resolve
from .stream import Stream, check_length

__all__ = ["StreamBatch"]

#: Compact batches kept bound, by number of rows; they share the memory of the states.
BOUND = 32


class _Row:
    """One stream of the batch: its account, its static inputs, and where its states are kept."""

    def __init__(self, model: Model, slot: int, static: dict[str, np.ndarray]):
        self.stream = Stream(model)
        self.slot, self.static = slot, static
        self.total: int | None = None  # frames of the whole stream, once it ends
        self.failed: ClientError | None = None


class StreamBatch(Client):
    """Streams any number of rows through one model with a symbolic batch axis; rows join and leave at any time.

    ``add`` starts a row, ``feed`` takes chunks of any length for any of the rows and returns the frames of each that
    became final, ``finish`` ends one and returns its tail. A row gives the frames it would give alone; one that is not
    fed is left as it is.

    Chunks and frames have the model's axes with a batch axis of 1, as a :class:`StreamSession` of one row has them.
    ``static`` holds the static inputs; those with a batch axis may be given to ``add`` instead. The other arguments are
    those of :class:`StreamSession`. Not to be shared between threads.
    ClientError where the model mixes rows or has no symbolic batch axis.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | ort.InferenceSession,
        *,
        static: Mapping[str, Any] | None = None,
        pulse: int | None = None,
        options: ort.SessionOptions | None = None,
        providers: list[Any] | None = None,
        filler: float = 0.0,
    ):
        super().__init__(model, None, pulse, options, providers, filler)
        m = self._model
        if m.batch is None:
            ports = ", ".join(f"{p.name} is {list(p.shape)}" for p in m.inputs)
            raise ClientError(
                "this model cannot hold a batch of streams",
                why=f"it has no symbolic batch axis: {ports}",
                hint=("export the batch model with a dynamic batch axis and convert it again", "a StreamSession for each stream"),
            )
        self._intake.ask(m.batch, 1)
        self._static = self._intake.statics(static or {})
        self._input_axes = [self._row_axis(p) for p in m.inputs]
        self._static_axes = [_axis(m, p) for p in m.statics]
        self._output_axes = [
            self._row_axis(p) if p.axis is not None or o.get("settle") is not None else _axis(m, p)
            for p, o in zip(m.outputs, self.manifest["outputs"], strict=True)
        ]
        self._state_axes = [self._row_axis(s.past) for s in m.states]
        self._rows: dict[int, _Row] = {}
        self._next = 0
        self._homes: list[np.ndarray] = []  # of each state, [slot, *axes besides the batch]
        self._free: list[int] = []
        self._resident: list[_Row] = []  # rows whose states are in the compact batch, in its order
        self._compact: Compact | None = None
        self._bound: OrderedDict[int, Compact] = OrderedDict()
        self._memory: Memory | None = None
        self._none: dict[str, np.ndarray] = {}
        self._grow(4)

    # -- rows ------------------------------------------------------------------------------------------------------

    @property
    def rows(self) -> tuple[int, ...]:
        """The rows there are, in the order they joined."""
        return tuple(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, row: object) -> bool:
        return row in self._rows

    def add(self, *, static: Mapping[str, Any] | None = None, state: bytes | None = None) -> int:
        """A new row, or with ``state`` one that was saved (here, or by a StreamSession of one row). Returns its number,
        which no other row gets."""
        own = self._own_statics(static or {})
        found = saved.unpack(self._model, self._pulse, state) if state is not None else None
        if found is not None:
            self._check_saved(found)
            own.update({p.name: found.static[p.name] for p, a in self._statics() if a is not None and p.name in found.static})
        self._need_statics({**self._static, **own})
        if not self._free:
            self._grow(2 * self._homes_size)
        slot = self._free.pop()
        row = _Row(self._model, slot, own)
        if found is not None:
            row.stream = found.stream
            row.total = found.stream.total() if found.stream.done else None
        for k, home in enumerate(self._homes):
            home[slot] = 0 if found is None or found.states is None else np.take(found.states[k], 0, axis=self._state_axes[k])
        number = self._next
        self._next += 1
        self._rows[number] = row
        return number

    def remove(self, row: int) -> None:
        """End a row without its tail."""
        gone = self._row(row)
        del self._rows[row]
        self._free.append(gone.slot)

    def save(self, row: int) -> bytes:
        """A row as bytes, as :meth:`StreamSession.save` of one row gives them."""
        r = self._row(row)
        if r.failed is not None:
            raise r.failed
        states = []
        for k, axis in enumerate(self._state_axes):
            if r in self._resident and self._compact is not None:
                at = self._resident.index(r)
                states.append(self._compact.run.states[k][(*(slice(None),) * axis, slice(at, at + 1))])
            else:
                states.append(np.expand_dims(self._homes[k][r.slot], axis))
        sizes = self._intake.sizes
        return saved.pack(self._model, self._pulse, sizes, r.stream, states, {**self._static, **r.static})

    # -- streaming -------------------------------------------------------------------------------------------------

    def feed(self, chunks: Mapping[int, Mapping[str, Any]], finish: Iterable[int] = ()) -> dict[int, dict[str, Any]]:
        """Chunks by row; the frames that became final, by row, as :meth:`StreamSession.feed` returns them.

        Rows in ``finish`` (fed or not) end: their frames are the exact tail, and they leave. All rows that have a pulse to
        run are run together. ClientError on a row that is not there and on whatever a StreamSession refuses; then nothing has changed.
        Where onnxruntime fails on a pulse of some row, the others go on, and have their frames at their next call.
        """
        ends = list(dict.fromkeys(finish))
        known = self._intake.sizes
        try:
            fed = [(self._row(r), self._admit(r, chunk)) for r, chunk in chunks.items()]
        except ClientError:
            self._intake.reset(known)
            raise
        arrays = {id(row): given for row, given in fed}
        totals = []
        for r in ends:
            row = self._row(r)
            if row.failed is not None:
                raise row.failed
            total = row.stream.total(arrays.get(id(row)))
            check_length(self._model, total)
            totals.append((row, total))
        for row, given in fed:
            row.stream.push(given)
        for row, total in totals:
            row.total = total
        active = [row for row in self._rows.values() if id(row) in arrays or row.total is not None]
        self._drain(active)
        for row, _ in fed:
            for queue in row.stream.queues:
                queue.own()
        called = list(dict.fromkeys([*chunks, *ends]))
        for r in called:
            e = self._rows[r].failed
            if e is not None:
                raise e
        out = {r: self._rows[r].stream.collect(self._nothing()) for r in called}
        for r in ends:
            self.remove(r)
        return out

    def finish(self, row: int) -> dict[str, Any]:
        """End a row, which leaves; return its exact tail. ClientError where the batch model is not defined for its
        length, and the row stays. Several rows end faster together, in :meth:`feed`."""
        return self.feed({}, [row])[row]

    # -- inside ----------------------------------------------------------------------------------------------------

    def _row(self, row: int) -> _Row:
        found = self._rows.get(row)
        if found is None:
            known = ", ".join(map(str, self._rows)) or "none"
            raise ClientError(f"no row {row!r}", why=f"the rows are {known}", hint="add() starts one")
        return found

    def _admit(self, number: int, chunk: Mapping[str, Any]) -> list[np.ndarray]:
        row = self._rows[number]
        if row.failed is not None:
            raise row.failed
        if row.total is not None:
            raise ClientError(f"row {number} is finished", hint="add() starts another")
        arrays = self._intake.admit(chunk)
        row.stream.check(arrays)
        return arrays

    def _row_axis(self, port: Port) -> int:
        axis = _axis(self._model, port)
        if axis is None:
            raise ClientError(
                "this model cannot hold a batch of streams",
                why=f"{port.name!r} is {list(port.shape)}, without an axis of {self._model.batch} rows",
                hint="a StreamSession for each stream",
            )
        return axis

    def _statics(self) -> list[tuple[Port, int | None]]:
        return list(zip(self._model.statics, self._static_axes, strict=True))

    def _own_statics(self, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        own = self._intake.statics(given)
        for port, axis in self._statics():
            if axis is None and port.name in own:
                raise ClientError(
                    f"static input {port.name!r} is the same for all rows",
                    why=f"it is {list(port.shape)}, without an axis of {self._model.batch} rows",
                    hint="give it to the constructor",
                )
        return own

    def _check_saved(self, found: saved.Saved) -> None:
        rows = found.sizes.get(self._model.batch or "", 1)
        if rows != 1:
            raise ClientError("cannot add this stream", why=f"it holds {rows} rows", hint="save streams of one row")
        self._intake.agree(found.sizes)
        for port, axis in self._statics():
            here, there = self._static.get(port.name), found.static.get(port.name)
            if axis is None and here is not None and there is not None and not np.array_equal(here, there):
                raise ClientError("cannot add this stream", why=f"it was saved with another value of {port.name!r}")

    @property
    def _homes_size(self) -> int:
        return len(self._rows) + len(self._free)

    def _grow(self, slots: int) -> None:
        """Places for ``slots`` rows."""
        self._evict()
        old, m = self._homes_size, self._model
        homes = []
        for k, s in enumerate(m.states):
            shape = list(m.shape(s.past, {**self._intake.sizes, m.batch or "": slots}, m.unit) or ())
            home = np.zeros([shape.pop(self._state_axes[k]), *shape], s.past.dtype)
            if old:
                home[:old] = self._homes[k]
            homes.append(home)
        self._homes = homes
        self._free = [*range(slots - 1, old - 1, -1), *self._free]
        self._compact, self._memory = None, None
        self._bound.clear()

    def _drain(self, active: Sequence[_Row]) -> None:
        """Run pulses until no row has one."""
        while True:
            wanted = [(row, self._wants(row)) for row in active if row.failed is None]
            ready = [(row, n) for row, n in wanted if n]
            if not ready:
                return
            size = self._pulse or min(n for _, n in ready)
            self._pulse_of([row for row, _ in ready], size)

    def _wants(self, row: _Row) -> int:
        """The most frames that a pulse of this row may have; 0 if there is nothing to run."""
        return self._size(row.stream.whole()) if row.total is None else row.stream.missing(row.total)

    def _pulse_of(self, rows: list[_Row], size: int) -> None:
        """One pulse of ``size`` frames of these rows."""
        compact = self._gather(rows, size)
        reals = [size if r.total is None else min(size, r.total - r.stream.real) for r in rows]
        for row, real, inputs in zip(rows, reals, compact.inputs, strict=True):
            row.stream.fill(inputs, real, self._filler)
        self._run(compact, rows, reals)

    def _run(self, compact: Compact, rows: list[_Row], reals: list[int]) -> None:
        run, size = compact.run, compact.run.size
        if run.valid is not None:
            run.valid[:] = reals
        try:
            run.run()
        except ClientError as e:
            self._isolate(compact, rows, reals, e)
            return
        for row, real, outputs in zip(rows, reals, compact.outputs(), strict=True):
            row.stream.advance(outputs, size, real)

    def _isolate(self, compact: Compact, rows: list[_Row], reals: list[int], e: ClientError) -> None:
        """Run the rows of a pulse that failed one by one; the states are still those of before."""
        if len(rows) == 1:
            number = next(n for n, r in self._rows.items() if r is rows[0])
            rows[0].failed = ClientError(f"row {number} broke off", why=f"{e.what}: {e.why}", hint=f"remove({number})")
            return
        size, inputs = compact.run.size, [[np.array(a) for a in row] for row in compact.inputs]
        for row, real, given in zip(rows, reals, inputs, strict=True):
            alone = self._gather([row], size)
            for target, array in zip(alone.inputs[0], given, strict=True):
                target[...] = array
            self._run(alone, [row], [real])

    def _gather(self, rows: list[_Row], size: int) -> Compact:
        """The compact batch with the states of exactly these rows, for pulses of ``size`` frames."""
        if self._compact is None or rows != self._resident or self._intake.fresh:
            self._evict()
            self._compact = self._bound_for(len(rows), size)
            slots = np.array([r.slot for r in rows])
            for state, home in zip(self._compact.states(), self._homes, strict=True):
                home.take(slots, 0, state, "clip")
            for (port, at), target in zip(self._statics(), self._compact.run.statics, strict=True):
                values = [r.static.get(port.name, self._static.get(port.name)) for r in rows]
                target[...] = values[0] if at is None else np.concatenate(values, axis=at)  # type: ignore[arg-type]
            self._resident = list(rows)
        self._compact.resize(size)
        return self._compact

    def _evict(self) -> None:
        """States of the compact batch go back to their rows."""
        if self._compact is not None:
            alive = set(map(id, self._rows.values()))
            at = [i for i, r in enumerate(self._resident) if id(r) in alive]
            slots, whole = np.array([self._resident[i].slot for i in at], int), len(at) == len(self._resident)
            for state, home in zip(self._compact.states(), self._homes, strict=True):
                home[slots] = state if whole else state[at]
        self._resident, self._compact = [], None

    def _bound_for(self, rows: int, size: int) -> Compact:
        m, sizes = self._model, self._intake.sizes
        if self._intake.fresh:
            self._bound.clear()
            self._intake.fresh = False
        if self._memory is None:
            self._memory = Memory(m, sizes, self._homes_size, twice=True)
        found = self._bound.pop(rows, None)
        if found is None:
            run = runner(m, {**sizes, m.batch or "": rows}, size, self._memory)
            found = Compact(run, rows, self._input_axes, self._output_axes, self._state_axes)
        self._bound[rows] = found
        if len(self._bound) > BOUND:
            self._bound.popitem(last=False)
        return found

    def _nothing(self) -> dict[str, np.ndarray]:
        if not self._none or self._intake.fresh:
            self._none = self._empty(None, self._intake.sizes)
        return self._none


def _axis(model: Model, port: Port) -> int | None:
    """The axis of rows of a port; None where it has none."""
    batch, axes = model.batch or "", []
    for a, d in enumerate(port.shape):
        if a != port.axis and not isinstance(d, int):
            one, two = (resolve(port.dim(a), {batch: rows, str(model.manifest["pulse"]): model.unit}) for rows in (1, 2))
            if one != two:
                axes.append(a)
    if axes and (len(axes) > 1 or port.dim(axes[0]) != batch):
        raise ClientError(
            "this model cannot hold a batch of streams",
            why=f"{port.name!r} is {list(port.shape)}: {batch} is no axis of its own there",
            hint="a StreamSession for each stream",
        )
    return axes[0] if axes else None
