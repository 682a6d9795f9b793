"""Streaming clients on onnxruntime, written against the contract alone (docs/contract.md).

Needs numpy and onnxruntime, not the compiler: a pulsed file and this module (with :mod:`pulsify.contract`) stream.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnxruntime as ort

from pulsify import contract
from pulsify.errors import ClientError, ModelError

__all__ = ["StreamSession", "open_session"]

_DTYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(int16)": np.int16, "tensor(int8)": np.int8,
    "tensor(uint64)": np.uint64, "tensor(uint32)": np.uint32, "tensor(uint16)": np.uint16, "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_, "tensor(string)": np.object_,
}  # fmt: skip


def open_session(
    model: str | os.PathLike[str] | bytes,
    options: ort.SessionOptions | None = None,
    providers: list[str] | None = None,
    external_data: Path | None = None,
) -> ort.InferenceSession:
    """An onnxruntime session: one thread and sequential unless options say otherwise. ModelError if it fails."""
    if options is None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4
    if external_data is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(external_data))
    source = model if isinstance(model, bytes) else os.fspath(model)
    try:
        return ort.InferenceSession(source, options, providers=providers or ["CPUExecutionProvider"])
    except Exception as e:
        name = "the model" if isinstance(model, bytes) else repr(os.fspath(model))
        raise ModelError(f"onnxruntime cannot load {name}", why=str(e).strip().splitlines()[0]) from e


class StreamSession:
    """Streams one pulsed model: chunks of any length in, exact frames out.

    ``feed`` takes chunks of any number of frames, runs whole pulses, and returns the output frames that became final
    (warm-up dropped). ``finish`` flushes the tail. Everything returned, concatenated, equals the batch model's output.

    ``static`` holds the inputs without a time axis. ``pulse`` chooses frames per call for a model with a dynamic
    pulse (default: all whole multiples at hand). ``batch`` is the number of rows where the model has a batch axis;
    it is taken from the first chunk if not given.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | ort.InferenceSession,
        *,
        static: Mapping[str, Any] | None = None,
        pulse: int | None = None,
        batch: int | None = None,
        options: ort.SessionOptions | None = None,
        providers: list[str] | None = None,
        filler: float = 0.0,
    ):
        self._session = model if isinstance(model, ort.InferenceSession) else open_session(model, options, providers)
        try:
            self.manifest = contract.loads(self._session.get_modelmeta().custom_metadata_map)
        except ValueError as e:
            raise ModelError("cannot stream this model", why=str(e), hint="convert it with pulsify first") from e
        m = self.manifest
        self._dtype = {i.name: _DTYPES.get(i.type, np.float32) for i in self._session.get_inputs()}
        self._shape = {i.name: i.shape for i in self._session.get_inputs()}
        self._out_shape = {o.name: o.shape for o in self._session.get_outputs()}
        self._out_dtype = {o.name: _DTYPES.get(o.type, np.float32) for o in self._session.get_outputs()}
        self._streams = {i["name"]: i for i in m["inputs"] if i["axis"] is not None}
        self._statics = [i["name"] for i in m["inputs"] if i["axis"] is None]
        self._outputs = [o for o in m["outputs"] if o["axis"] is not None]
        self._names = [o["name"] for o in m["outputs"]] + [s["output"] for s in m["states"]]
        self._dynamic = isinstance(m["pulse"], str)
        step = m["pulse_multiple"]
        if pulse is not None and ((not self._dynamic and pulse != m["pulse"]) or pulse < 1 or pulse % step):
            raise ClientError(
                f"a pulse of {pulse} frames",
                why=f"this model takes {'multiples of ' + str(step) if self._dynamic else m['pulse']}",
                hint=f"a multiple of {step}" if self._dynamic else "leave the pulse out",
            )
        self._pulse = pulse if self._dynamic else int(m["pulse"])
        self._static = {k: self._check_static(k, v) for k, v in (static or {}).items()}
        self._asked_batch = batch
        self._filler = filler
        self.reset()

    # -- what the model promises -----------------------------------------------------------------------------------

    @property
    def delay(self) -> dict[str, int]:
        """Delay of each streaming output, in its own frames."""
        return {o["name"]: o["delay"] for o in self._outputs}

    @property
    def latency(self) -> dict[str, int]:
        """Look-ahead plus one pulse, in frames of the stream: the age of an output frame when it comes out."""
        pulse = self._pulse or self.manifest["pulse_multiple"]
        return {o["name"]: o["lookahead"] + pulse for o in self._outputs}

    @property
    def state_bytes(self) -> int:
        """Bytes of state per stream."""
        return int(self.manifest["state_bytes"])

    # -- streaming -------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """Start a new stream: zero states, nothing pending, any number of rows (unless ``batch`` was given)."""
        self._batch = self._asked_batch
        self._pending: dict[str, list[np.ndarray]] = {name: [] for name in self._streams}
        self._received = dict.fromkeys(self._streams, 0)
        self._states: dict[str, np.ndarray] | None = None
        self._slots = {o["name"]: 0 for o in self._outputs}
        self._given = {o["name"]: 0 for o in self._outputs}
        self._held: dict[str, list[np.ndarray]] = {o["name"]: [] for o in self._outputs}
        self._real = 0
        self._sent = 0
        self._last: dict[str, np.ndarray] = {}
        self._done = False

    def feed(self, chunks: Mapping[str, Any] | None = None, /, **named: Any) -> dict[str, np.ndarray]:
        """Take a chunk of every streaming input; return the frames that became final, by output name.

        Outputs without a time axis hold their value after the last pulse run (absent before the first).
        ClientError on a wrong name, dtype, rank or shape.
        """
        if self._done:
            raise ClientError("the stream is finished", why="finish() was called", hint="reset() starts a new one")
        given = {**(chunks or {}), **named}
        self._need_statics()
        checked = {name: self._check(name, np.asarray(value)) for name, value in given.items()}
        missing = set(self._streams) - set(checked)
        if missing:
            raise ClientError(
                f"no chunk for {', '.join(sorted(missing))}", why=f"the model streams {', '.join(self._streams)}"
            )
        spans = {n: a.shape[self._streams[n]["axis"]] / self._ratio(n) for n, a in checked.items()}
        if len(set(spans.values())) > 1:
            raise ClientError(
                "the chunks differ in length",
                why=", ".join(f"{n} holds {float(s):g} frames of {self.manifest['symbol']}" for n, s in spans.items()),
                hint="feed the same stretch of the stream on every input",
            )
        name, span = next(iter(spans.items()))
        self._check_most(round(self._received[name] / self._ratio(name) + span))
        self._batch = self._rows(checked)
        for name, array in checked.items():
            self._pending[name].append(array)
            self._received[name] += array.shape[self._streams[name]["axis"]]
        while True:
            size = self._next_pulse()
            if not size:
                break
            self._run({n: self._take(n, size) for n in self._streams}, size, size)
        for parts in self._pending.values():
            if parts:
                # What waits for the next pulse is a copy: the caller may reuse the chunk's memory.
                parts[-1] = np.array(parts[-1])
        return self._collect()

    def finish(self) -> dict[str, np.ndarray]:
        """End the stream; return the exact tail. ClientError where the batch model is not defined for its length."""
        if self._done:
            raise ClientError("the stream is finished", why="finish() was called", hint="reset() starts a new one")
        self._need_statics()
        total = self._total()
        self._check_length(total)
        rest = total - self._real
        step = self.manifest["pulse_multiple"]
        size = self._pulse or step
        if self._dynamic and self._pulse is None and rest:
            size = -(-rest // step) * step
        lengths = {o["name"]: max(0, contract.evaluate(o["length"], **{self.manifest["symbol"]: total})) for o in self._outputs}
        if rest:
            arrays = {}
            for name in self._streams:
                axis = self._streams[name]["axis"]
                have = self._join(name)
                short = int(size * self._ratio(name)) - have.shape[axis]
                arrays[name] = np.concatenate([have, self._fill(name, have.shape, axis, short)], axis=axis)
            self._run(arrays, size, rest)
        # A running output has its final value once every memory has seen every real frame.
        settled = total + max((o.get("settle") or 0 for o in self.manifest["outputs"]), default=0) if total else 0
        while self._sent < settled or any(
            self._slots[o["name"]] < o["delay"] + lengths[o["name"]] for o in self._outputs if lengths[o["name"]]
        ):
            self._run({n: self._filled(n, size) for n in self._streams}, size, 0)
        self._done = True
        return self._collect()

    def stream(self, chunks: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, np.ndarray]]:
        """Feed every chunk of an iterable, then finish; yields what each call returns."""
        for chunk in chunks:
            yield self.feed(chunk)
        yield self.finish()

    def __enter__(self) -> StreamSession:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None) -> None:
        self.reset()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _ratio(self, name: str) -> Fraction:
        """Frames of an input per frame of the stream symbol."""
        step = int(self.manifest["pulse_multiple"])
        frames = self._streams[name]["frames"]
        if self._dynamic:
            return Fraction(contract.evaluate(frames, **{self.manifest["pulse"]: step}), step)
        return Fraction(int(frames), int(self.manifest["pulse"]))

    def _total(self) -> int:
        """Frames of the stream symbol received."""
        name = next(iter(self._streams))
        total = self._received[name] / self._ratio(name)
        if total.denominator > 1:
            raise ClientError(
                f"a stream of {self._received[name]} frames on {name!r}",
                why=f"the input holds {self._ratio(name)} frames per frame of {self.manifest['symbol']}",
            )
        return int(total)

    def _need_statics(self) -> None:
        for name in self._statics:
            if name not in self._static:
                raise ClientError(f"no value for the static input {name!r}", hint=f"StreamSession(..., static={{{name!r}: ...}})")

    def _check_static(self, name: str, value: Any) -> np.ndarray:
        if name not in self._statics:
            raise ClientError(
                f"{name!r} is not a static input",
                why=f"the model has {', '.join(self._statics) or 'none'}",
                hint="feed() takes the streaming inputs" if name in self._streams else "",
            )
        want = np.dtype(self._dtype[name])
        array = value if isinstance(value, np.ndarray) else np.asarray(value, dtype=want)
        if array.dtype != want:
            raise ClientError(f"static input {name!r} is {array.dtype}", why=f"the model takes {want}", hint=f"astype(np.{want})")
        return array

    def _rows(self, chunks: Mapping[str, np.ndarray]) -> int | None:
        """The number of rows, from the first chunk that has any."""
        for name, array in chunks.items():
            axis = self._batch_axis(name)
            if self._batch is None and axis is not None:
                return int(array.shape[axis])
        return self._batch

    def _check(self, name: str, array: np.ndarray) -> np.ndarray:
        if name not in self._streams:
            known = ", ".join(self._streams)
            hint = "static inputs are given to the constructor" if name in self._statics else f"one of {known}"
            raise ClientError(f"{name!r} is not a streaming input", why=f"the model streams {known}", hint=hint)
        want = self._dtype[name]
        if array.dtype != want:
            raise ClientError(
                f"chunk {name!r} is {array.dtype}", why=f"the model takes {np.dtype(want)}", hint=f"chunk.astype(np.{np.dtype(want)})"
            )
        axis, shape = self._streams[name]["axis"], self._shape[name]
        if array.ndim != len(shape):
            raise ClientError(
                f"chunk {name!r} has {array.ndim} axes", why=f"the model takes {len(shape)}: {shape} with time on axis {axis}"
            )
        batch = self._batch_axis(name)
        for a, (got, d) in enumerate(zip(array.shape, shape, strict=True)):
            if a == axis:
                continue
            if a == batch:
                d = self._batch
            if isinstance(d, int) and got != d:
                raise ClientError(f"chunk {name!r} is {got} long on axis {a}", why=f"the model takes {d} there")
        return array

    def _batch_axis(self, name: str) -> int | None:
        symbols = {d for s in self.manifest["states"] for d in s["shape"] if isinstance(d, str)}
        axis = self._streams[name]["axis"]
        for a, d in enumerate(self._shape[name]):
            if a != axis and isinstance(d, str) and (not symbols or d in symbols):
                return a
        return None

    def _next_pulse(self) -> int:
        """Frames of the next pulse; 0 while there are too few."""
        waiting = min(
            sum(a.shape[i["axis"]] for a in self._pending[n]) // self._ratio(n) for n, i in self._streams.items()
        )
        if self._pulse is not None:
            return self._pulse if waiting >= self._pulse else 0
        step = int(self.manifest["pulse_multiple"])
        return int(waiting) // step * step

    def _join(self, name: str) -> np.ndarray:
        parts = self._pending[name]
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=self._streams[name]["axis"])
        self._pending[name] = []
        return joined

    def _take(self, name: str, size: int) -> np.ndarray:
        axis = self._streams[name]["axis"]
        joined = self._join(name)
        frames = int(size * self._ratio(name))
        head, tail = np.split(joined, [frames], axis=axis)
        if tail.shape[axis]:
            self._pending[name] = [tail]
        return head

    def _fill(self, name: str, like: tuple[int, ...], axis: int, frames: int) -> np.ndarray:
        shape = tuple(frames if a == axis else d for a, d in enumerate(like))
        dtype = np.dtype(self._dtype[name])
        return np.full(shape, self._filler if dtype.kind == "f" else 0, dtype=dtype)

    def _filled(self, name: str, size: int) -> np.ndarray:
        axis = self._streams[name]["axis"]
        like = tuple(d if isinstance(d, int) else self._batch or 1 for d in self._shape[name])
        return self._fill(name, like, axis, int(size * self._ratio(name)))

    def _check_most(self, total: int) -> None:
        """A stream that outgrows a table of the model is refused before it does."""
        stream = self.manifest.get("stream") or {}
        most = stream.get("most")
        if most is not None and total > most:
            nodes = [c["node"] for c in stream["conditions"] if c.get("most") == most]
            raise ClientError(
                f"a stream of {total} frames",
                why=f"the model is defined for at most {most} ({', '.join(f'node {n!r}' for n in nodes)})",
                hint="end the stream with finish() and start another, or export the model with a longer table",
            )

    def _check_length(self, total: int) -> None:
        stream = self.manifest.get("stream") or {}
        symbol = self.manifest["symbol"]
        for c in stream.get("conditions", []):
            if total and total % c["modulus"] != c["remainder"]:
                raise ClientError(
                    f"a stream of {total} frames",
                    why=f"the model is defined for {symbol} % {c['modulus']} == {c['remainder']} only (node {c['node']!r})",
                    hint=f"pad or cut the stream to {total - (total - c['remainder']) % c['modulus'] + c['modulus']} or "
                    f"{total - (total - c['remainder']) % c['modulus']} frames",
                )
        if 0 < total < stream.get("least", 0):
            for o in self.manifest["outputs"]:
                running = o["axis"] is None and o.get("settle") is not None
                if running or (o["axis"] is not None and contract.evaluate(o["length"], **{symbol: total}) > 0):
                    raise ClientError(
                        f"a stream of {total} frames",
                        why=f"the model was understood for streams of at least {stream['least']} frames",
                    )

    def _zero_states(self) -> dict[str, np.ndarray]:
        return {
            s["input"]: np.zeros([d if isinstance(d, int) else self._batch or 1 for d in s["shape"]], self._dtype[s["input"]])
            for s in self.manifest["states"]
        }

    def _run(self, arrays: dict[str, np.ndarray], size: int, real: int) -> None:
        m = self.manifest
        if self._states is None:
            self._states = self._zero_states()
        feeds = {**arrays, **self._states}
        feeds.update(self._static)
        if m["valid"] is not None:
            (rows,) = self._shape[m["valid"]["input"]]
            feeds[m["valid"]["input"]] = np.full([rows if isinstance(rows, int) else self._batch or 1], real, dtype=np.int64)
        try:
            results = self._session.run(self._names, feeds)
        except Exception as e:
            raise ClientError("onnxruntime failed on a pulse", why=str(e).strip().splitlines()[0]) from e
        self._real += real
        self._sent += size
        named = dict(zip(self._names, results, strict=True))
        self._states = {s["input"]: named[s["output"]] for s in m["states"]}
        for o in m["outputs"]:
            if o["axis"] is None:
                self._last[o["name"]] = named[o["name"]]
            else:
                self._keep(o, named[o["name"]])

    def _keep(self, o: dict[str, Any], array: np.ndarray) -> None:
        """Hold the frames of a pulse that are not warm-up."""
        name, axis = o["name"], o["axis"]
        first = self._slots[name] - o["delay"]
        self._slots[name] += array.shape[axis]
        if first < 0:
            array = np.take(array, range(min(-first, array.shape[axis]), array.shape[axis]), axis=axis)
        self._held[name].append(array)

    def _collect(self) -> dict[str, np.ndarray]:
        """Give out held frames of index ``i < L(V)``, V the real frames so far: they are final."""
        out = {}
        for o in self._outputs:
            name, axis = o["name"], o["axis"]
            final = max(0, contract.evaluate(o["length"], **{self.manifest["symbol"]: self._real})) - self._given[name]
            held = self._held[name]
            if not held:
                out[name] = self._empty(o)
                continue
            joined = held[0] if len(held) == 1 else np.concatenate(held, axis=axis)
            head, tail = np.split(joined, [max(0, final)], axis=axis)
            self._given[name] += head.shape[axis]
            self._held[name] = [tail] if tail.shape[axis] else []
            out[name] = head
        return {**out, **self._last}

    def _empty(self, o: dict[str, Any]) -> np.ndarray:
        """No frames of an output, in the shape of one that has some."""
        shape = [d if isinstance(d, int) else self._batch or 1 for d in self._out_shape[o["name"]]]
        shape[o["axis"]] = 0
        return np.zeros(shape, dtype=self._out_dtype[o["name"]])
