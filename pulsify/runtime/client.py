"""What the two clients have in common: a model, a pulse, and what the manifest promises."""

from __future__ import annotations

import os
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np
import onnxruntime as ort

from ..errors import ClientError
from .bound import Bound, Unbound
from .intake import Intake
from .model import Model, Sizes

__all__ = ["Client"]


class Client:
    """A pulsed model that is streamed."""

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | ort.InferenceSession,
        static: Mapping[str, Any] | None,
        pulse: int | None,
        options: ort.SessionOptions | None,
        providers: list[Any] | None,
        filler: float,
        sizes: Sizes | None = None,
    ):
        self._model = Model(model, options, providers)
        self._pulse = self._model.check_pulse(pulse)
        self._filler = filler
        self._intake = Intake(self._model, sizes or {})
        self._static = self._intake.statics(static or {})

    @property
    def manifest(self) -> dict[str, Any]:
        """What the file says (docs/contract.md)."""
        return self._model.manifest

    @property
    def pulse(self) -> int | None:
        """Frames of the stream symbol per call; None where each call takes all there are (a dynamic pulse)."""
        return self._pulse

    @property
    def ratio(self) -> dict[str, Fraction]:
        """Frames of each streaming input per frame of the stream symbol."""
        return {p.name: self._model.ratio(p) for p in self._model.inputs}

    @property
    def delay(self) -> dict[str, int]:
        """Delay of each streaming output, in its own frames."""
        return {p.name: p.delay for p in self._model.outputs if p.axis is not None}

    @property
    def latency(self) -> dict[str, int]:
        """Look-ahead plus one pulse, in frames of the stream: the age of an output frame when it comes out."""
        pulse = self._pulse or self._model.step
        return {o["name"]: o["lookahead"] + pulse for o in self.manifest["outputs"] if o["axis"] is not None}

    @property
    def state_bytes(self) -> int:
        """Bytes of state per stream."""
        return int(self.manifest["state_bytes"])

    def _need_statics(self, given: Mapping[str, np.ndarray]) -> None:
        for port in self._model.statics:
            if port.name not in given:
                raise ClientError(
                    f"no value for the static input {port.name!r}",
                    hint=f"{type(self).__name__}(..., static={{{port.name!r}: ...}})",
                )

    def _size(self, frames: int) -> int:
        """The pulse to run where ``frames`` frames are at hand; 0 while there are too few."""
        if self._pulse is None:
            return frames
        return self._pulse if frames >= self._pulse else 0

    def _last_size(self, frames: int) -> int:
        """The pulse to run at the end of a stream that ``frames`` more frames (whole units) have to be sent of."""
        return self._pulse or frames

    def _empty(self, bound: Bound | Unbound | None, sizes: Sizes) -> dict[str, np.ndarray]:
        """No frames of each output, in the shape of one that has some."""
        out = {}
        for k, port in enumerate(self._model.outputs):
            if port.axis is None:
                continue
            made = bound.outputs[k].shape if bound is not None and bound.outputs else self._model.shape(port, sizes, 0)
            shape = list(made or [d if isinstance(d, int) else 1 for d in port.shape])
            shape[port.axis] = 0
            out[port.name] = np.zeros(shape, dtype=port.dtype)
        return out
