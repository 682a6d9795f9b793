"""The account of one stream: frames that wait for a pulse, frames that came out, and which of them are final.

Let V be the real frames run so far. An output's frame of index i, counted from ``delay`` on, is final once ``i < L(V)``:
no end of the stream and no frame to come can change it (docs/contract.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ClientError
from .model import Model, Port

__all__ = ["Crop", "Queue", "Stream", "check_length", "check_most"]


class Queue:
    """Frames of one input, first in first out, in the arrays they came in."""

    __slots__ = ("_at", "_axis", "_before", "count", "parts")

    def __init__(self, port: Port):
        self._axis, self._before = port.axis or 0, port.before
        self.parts: deque[np.ndarray] = deque()
        self._at = 0  # frames of the first part that are gone
        self.count = 0

    def push(self, array: np.ndarray) -> None:
        """Frames, not copied."""
        frames = array.shape[self._axis]
        if frames:
            self.parts.append(array)
            self.count += frames

    def fill(self, target: np.ndarray, frames: int) -> None:
        """Move ``frames`` frames to the start of ``target``."""
        parts, axis, before = self.parts, self._axis, self._before
        self.count -= frames
        if not self._at and parts and parts[0].shape == target.shape and frames == target.shape[axis]:
            target[...] = parts.popleft()
            return
        done = 0
        while done < frames:
            at, head = self._at, parts[0]
            have = head.shape[axis] - at
            n = min(have, frames - done)
            target[(*before, slice(done, done + n))] = head[(*before, slice(at, at + n))]
            done += n
            if n == have:
                parts.popleft()
                self._at = 0
            else:
                self._at = at + n

    def own(self) -> None:
        """Copy what came in last: its memory is the caller's. Earlier parts were copied when they came."""
        if self.parts:
            last = self.parts.pop()
            self.parts.append(np.array(last[(*self._before, slice(0 if self.parts else self._at, None))]))
            if len(self.parts) == 1:
                self._at = 0

    def joined(self) -> np.ndarray | None:
        """All frames that wait, in one array."""
        if not self.parts:
            return None
        whole = self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts, axis=self._axis)
        return whole[(*self._before, slice(self._at, None))]


class Crop:
    """Frames of one streaming output: drops warm-up, holds what is not final, gives each frame once."""

    __slots__ = ("_axis", "_before", "given", "held", "length", "port", "slots", "waiting")

    def __init__(self, port: Port):
        assert port.length is not None and port.axis is not None
        self.port, self._axis, self._before, self.length = port, port.axis, port.before, port.length
        self.slots = 0  # frames that came out, warm-up included
        self.given = 0  # frames given to the caller
        self.waiting = 0  # frames held
        self.held: list[np.ndarray] = []

    def push(self, frames: np.ndarray) -> None:
        """What one pulse gave; copied."""
        n = frames.shape[self._axis]
        warm = self.port.delay - self.slots
        self.slots += n
        if warm > 0:
            if warm >= n:
                return
            frames = frames[(*self._before, slice(warm, None))]
            n -= warm
        self.held.append(frames.copy())
        self.waiting += n

    def take(self, real: int) -> np.ndarray | None:
        """The final frames, where ``real`` frames of the stream were run; None if there are none."""
        if not self.waiting:
            return None
        final = self.length(real) - self.given
        if final <= 0:
            return None
        held = self.held
        whole = held[0] if len(held) == 1 else np.concatenate(held, axis=self._axis)
        if final >= self.waiting:
            self.given += self.waiting
            self.waiting, self.held = 0, []
            return whole
        head, tail = np.split(whole, [final], axis=self._axis)
        self.given += final
        self.waiting -= final
        self.held = [tail.copy()]
        return head

    def missing(self, total: int) -> int:
        """Frames of this output still to come out of a stream of ``total`` frames."""
        length = self.length(total)
        return max(0, self.port.delay + length - self.slots) if length > 0 else 0


