"""Streams one pulsed model."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

import onnxruntime as ort

from ..errors import ClientError
from . import saved
from .bound import Bound, Unbound, fill_statics, runner
from .client import Client
from .model import Sizes
from .stream import Stream, check_length

__all__ = ["StreamSession"]


class StreamSession(Client):
    """Streams one pulsed model: chunks of any length in, exact frames out.

    ``feed`` takes chunks of any number of frames, runs whole pulses, and returns the output frames that became final
    (warm-up dropped). ``finish`` flushes the tail. Everything returned, concatenated, equals the batch model's output.

    ``static`` holds the inputs without a time axis. ``pulse`` chooses frames per call for a model with a dynamic
    pulse (default: all whole multiples at hand). ``batch`` is the number of rows where the model has a batch axis;
    it is taken from the first chunk if not given. The rows go in step; :class:`StreamBatch` has rows that do not.
    ``options`` and ``providers`` are onnxruntime's; without options one thread is used. ``filler`` is what is sent behind
    the end of the stream; no valid frame depends on it. Not to be shared between threads.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | ort.InferenceSession,
        *,
        static: Mapping[str, Any] | None = None,
        pulse: int | None = None,
        batch: int | None = None,
        options: ort.SessionOptions | None = None,
        providers: list[Any] | None = None,
        filler: float = 0.0,
    ):
        super().__init__(model, static, pulse, options, providers, filler)
        if batch is not None:
            if self._model.batch is None:
                raise ClientError(f"a batch of {batch}", why="the model has no symbolic batch axis", hint="leave the batch out")
            self._intake.ask(self._model.batch, batch)
        self._bound: Bound | Unbound | None = None
        self._bound_sizes: Sizes = {}
        self._limited = (self.manifest.get("stream") or {}).get("most") is not None
        self.reset()

    def reset(self) -> None:
        """Start a new stream: zero states, nothing pending, any number of rows (unless ``batch`` was given)."""
        self._stream = Stream(self._model)
        self._intake.reset()
        self._over: ClientError | None = None
        self._begun = False  # whether memory is bound for the sizes of this stream, and its states are this stream's

    def feed(self, chunks: Mapping[str, Any] | None = None, /, **named: Any) -> dict[str, Any]:
        """Take a chunk of every streaming input; return the frames that became final, by output name.

        Outputs without a time axis hold their value after the last pulse run (absent before the first).
        ClientError on a wrong name, dtype, rank or shape, and nothing has changed.
        """
        if self._over is not None:
            raise self._over
        arrays = self._intake.admit(named if chunks is None else {**chunks, **named})
        stream = self._stream
        if self._limited:
            stream.check(arrays)
        if not self._begun or self._intake.fresh:
            self._need_statics(self._static)
            self._begin()
        bound = self._bound
        assert bound is not None
        if stream.direct(arrays, bound.inputs):
            self._step(bound, bound.size, bound.size)
            return stream.collect(self._none)
        stream.push(arrays)
        while size := self._size(stream.whole()):
            self._run(size, size)
        for queue in stream.queues:
            queue.own()
        return stream.collect(self._none)

    def finish(self) -> dict[str, Any]:
        """End the stream; return the exact tail. ClientError where the batch model is not defined for its length, and
        the stream may go on."""
        if self._over is not None:
            raise self._over
        self._need_statics(self._static)
        stream = self._stream
        total = stream.total()
        check_length(self._model, total)
        if not self._begun:
            self._begin()
        while missing := stream.missing(total):
            size = self._last_size(missing)
            self._run(size, min(size, total - stream.real))
        stream.done = True
        self._over = _finished()
        return stream.collect(self._none)

    def stream(self, chunks: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """Feed every chunk of an iterable, then finish; yields what each call returns."""
        for chunk in chunks:
            yield self.feed(chunk)
        yield self.finish()

    def save(self) -> bytes:
        """Everything that a stream is: states, frames that wait or are held, counts, static inputs.

        In the format of safetensors, which holds arrays and text and nothing that could be executed.
        """
        if self._over is not None and not self._stream.done:
            raise self._over
        states = self._bound.states if self._begun and self._bound is not None else None
        return saved.pack(self._model, self._pulse, self._intake.sizes, self._stream, states, self._static)

    def load(self, data: bytes) -> None:
        """Go on with a stream that was saved, here or elsewhere, whatever this session streamed before.

        ClientError where the bytes are damaged, or of another model or pulse; this session is then as it was.
        """
        found = saved.unpack(self._model, self._pulse, data)
        self._stream, self._static = found.stream, found.static
        self._intake.reset(found.sizes)
        self._over = _finished() if found.stream.done else None
        self._begun = False
        if found.states is not None:
            self._begin()
            assert self._bound is not None
            for target, state in zip(self._bound.states, found.states, strict=True):
                target[...] = state

    def __enter__(self) -> StreamSession:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.reset()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Memory for the sizes of this stream, zero states."""
        sizes = self._intake.sizes
        if self._bound is None or self._bound_sizes != sizes:
            self._bound = runner(self._model, sizes, self._pulse or self._model.unit)
            self._bound_sizes = dict(sizes)
        else:
            self._bound.zero()
        fill_statics(self._bound, self._model, self._static)
        self._none = self._empty(self._bound, sizes)
        self._intake.fresh = False
        self._begun = True

    def _run(self, size: int, real: int) -> None:
        """A pulse of ``size`` frames, the first ``real`` of them from those that wait."""
        bound = self._bound
        assert bound is not None
        if size != bound.size:
            bound.resize(size)
        self._stream.fill(bound.inputs, real, self._filler)
        self._step(bound, size, real)

    def _step(self, bound: Bound | Unbound, size: int, real: int) -> None:
        if bound.valid is not None:
            bound.real(real)
        try:
            bound.run()
        except ClientError as e:
            self._over = ClientError("the stream broke off", why=f"{e.what}: {e.why}", hint="reset() starts a new one")
            raise
        self._stream.advance(bound.outputs, size, real)


def _finished() -> ClientError:
    return ClientError("the stream is finished", why="finish() was called", hint="reset() starts a new one")
