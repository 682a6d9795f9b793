"""What a client is given, checked before anything is done with it: chunks and static inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ClientError, ModelError
from .model import Model, Port, Sizes

__all__ = ["Intake"]


class Intake:
    """Checks chunks against the model and against the sizes of the chunks before them.

    ``sizes`` are the symbolic dimensions known so far: those of static inputs, the batch if it was asked for, and all of
    the inputs' from the first chunk on.
    """

    def __init__(self, model: Model, sizes: Sizes):
        for port in (*model.inputs, *model.statics):
            if port.dtype is None:
                raise ModelError("cannot stream this model", why=f"its input {port.name!r} is not a tensor of a type numpy has")
        self._model, self._asked = model, sizes
        self.sizes: Sizes = {}
        self._names = [p.name for p in model.inputs]
        self._single = model.inputs[0] if len(model.inputs) == 1 else None
        self.reset()

    def ask(self, dim: str, length: int) -> None:
        """Take only chunks of that length on a symbolic dimension. ClientError where static inputs have another."""
        if self._asked.setdefault(dim, length) != length:
            raise ClientError(f"a batch of {length}", why=f"static inputs hold {self._asked[dim]} rows")
        self.reset()

    def agree(self, sizes: Sizes) -> None:
        """Take over what another stream knew of the dimensions. ClientError where it knew better."""
        for dim, length in sizes.items():
            if self.sizes.get(dim, length) != length:
                raise ClientError("cannot add this stream", why=f"{dim} is {length} in it, {self.sizes[dim]} here")
        if not sizes.keys() <= self.sizes.keys():
            self.sizes, self.fresh = {**self.sizes, **sizes}, True

    def reset(self, sizes: Sizes | None = None) -> None:
        """Forget the sizes that chunks had; or take others."""
        self.sizes = dict(self._asked if sizes is None else sizes)
        self.fresh = True  # whether sizes may have changed since the flag was cleared
        self._around: tuple[tuple[int, ...], tuple[int, ...]] | None = None

    def admit(self, given: Mapping[str, Any]) -> list[np.ndarray]:
        """The chunks, one per streaming input, in the model's order. ClientError, and nothing has changed."""
        port, around = self._single, self._around
        if port is not None and around is not None and len(given) == 1:
            array = given.get(port.name)
            if type(array) is np.ndarray and array.dtype is port.dtype:
                shape, axis = array.shape, port.axis or 0
                if len(shape) > axis and shape[:axis] == around[0] and shape[axis + 1 :] == around[1]:
                    return [array]
        return self._admit(given)

    def _admit(self, given: Mapping[str, Any]) -> list[np.ndarray]:
        sizes = dict(self.sizes)
        ports = {p.name: p for p in self._model.inputs}
        checked = {}
        for name, value in given.items():
            if name not in ports:
                raise self._unknown(name)
            checked[name] = self._chunk(ports[name], np.asarray(value), sizes)
        missing = set(ports) - set(checked)
        if missing:
            raise ClientError(f"no chunk for {', '.join(sorted(missing))}", why=f"the model streams {', '.join(ports)}")
        arrays = [checked[name] for name in self._names]
        spans = {n: ports[n].per and checked[n].shape[ports[n].axis or 0] / self._model.ratio(ports[n]) for n in ports}
        if len(set(spans.values())) > 1:
            raise ClientError(
                "the chunks differ in length",
                why=", ".join(f"{n} holds {float(s):g} frames of {self._model.symbol}" for n, s in spans.items()),
                hint="feed the same stretch of the stream on every input",
            )
        if sizes != self.sizes:
            self.sizes, self.fresh = sizes, True
        if self._single is not None:
            shape, axis = arrays[0].shape, self._single.axis or 0
            self._around = shape[:axis], shape[axis + 1 :]
        return arrays

    def _unknown(self, name: str) -> ClientError:
        known = ", ".join(self._names)
        statics = [p.name for p in self._model.statics]
        hint = "static inputs are given to the constructor" if name in statics else f"one of {known}"
        return ClientError(f"{name!r} is not a streaming input", why=f"the model streams {known}", hint=hint)

    def _chunk(self, port: Port, array: np.ndarray, sizes: Sizes) -> np.ndarray:
        """A chunk of a port; learns the lengths of dimensions not known before."""
        if array.dtype != port.dtype:
            raise ClientError(
                f"chunk {port.name!r} is {array.dtype}", why=f"the model takes {port.dtype}", hint=f"chunk.astype(np.{port.dtype})"
            )
        if array.ndim != len(port.shape):
            raise ClientError(
                f"chunk {port.name!r} has {array.ndim} axes",
                why=f"the model takes {len(port.shape)}: {list(port.shape)} with time on axis {port.axis}",
            )
        for a, (got, d) in enumerate(zip(array.shape, port.shape, strict=True)):
            if a == port.axis:
                continue
            want = d if isinstance(d, int) else sizes.setdefault(port.dim(a), got)
            if got != want:
                raise ClientError(f"chunk {port.name!r} is {got} long on axis {a}", why=f"the model takes {want} there")
        return array

    def statics(self, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Values of static inputs, copied; their symbolic dimensions are known from now on. ClientError."""
        ports = {p.name: p for p in self._model.statics}
        sizes = dict(self.sizes)
        out = {}
        for name, value in given.items():
            if name not in ports:
                raise ClientError(
                    f"{name!r} is not a static input",
                    why=f"the model has {', '.join(ports) or 'none'}",
                    hint="feed() takes the streaming inputs" if name in self._names else "",
                )
            out[name] = self._static(ports[name], value, sizes)
        self._asked = self.sizes = sizes
        return out

    @staticmethod
    def _static(port: Port, value: Any, sizes: Sizes) -> np.ndarray:
        array = np.array(value) if isinstance(value, np.ndarray) else np.array(value, dtype=port.dtype)
        if array.dtype != port.dtype:
            raise ClientError(
                f"static input {port.name!r} is {array.dtype}", why=f"the model takes {port.dtype}", hint=f"astype(np.{port.dtype})"
            )
        if array.ndim != len(port.shape):
            raise ClientError(
                f"static input {port.name!r} has {array.ndim} axes", why=f"the model takes {len(port.shape)}: {list(port.shape)}"
            )
        for a, (got, d) in enumerate(zip(array.shape, port.shape, strict=True)):
            want = d if isinstance(d, int) else sizes.setdefault(port.dim(a), got)
            if got != want:
                raise ClientError(f"static input {port.name!r} is {got} long on axis {a}", why=f"the model takes {want} there")
        return array
