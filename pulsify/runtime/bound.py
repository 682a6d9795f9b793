"""Runs pulses in memory that was bound once.

Every input, streaming output and state is an array whose address onnxruntime was told. A state that may be written where
it is read has one array, others two that change places after every pulse. Static outputs are onnxruntime's to allocate:
their shape may depend on values. What cannot be bound (text, frames of a shape that nobody declared) makes
:class:`Unbound` run the model with a dict per pulse instead; both look the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ClientError
from .model import Model, Port, Sizes

__all__ = ["Bound", "Memory", "Unbound", "fill_statics", "runner"]
#: Bytes: a cache line, as onnxruntime's own arrays; numpy's start anywhere, which costs a few per cent.
ALIGNMENT = 64


class Memory:
    """Two sets of arrays for the states of up to ``rows`` rows; one array for a state that is written in place, unless
    each is wanted ``twice``: then a pulse that fails leaves what it read as it was."""

    def __init__(self, model: Model, sizes: Sizes, rows: int | None = None, twice: bool = False):
        wide = sizes if rows is None or model.batch is None else {**sizes, model.batch: rows}
        self.sets: list[list[np.ndarray]] = [[], []]
        for s in model.states:
            shape = model.shape(s.past, wide, model.unit)
            flat = (int(np.prod(shape or ())),)
            first = _zeros(flat, s.past.dtype)
            self.sets[0].append(first)
            self.sets[1].append(first if s.in_place and not twice else _zeros(flat, s.past.dtype))


class Bound:
    """A model bound for fixed ``sizes`` and a pulse of ``size`` frames.

    ``inputs``, ``statics`` and ``valid`` (None if the model has no such input) are to be filled before :meth:`run`,
    ``outputs`` are good until the next one; with ``fixed`` they are always the same arrays. ``states`` are what the next
    run reads. All in the order of the manifest.
    """

    def __init__(self, model: Model, sizes: Sizes, size: int, memory: Memory | None = None):
        self._model, self._sizes, self.size = model, sizes, 0
        self._memory = memory or Memory(model, sizes)
        self._run = model.session.run_with_iobinding
        self.statics = [self._array(p, 0) for p in model.statics]
        self.valid = self._array(model.valid, 0) if model.valid is not None else None
        self.inputs: list[np.ndarray] = []
        self.outputs: list[np.ndarray] = []
        shapes = [model.shape(s.past, sizes, model.unit) or () for s in model.states]
        self._sets = [
            [flat[: int(np.prod(shape))].reshape(shape) for flat, shape in zip(flats, shapes, strict=True)]
            for flats in self._memory.sets
        ]
        alike = all(a is b for a, b in zip(*self._memory.sets, strict=True))
        self._ios = [model.session.io_binding() for _ in range(1 if alike else 2)]
        self._turn, self._turns = 0, len(self._ios)
        #: Outputs that onnxruntime allocates, by place; bound first, so that these are their places in a binding as well.
        own = [(i, p) for i, p in enumerate(model.outputs) if p.name not in self._fed()]
        self._loose = {i: p.name for i, p in own if p.axis is None and p.element < 16}
        self.fixed = not self._loose
        for k, io in enumerate(self._ios):
            self._loosen(io)
            for state, past, present in zip(model.states, self._sets[k], self._sets[1 - k], strict=True):
                _bind_input(io, state.past, past)
                _bind_output(io, state.past, present, state.present)
            for port, array in zip(model.statics, self.statics, strict=True):
                _bind_input(io, port, array)
            if model.valid is not None and self.valid is not None:
                _bind_input(io, model.valid, self.valid)
        self._real: int | None = None
        self.resize(size)

    def _array(self, port: Port, size: int) -> np.ndarray:
        return _zeros(self._model.shape(port, self._sizes, size) or (), port.dtype)

    def resize(self, size: int) -> None:
        """Bind arrays for pulses of ``size`` frames; states stay."""
        if size == self.size:
            return
        self.size = size
        self.inputs = [self._array(p, size) for p in self._model.inputs]
        # What is an input as well is that input's memory: onnxruntime would leave another alone.
        fed = self._fed()
        self.outputs = [
            np.zeros(0) if k in self._loose else fed[p.name] if p.name in fed else self._array(p, size)
            for k, p in enumerate(self._model.outputs)
        ]
        for io in self._ios:
            for port, array in zip(self._model.inputs, self.inputs, strict=True):
                _bind_input(io, port, array)
            for k, (port, array) in enumerate(zip(self._model.outputs, self.outputs, strict=True)):
                if k not in self._loose and port.name not in fed:
                    _bind_output(io, port, array, port.name)

    def _fed(self) -> dict[str, np.ndarray]:
        """The arrays of inputs by name."""
        return {p.name: a for p, a in (*zip(self._model.inputs, self.inputs), *zip(self._model.statics, self.statics))}

    def _loosen(self, io: Any) -> None:
        for name in self._loose.values():
            io.bind_output(name, "cpu")

    @property
    def states(self) -> list[np.ndarray]:
        """What the next run reads."""
        return self._sets[self._turn]

    def zero(self) -> None:
        """A new stream: every state is zeros."""
        for array in self.states:
            array.fill(0)

    def real(self, frames: int) -> None:
        """Say how many frames of the next pulses are real, in all rows."""
        if self.valid is not None and frames != self._real:
            self.valid.fill(frames)
            self._real = frames

    def run(self) -> None:
        """One pulse. Where it fails, states that are not written in place are as they were. ClientError."""
        io = self._ios[self._turn]
        try:
            if self._loose:
                self._loosen(io)
            self._run(io)
            if self._loose:
                values = io.get_outputs()
                for at, k in enumerate(self._loose):
                    self.outputs[k] = values[at].numpy()
        except Exception as e:
            raise failure(e) from e
        if self._turns == 2:
            self._turn = 1 - self._turn


class Unbound:
    """The same with a dict of arrays per pulse."""

    fixed = False

    def __init__(self, model: Model, sizes: Sizes, size: int, memory: Memory | None = None):
        self._model, self._sizes, self.size = model, sizes, 0
        self.statics = [_blank(model.shape(p, sizes, 0) or (), p.dtype) for p in model.statics]
        self.valid = None if model.valid is None else np.zeros(model.shape(model.valid, sizes, 0) or (), np.int64)
        self.states = [_blank(model.shape(s.past, sizes, model.unit) or (), s.past.dtype) for s in model.states]
        self.inputs: list[np.ndarray] = []
        self.outputs: list[Any] = []
        self._names = [p.name for p in model.outputs] + [s.present for s in model.states]
        self.resize(size)

    def resize(self, size: int) -> None:
        """Make arrays for pulses of ``size`` frames; states stay."""
        if size != self.size:
            self.size = size
            self.inputs = [_blank(self._model.shape(p, self._sizes, size) or (), p.dtype) for p in self._model.inputs]

    def zero(self) -> None:
        """A new stream: every state is zeros."""
        self.states = [_blank(a.shape, a.dtype) for a in self.states]

    def real(self, frames: int) -> None:
        """Say how many frames of the next pulses are real, in all rows."""
        if self.valid is not None:
            self.valid.fill(frames)

    def run(self) -> None:
        """One pulse. Where it fails, states are as they were. ClientError."""
        m = self._model
        feeds: dict[str, Any] = dict(zip((p.name for p in m.inputs), self.inputs, strict=True))
        feeds.update(zip((p.name for p in m.statics), self.statics, strict=True))
        feeds.update(zip((s.past.name for s in m.states), self.states, strict=True))
        if m.valid is not None:
            feeds[m.valid.name] = self.valid
        try:
            results = m.session.run(self._names, feeds)
        except Exception as e:
            raise failure(e) from e
        # An output may be an input's memory.
        self.outputs = results[: len(m.outputs)]
        self.states = [np.array(a) for a in results[len(m.outputs) :]]


def runner(model: Model, sizes: Sizes, size: int, memory: Memory | None = None) -> Bound | Unbound:
    """Bound where everything can be bound."""
    ports = [*model.inputs, *model.statics, *model.outputs, *(s.past for s in model.states)]
    told = all(p.axis is None or model.shape(p, sizes, size) is not None for p in model.outputs)
    plain = all(p.dtype is not None and p.dtype.kind != "O" for p in ports)
    return (Bound if told and plain else Unbound)(model, sizes, size, memory)


def failure(e: Exception) -> ClientError:
    """What onnxruntime said about a pulse."""
    return ClientError("onnxruntime failed on a pulse", why=str(e).strip().splitlines()[0], hint="reset() starts a new stream")


def _zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Zeros at an address that is a multiple of :data:`ALIGNMENT`."""
    size = int(np.prod(shape)) * dtype.itemsize
    raw = np.zeros(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    aligned: np.ndarray = raw[start : start + size].view(dtype).reshape(shape)
    return aligned


def _blank(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.full(shape, "", object) if dtype is not None and dtype.kind == "O" else np.zeros(shape, dtype)


def _element(port: Port) -> Any:
    """numpy's type; ONNX's number (16 and up) where numpy has none, which older versions of onnxruntime do not take."""
    return port.element if port.element >= 16 else port.dtype.type


def _bind_input(io: Any, port: Port, array: np.ndarray) -> None:
    io.bind_input(port.name, "cpu", 0, _element(port), array.shape, array.ctypes.data)


def _bind_output(io: Any, port: Port, array: np.ndarray, name: str) -> None:
    io.bind_output(name, "cpu", 0, _element(port), array.shape, array.ctypes.data)


def fill_statics(run: Bound | Unbound, model: Model, values: Mapping[str, np.ndarray]) -> None:
    """Put the static inputs where the model reads them."""
    for port, array in zip(model.statics, run.statics, strict=True):
        array[...] = values[port.name]
