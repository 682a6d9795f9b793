"""A whole recording through a pulsed model as a stream would bring it, and against the batch model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np

from pulsify.errors import UsageError, VerificationError
from pulsify.graph import Graph
from pulsify.pipeline import Options, run
from pulsify.runtime import StreamSession
from pulsify.source import Source
from pulsify.stages.load import AxisSpec, declared_dims, normalize
from pulsify.stages.verify import Comparison, batch_session, judge

__all__ = ["Replay", "against_batch", "axis_of", "default_chunk", "legal_length", "replay", "stream_length", "typed"]

#: Least legal pulses in a chunk where the pulse is dynamic and nobody says how many.
_CHUNK = 64


@dataclass
class Replay:
    """What came of it: the outputs whole, ``frames`` of the stream symbol, the chunks fed, the seconds spent in the client."""

    outputs: dict[str, np.ndarray]
    frames: int
    chunks: int
    seconds: float


def stream_length(session: StreamSession, inputs: Mapping[str, np.ndarray]) -> int:
    """Frames of the stream symbol that the inputs hold. UsageError where they differ or do not come out even."""
    spans = {}
    for i in session.manifest["inputs"]:
        if i["axis"] is not None:
            spans[i["name"]] = Fraction(inputs[i["name"]].shape[i["axis"]]) / session.ratio[i["name"]]
    symbol = session.manifest["symbol"]
    if len(set(spans.values())) > 1:
        raise UsageError(
            "the inputs differ in length",
            why=", ".join(f"{n} holds {float(s):g} frames of {symbol}" for n, s in spans.items()),
            hint="cut them to the same stretch of the stream",
        )
    name, total = next(iter(spans.items()))
    if total.denominator > 1:
        raise UsageError(
            f"the input {name!r} holds {float(total):g} frames of {symbol}",
            why=f"it is {session.ratio[name]} frames long per frame of {symbol}",
            hint=f"cut it to a multiple of {session.ratio[name].numerator}",
        )
    return int(total)


def legal_length(manifest: Mapping[str, Any], least: int) -> int:
    """The first stream length from ``least`` on that the model is defined for; its longest where that is shorter."""
    stream = manifest.get("stream") or {}
    start = max(int(stream.get("least") or 1), least, 1)
    if stream.get("most") is not None:
        start = min(start, int(stream["most"]))
    rules = stream.get("conditions") or []
    lengths = range(start, start + lcm(1, *(c["modulus"] for c in rules)))
    return next((n for n in lengths if all(n % c["modulus"] == c["remainder"] for c in rules)), start)


def default_chunk(session: StreamSession) -> int:
    """One pulse; where it is dynamic, some of the least legal ones."""
    return session.pulse or _CHUNK * int(session.manifest["pulse_multiple"])


def replay(
    session: StreamSession,
    inputs: Mapping[str, np.ndarray],
    chunk: int | None = None,
    observe: Callable[[int, float], None] | None = None,
) -> Replay:
    """Feed ``chunk`` frames of the stream symbol at a time, then finish.

    ``observe`` is told the frames fed so far and the seconds spent on them. UsageError, ClientError.
    """
    total, size = stream_length(session, inputs), default_chunk(session) if chunk is None else chunk
    axes = {i["name"]: i["axis"] for i in session.manifest["inputs"] if i["axis"] is not None}
    unit = lcm(1, *(session.ratio[n].denominator for n in axes))
    if size < 1 or size % unit:
        raise UsageError(
            f"a chunk of {size} frames",
            why=f"an input holds {', '.join(str(session.ratio[n]) for n in axes)} frames per frame of {session.manifest['symbol']}",
            hint=f"a chunk of {max(unit, -(-size // unit) * unit)} frames",
        )
    parts: list[dict[str, Any]] = []
    seconds, chunks = 0.0, 0
    for at in range(0, total, size):
        upto = min(at + size, total)
        feeds = {}
        for n, axis in axes.items():
            ratio = session.ratio[n]
            cut: list[slice] = [slice(None)] * inputs[n].ndim
            cut[axis] = slice(int(at * ratio), int(upto * ratio))
            feeds[n] = np.ascontiguousarray(inputs[n][tuple(cut)])
        start = time.perf_counter()
        parts.append(session.feed(feeds))
        seconds += time.perf_counter() - start
        chunks += 1
        if observe is not None:
            observe(upto, seconds)
    start = time.perf_counter()
    parts.append(session.finish())
    seconds += time.perf_counter() - start
    outputs = {}
    for o in session.manifest["outputs"]:
        given = [p[o["name"]] for p in parts if o["name"] in p]
        if given:
            outputs[o["name"]] = given[-1] if o["axis"] is None else np.concatenate(given, axis=o["axis"])
    return Replay(outputs, total, chunks, seconds)


def axis_of(manifest: Mapping[str, Any], source: Source) -> AxisSpec:
    """The time axis a pulsed model was converted along, as its batch model has it."""
    inputs = normalize(source).graph.inputs
    used = {str(d) for v in inputs for d in declared_dims(v) or ()}
    if manifest["symbol"] in used:
        return AxisSpec(manifest["symbol"])
    axes = {i["name"]: i["axis"] for i in manifest["inputs"] if i["axis"] is not None}
    return AxisSpec(manifest["symbol"], axes)


def typed(source: Source, axis: AxisSpec) -> Graph:
    """The batch graph with its time axis declared, as running it needs it."""
    return run(source, Options(axis), until="type")


def against_batch(
    source: Source, batch: Graph, manifest: Mapping[str, Any], inputs: Mapping[str, np.ndarray], done: Replay
) -> tuple[list[Comparison], dict[str, np.ndarray]]:
    """Compare every frame of every output with the batch model on the same inputs.

    Returns what was compared and the batch model's outputs. VerificationError at the first disagreement.
    """
    session = batch_session(source, batch)
    names = [o.name for o in session.get_outputs()]
    try:
        expected = dict(zip(names, session.run(None, dict(inputs)), strict=True))
    except Exception as e:
        raise VerificationError(
            "cannot compare: the batch model does not run",
            why=(str(e).strip().splitlines() or [type(e).__name__])[0],
            hint="the batch model that the pulsed one was made of, with the same --bind, --state and --length-input",
        ) from e
    missing = [o["name"] for o in manifest["outputs"] if o["name"] not in expected]
    if missing:
        raise VerificationError(
            "cannot compare: it is another model", why=f"the batch model has no output {', '.join(missing)}: it has {', '.join(names)}"
        )
    rows = [judge(o, expected, done.outputs.get(o["name"]), done.frames, session, inputs) for o in manifest["outputs"]]
    return rows, expected
