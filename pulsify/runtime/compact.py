"""A bound batch of some rows, seen row by row."""

from __future__ import annotations

from typing import Any

from .bound import Bound, Unbound

__all__ = ["Compact"]


class Compact:
    """A bound batch of some rows, and each row's part of its arrays."""

    def __init__(self, run: Bound | Unbound, rows: int, input_axes: list[int], output_axes: list[int | None]):
        self.run, self._rows, self._input_axes, self._output_axes = run, rows, input_axes, output_axes
        self._views()

    def _views(self) -> None:
        self._size = self.run.size
        self.inputs = [[_part(a, axis, i) for a, axis in zip(self.run.inputs, self._input_axes, strict=True)] for i in range(self._rows)]
        self._outputs = self._parts() if self.run.fixed else None

    def _parts(self) -> list[list[Any]]:
        pairs = list(zip(self.run.outputs, self._output_axes, strict=True))
        return [[_part(a, axis, i) for a, axis in pairs] for i in range(self._rows)]

    def outputs(self) -> list[list[Any]]:
        """Of each row, what the last pulse gave."""
        return self._outputs or self._parts()

    def resize(self, size: int) -> None:
        """Pulses of ``size`` frames from now on."""
        if size != self._size:
            self.run.resize(size)
            self._views()


def _part(array: Any, axis: int | None, row: int) -> Any:
    return array if axis is None else array[(*(slice(None),) * axis, slice(row, row + 1))]