class Stream:
    """One stream of a model, in frames of the stream symbol where nothing else is said."""

    def __init__(self, model: Model):
        self._model, self._unit = model, model.unit
        self.queues = [Queue(p) for p in model.inputs]
        self.received = [0] * len(model.inputs)  # frames of each input
        self.crops = [Crop(p) for p in model.outputs if p.axis is not None]
        self._streaming = [(i, c) for i, c in zip((i for i, p in enumerate(model.outputs) if p.axis is not None), self.crops, strict=True)]
        self._running = [(i, p.name) for i, p in enumerate(model.outputs) if p.axis is None]
        self._pers = [p.per for p in model.inputs]
        self._axes = [p.axis or 0 for p in model.inputs]
        self.real = 0  # frames run that were real
        self.sent = 0  # frames run
        self.last: dict[str, Any] = {}  # static outputs after the last pulse
        self.done = False

    def check(self, arrays: Sequence[np.ndarray]) -> None:
        """ClientError if with these chunks the stream gets too long for the model."""
        frames = arrays[0].shape[self._axes[0]] + self.received[0]
        check_most(self._model, frames * self._unit // self._pers[0])

    def push(self, arrays: Sequence[np.ndarray]) -> None:
        """Chunks, one per streaming input, that were checked."""
        for k, array in enumerate(arrays):
            self.queues[k].push(array)
            self.received[k] += array.shape[self._axes[k]]

    def direct(self, arrays: Sequence[np.ndarray], inputs: Sequence[np.ndarray]) -> bool:
        """Put chunks that are one pulse, where nothing waits, straight to where the model reads them. False if they are not."""
        for array, target, queue in zip(arrays, inputs, self.queues):
            if queue.count or array.shape != target.shape:
                return False
        for k, array in enumerate(arrays):
            inputs[k][...] = array
            self.received[k] += array.shape[self._axes[k]]
        return True

    def whole(self) -> int:
        """Frames that wait, in whole units."""
        if len(self.queues) == 1:
            return self.queues[0].count // self._pers[0] * self._unit
        return min(q.count // per for q, per in zip(self.queues, self._pers, strict=True)) * self._unit

    def fill(self, inputs: Sequence[np.ndarray], real: int, filler: float) -> None:
        """Move ``real`` frames of every input to the start of its array; what is behind them is filler."""
        for k, (queue, per, target) in enumerate(zip(self.queues, self._pers, inputs, strict=True)):
            frames = real * per // self._unit
            if frames:
                queue.fill(target, frames)
            if frames < target.shape[self._axes[k]]:
                rest = target[(*self._model.inputs[k].before, slice(frames, None))]
                # Text that a cast to numbers takes, too.
                rest[...] = "0" if rest.dtype.kind == "O" else filler if rest.dtype.kind == "f" else 0

    def advance(self, outputs: Sequence[Any], size: int, real: int) -> None:
        """Account for a pulse of ``size`` frames, ``real`` of them real, that gave ``outputs``."""
        self.sent += size
        self.real += real
        for i, crop in self._streaming:
            crop.push(outputs[i])
        for i, name in self._running:
            self.last[name] = outputs[i].copy() if isinstance(outputs[i], np.ndarray) else outputs[i]

    def collect(self, empty: dict[str, np.ndarray]) -> dict[str, Any]:
        """Frames that became final, by output; static outputs as they are now."""
        out: dict[str, Any] = {}
        for crop in self.crops:
            name = crop.port.name
            frames = crop.take(self.real)
            out[name] = empty[name] if frames is None else frames
        if self.last:
            out.update(self.last)
        return out

    def total(self, more: Sequence[np.ndarray] | None = None) -> int:
        """Frames received, with ``more`` chunks. ClientError if that is no whole number."""
        received = self.received[0] + (more[0].shape[self._axes[0]] if more else 0)
        frames = received * self._unit
        if frames % self._pers[0]:
            port = self._model.inputs[0]
            raise ClientError(
                f"a stream of {received} frames on {port.name!r}",
                why=f"the input holds {self._model.ratio(port)} frames per frame of {self._model.symbol}",
            )
        return frames // self._pers[0]

    def missing(self, total: int) -> int:
        """Frames still to be sent, in whole units, until every output of a stream of ``total`` frames came out and every
        running output has its final value: 0 at the end."""
        settled = total + self._model.settle if total else 0
        units = max(0, -(-(settled - self.sent) // self._unit))
        return self._unit * max([units, *(-(-c.missing(total) // c.port.per) for c in self.crops)])


def check_most(model: Model, total: int) -> None:
    """A stream that outgrows a table of the model is refused before it does."""
    stream = model.manifest.get("stream") or {}
    most = stream.get("most")
    if most is not None and total > most:
        nodes = [c["node"] for c in stream["conditions"] if c.get("most") == most]
        raise ClientError(
            f"a stream of {total} frames",
            why=f"the model is defined for at most {most} ({', '.join(f'node {n!r}' for n in nodes)})",
            hint="end the stream with finish() and start another, or export the model with a longer table",
        )


def check_length(model: Model, total: int) -> None:
    """A stream of a length that the batch model is not defined for is refused at its end."""
    stream = model.manifest.get("stream") or {}
    for c in stream.get("conditions", []):
        if total and total % c["modulus"] != c["remainder"]:
            below = total - (total - c["remainder"]) % c["modulus"]
            raise ClientError(
                f"a stream of {total} frames",
                why=f"the model is defined for {model.symbol} % {c['modulus']} == {c['remainder']} only (node {c['node']!r})",
                hint=f"pad or cut the stream to {below + c['modulus']} or {below} frames",
            )
    if 0 < total < stream.get("least", 0):
        for o, port in zip(model.manifest["outputs"], model.outputs, strict=True):
            running = port.axis is None and o.get("settle") is not None
            if running or (port.length is not None and port.length(total) > 0):
                raise ClientError(
                    f"a stream of {total} frames",
                    why=f"the model was understood for streams of at least {stream['least']} frames",
                )
