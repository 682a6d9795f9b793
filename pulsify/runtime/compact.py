"""A bound batch of some rows, seen row by row."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import ClientError
from .bound import Bound, Unbound

__all__ = ["Compact"]


class Compact:
    """A bound batch of some rows, and each row's part of its arrays."""

    def __init__(
        self, run: Bound | Unbound, rows: int, input_axes: list[int], output_axes: list[int | None], state_axes: list[int]
    ):
        self.run, self._rows = run, rows
        self._input_axes, self._output_axes, self._state_axes = input_axes, output_axes, state_axes
        self._moved: dict[int, list[np.ndarray]] = {}
        self._views()

    def states(self) -> list[np.ndarray]:
        """Views of what the next run reads, rows first."""
        states = self.run.states
        if not isinstance(self.run, Bound):
            return self._rows_first(states)
        # A bound model has two lists of the same arrays all along.
        if id(states) not in self._moved:
            self._moved[id(states)] = self._rows_first(states)
        return self._moved[id(states)]

    def _rows_first(self, states: list[np.ndarray]) -> list[np.ndarray]:
        return [np.moveaxis(a, axis, 0) for a, axis in zip(states, self._state_axes, strict=True)]

    def _views(self) -> None:
        self._size = self.run.size
        self.inputs = [[_part(a, axis, i) for a, axis in zip(self.run.inputs, self._input_axes, strict=True)] for i in range(self._rows)]
        self._outputs = self._parts() if self.run.fixed else None

    def _parts(self) -> list[list[Any]]:
        pairs = list(zip(self.run.outputs, self._output_axes, strict=True))
        return [[_part(a, axis, i) for a, axis in pairs] for i in range(self._rows)]

    def outputs(self) -> list[list[Any]]:
        """Of each row, what the last pulse gave. ClientError where an output has not the axis of rows that it should."""
        if self._outputs is not None:
            return self._outputs
        for array, axis in zip(self.run.outputs, self._output_axes, strict=True):
            if axis is not None and (array.ndim <= axis or array.shape[axis] != self._rows):
                raise ClientError(
                    "this model cannot hold a batch of streams",
                    why=f"an output of {self._rows} rows is {list(array.shape)}, without them on axis {axis}",
                    hint="a StreamSession for each stream",
                )
        return self._parts()

    def resize(self, size: int) -> None:
        """Pulses of ``size`` frames from now on."""
        if size != self._size:
            self.run.resize(size)
            self._views()


def _part(array: Any, axis: int | None, row: int) -> Any:
    return array if axis is None else array[(*(slice(None),) * axis, slice(row, row + 1))]
