"""verify: stream the pulsed model and compare with the batch model, frame by frame, start, middle and end.

Lengths around the pulse and the receptive field; filler after the end is NaN; one stream is cut into uneven chunks.
A stream agrees if ``max|err| <= 1e-5 * max|y|`` in float32 and every length and delay is what the manifest says. Where
onnxruntime cannot run a type (bfloat16, some operators in float64), the float32 twins of both models are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from pulsify import contract
from pulsify.dim import evaluate, symbols_of
from pulsify.errors import ClientError, ModelError, VerificationError
from pulsify.graph import Graph
from pulsify.runtime import StreamSession, open_session
from pulsify.source import Source
from pulsify.stages._nearer import nearer, resamples
from pulsify.stages._twin import float32_twin, odd_types

__all__ = ["TOLERANCE", "Comparison", "Report", "batch_session", "compare", "judge", "lengths_to_try", "make_inputs", "verify"]

#: Greatest error allowed, relative to the largest magnitude of the output.
TOLERANCE = {"float64": 1e-9, "float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}

#: The most pulses a verification feeds in all, but for the first length.
_MOST_PULSES = 20_000


#: Rounded inputs tried to see how well conditioned an output is; how many times what they make of it is allowed; and the
#: most that still counts as rounding.
_TRIES, _NOISES, _MOST_NOISE = 4, 4.0, 1e-2

#: What float32 stands in for.
_SINGLE = {"bfloat16", "float64"}

_OURS = "this is a bug of pulsify: please report it with the model"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One output of one stream against batch. ``error`` is relative to the output's largest magnitude; ``noise``, where it
    was measured, is how far the batch model itself moves when its inputs, or positions, are rounded otherwise."""

    output: str
    length: int
    error: float
    noise: float = 0.0


@dataclass
class Report:
    """What was compared. ``worst`` is the greatest relative error over all."""

    lengths: list[int] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    #: Types that were verified in float32, as onnxruntime has no kernels or arrays for them.
    stood_in_for: list[str] = field(default_factory=list)

    @property
    def worst(self) -> float:
        return max((c.error for c in self.comparisons), default=0.0)

    @property
    def noise(self) -> float:
        """How far rounding moves the batch model itself, where that was needed to judge an error; else 0."""
        return max((c.noise for c in self.comparisons), default=0.0)

    @property
    def frames(self) -> int:
        return sum(self.lengths)


def batch_session(source: Source, g: Graph) -> ort.InferenceSession:
    """The batch model in onnxruntime, with the declared time axes made symbolic where the file has numbers."""
    declared = {v.name: v for v in source.model.graph.inputs}
    edit = any(
        isinstance(d, int) and axis in g.time_axes(v)
        for v in g.graph.inputs
        if v.name in declared
        for axis, d in enumerate(declared[v.name].shape or ())
    )
    if not edit and not source.edited and source.path is not None:
        return open_session(source.path)
    model = source.model.clone()
    if edit:
        for v in g.graph.inputs:
            copy = next(c for c in model.graph.inputs if c.name == v.name)
            if g.time_axes(v) and copy.shape is not None:
                copy.shape = ir.Shape([g.symbol if a in g.time_axes(v) else d for a, d in enumerate(copy.shape)])
        for v in (*model.graph.outputs, *(o for n in model.graph for o in n.outputs)):
            v.shape = None
    return open_session(ir.to_proto(model).SerializeToString(), external_data=source.folder)


def lengths_to_try(manifest: Mapping[str, Any], pulse: int) -> list[int]:
    """Stream lengths where something could go wrong: shorter than a pulse, around the receptive field, uneven.

    The most telling come first; the rest is taken as long as the run stays within :data:`_MOST_PULSES`.
    """
    stream = manifest["stream"]
    fields = [o["receptive_field"] for o in manifest["outputs"] if o["receptive_field"]] or [1]
    reach, step = max(fields), manifest["pulse_multiple"]
    least, most = max(stream["least"], 1), stream.get("most")
    wanted = [
        reach + pulse + 1, least, 2 * reach + 3 * pulse + step // 2 + 1, 1, pulse, pulse + 1, reach + 5 * pulse, reach,
        reach + 1, reach - 1, pulse - 1, 2, least + step + 1, *([] if most is None else [most]),
    ]  # fmt: skip
    out: list[int] = []
    budget = _MOST_PULSES
    for s in wanted:
        fitting = _fit(max(s, least), stream["conditions"] or ())
        cost = (fitting + reach) // pulse + 1
        if fitting in out or (out and cost > budget) or (most is not None and fitting > most):
            continue
        budget -= cost
        out.append(fitting)
    return sorted(out)


def _fit(s: int, conditions: Any) -> int:
    """The first stream length from s on that meets every congruence (Chinese remainders by search)."""
    period = math.lcm(1, *(c["modulus"] for c in conditions))
    return next((t for t in range(s, s + period) if all(t % c["modulus"] == c["remainder"] for c in conditions)), s)


def make_inputs(g: Graph, length: int, rng: np.random.Generator, batch: int = 1) -> dict[str, np.ndarray]:
    """Random values for every input of the batch model at a stream length. Integers stay small and non-negative."""
    out = {}
    for v in g.graph.inputs:
        f = g.facts[v]
        env = {s: batch for d in f.shape or () for s in symbols_of(d)}
        env[g.symbol] = length
        shape = [int(evaluate(d, env)) for d in f.shape or ()]
        dtype = f.dtype.numpy()
        if dtype.kind == "f" or dtype.name == "bfloat16":
            out[v.name or ""] = rng.standard_normal(shape).astype(dtype)
        elif dtype.kind == "b":
            out[v.name or ""] = rng.random(shape) < 0.5
        elif dtype.kind == "O":
            out[v.name or ""] = rng.integers(0, 3, shape).astype(str).astype(object)
        elif g.time_axes(v):
            out[v.name or ""] = rng.integers(0, 3, shape).astype(dtype)
        else:
            # An integer without a time axis usually is a number of frames.
            out[v.name or ""] = np.full(shape, length, dtype=dtype)
    return out


def verify(source: Source, batch_graph: Graph, pulsed: bytes | Path, seed: int = 0) -> Report:
    """Compare at every length of :func:`lengths_to_try`.

    ``batch_graph`` is the graph after ``type``. Raises VerificationError on the first disagreement.
    """
    odd = odd_types(source.model)
    batch, stood_in_for = _reference(source, batch_graph, odd)
    try:
        session = open_session(_as_twin(pulsed) if stood_in_for else pulsed)
    except ModelError as e:
        raise VerificationError("onnxruntime does not load the pulsed model", why=e.why, hint=_OURS) from e
    manifest = contract.loads(session.get_modelmeta().custom_metadata_map)
    step = manifest["pulse_multiple"]
    pulses = [manifest["pulse"]] if isinstance(manifest["pulse"], int) else [step, 3 * step, None]
    rng = np.random.default_rng(seed)
    report = Report(stood_in_for=stood_in_for)
    positions = resamples(source.model)
    rows = 2 if batch_graph.batch is not None else 1
    failure = ""
    for pulse in pulses:
        for length in lengths_to_try(manifest, pulse or 2 * step):
            inputs, expected, failure = _expected(batch, batch_graph, length, rng, rows, set(stood_in_for))
            if expected is None:
                continue
            try:
                got = run_stream(session, manifest, inputs, rng, pulse if isinstance(manifest["pulse"], str) else None)
            except ClientError as e:
                raise VerificationError(
                    f"the pulsed model does not stream {length} frames", why=f"{e.what}: {e.why}" if e.why else e.what, hint=_OURS
                ) from e
            report.lengths.append(length)
            for o in manifest["outputs"]:
                report.comparisons.append(_judged(manifest, o, expected, got.get(o["name"]), length, batch, inputs, positions))
    if not report.lengths:
        raise VerificationError(
            "cannot verify: the batch model does not run",
            why=f"at {', '.join(map(str, lengths_to_try(manifest, pulses[0] or step)))} frames onnxruntime says: {failure}",
            hint="--no-verify writes the model unverified",
        )
    return report


def _reference(source: Source, g: Graph, odd: set[str]) -> tuple[ort.InferenceSession, list[str]]:
    """The batch model, or its twin where onnxruntime cannot run the types it has; and which those are."""
    reason: ModelError | None = None
    if "bfloat16" not in odd:  # numpy has no such arrays
        try:
            return batch_session(source, g), []
        except ModelError as e:
            reason = e
    if odd:
        try:
            return batch_session(replace(source, model=float32_twin(source.model), edited=True), g), sorted(odd)
        except ModelError as e:
            reason = reason or e
    raise VerificationError(
        "cannot verify: onnxruntime does not load the batch model",
        why=reason.why if reason is not None else "",
        hint="--no-verify writes the model unverified",
    ) from reason


def _as_twin(pulsed: bytes | Path) -> bytes:
    model = ir.load(pulsed) if isinstance(pulsed, Path) else ir.serde.deserialize_model(onnx.load_from_string(pulsed))
    twin: bytes = ir.to_proto(float32_twin(model)).SerializeToString()
    return twin


def _expected(
    batch: ort.InferenceSession, g: Graph, length: int, rng: np.random.Generator, rows: int, odd: set[str]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None, str]:
    """Inputs and what the batch model makes of them: of two rows, or of one where a batch of 1 is baked in; None where
    the stream is too short for it, with what onnxruntime said."""
    failure = ""
    inputs: dict[str, np.ndarray] = {}
    for n in range(rows, 0, -1):
        inputs = make_inputs(g, length, rng, n)
        inputs = {k: v.astype(np.float32) if v.dtype.name in _SINGLE and odd else v for k, v in inputs.items()}
        try:
            return inputs, dict(zip([o.name for o in batch.get_outputs()], batch.run(None, inputs), strict=True)), failure
        except Exception as e:
            failure = str(e).strip().splitlines()[0]
    return inputs, None, failure


def run_stream(
    session: ort.InferenceSession,
    manifest: Mapping[str, Any],
    inputs: Mapping[str, np.ndarray],
    rng: np.random.Generator,
    pulse: int | None = None,
) -> dict[str, np.ndarray]:
    """Stream whole inputs in chunks of random length, NaN after the end; outputs concatenated."""
    streams = {i["name"]: i["axis"] for i in manifest["inputs"] if i["axis"] is not None}
    static = {k: v for k, v in inputs.items() if k not in streams}
    client = StreamSession(session, static=static, pulse=pulse, filler=float("nan"))
    sizes = {n: inputs[n].shape[a] for n, a in streams.items()}
    ratio = {n: max(1, round(client.ratio[n])) for n in streams}
    total = min(sizes[n] // ratio[n] for n in streams)
    at, parts = 0, []
    while at < total:
        step = int(min(total - at, rng.integers(1, max(2, total // 3 + 2))))
        chunk = {
            n: np.take(inputs[n], range(at * ratio[n], (at + step) * ratio[n]), axis=a) for n, a in streams.items()
        }
        parts.append(client.feed(chunk))
        at += step
    parts.append(client.finish())
    axes = {o["name"]: o["axis"] for o in manifest["outputs"]}
    out = {}
    for name, axis in axes.items():
        rows = [p[name] for p in parts if name in p]
        if rows:
            out[name] = rows[-1] if axis is None else np.concatenate(rows, axis=axis)
    return out


def judge(
    o: Mapping[str, Any], expected: Mapping[str, np.ndarray], got: np.ndarray | None, length: int, batch: ort.InferenceSession,
    inputs: Mapping[str, np.ndarray],
) -> Comparison:  # fmt: skip
    """Like :func:`compare`, but where a small difference is no more than what rounding makes of the batch model itself:
    a probability of 1e-5 behind a sigmoid has two digits, whoever computes it. An output that rounding moves by more than a
    hundredth proves nothing: it is told so."""
    want = expected[o["name"]]
    try:
        return compare(o, want, got, length)
    except VerificationError:
        if got is None or got.shape != want.shape or want.dtype.kind != "f":
            raise
        noise = _noise(batch, inputs, o["name"], want)
        if noise == 0:
            raise
        found = compare(o, want, got, length, TOLERANCE.get(want.dtype.name, 1e-5) + _NOISES * noise)
        if noise > _MOST_NOISE:
            raise VerificationError(
                f"the batch model itself is too sensitive to tell whether output {o['name']!r} is right at a stream length of {length}",
                why=f"inputs off by one unit in the last place move it by {noise:.2g} of its largest value, and the stream is {found.error:.2g} off",
                hint="verify with trained weights: untrained ones may amplify rounding from layer to layer",
            ) from None
        return replace(found, noise=noise)


def _judged(
    manifest: Mapping[str, Any], o: Mapping[str, Any], expected: Mapping[str, np.ndarray], got: np.ndarray | None, length: int,
    batch: ort.InferenceSession, inputs: Mapping[str, np.ndarray], positions: bool,
) -> Comparison:  # fmt: skip
    """Like :func:`judge`, but where the batch model computes ``positions``, which float32 rounds far from the start, an output may
    also agree with the frames that the batch model gives nearer to the start, and as closely."""
    try:
        return judge(o, expected, got, length, batch, inputs)
    except VerificationError as e:
        want = expected[o["name"]]
        if not positions or got is None or got.shape != want.shape or want.dtype.kind != "f":
            raise
        parts = nearer(manifest, o, batch, inputs, want, length)
        if parts is None:
            raise
        try:
            drift = compare(o, want, parts, length, _MOST_NOISE).error
            return replace(compare(o, parts, got, length), noise=drift)
        except VerificationError:
            raise e from None


def _noise(batch: ort.InferenceSession, inputs: Mapping[str, np.ndarray], name: str, want: np.ndarray) -> float:
    """How far one output moves, relative to its largest magnitude, when every input is one unit in the last place off."""
    rng, worst = np.random.default_rng(0), 0.0
    scale = float(np.max(np.abs(want[np.isfinite(want)]).astype(np.float64), initial=0.0)) or 1.0
    for _ in range(_TRIES):
        moved = {
            k: np.nextafter(v, np.where(rng.random(v.shape) < 0.5, -np.inf, np.inf).astype(v.dtype)) if v.dtype.kind == "f" else v
            for k, v in inputs.items()
        }
        (found,) = batch.run([name], moved)
        with np.errstate(invalid="ignore"):
            gap = np.abs(found.astype(np.float64) - want.astype(np.float64))
        worst = max(worst, float(np.max(gap[np.isfinite(gap)], initial=0.0)) / scale)
    return worst


def compare(
    o: Mapping[str, Any], want: np.ndarray, got: np.ndarray | None, length: int, tolerance: float | None = None
) -> Comparison:
    """One output against batch. VerificationError names the first frame that differs."""
    name = o["name"]
    where = f"output {name!r} at a stream length of {length}"
    if got is None or got.shape != want.shape:
        raise VerificationError(
            f"the pulsed model disagrees with the batch model on {where}",
            why=f"batch gives {list(want.shape)}, the stream {None if got is None else list(got.shape)}",
        )
    if want.size == 0:
        return Comparison(name, length, 0.0)
    if want.dtype.kind not in "f":
        bad = np.argwhere(want != got)
        error, limit = float(len(bad) > 0), 0.0
    else:
        a, b = want.astype(np.float64), got.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        finite = np.isfinite(a)
        scale = float(np.max(np.abs(a[finite]), initial=0.0)) or 1.0
        with np.errstate(invalid="ignore"):
            gap = np.where(same, 0.0, np.abs(a - b))
        gap = np.where(np.isnan(gap), np.inf, gap)
        limit = TOLERANCE.get(want.dtype.name, 1e-5) if tolerance is None else tolerance
        error = float(gap.max()) / scale
        bad = np.argwhere(gap > limit * scale)
    if len(bad):
        index = tuple(int(i) for i in bad[0])
        frame = f"frame {index[o['axis']]}, " if o["axis"] is not None else ""
        raise VerificationError(
            f"the pulsed model disagrees with the batch model on {where}",
            why=f"{len(bad)} of {want.size} values differ by more than {limit:g} of the largest, the first at {frame}"
            f"index {list(index)}: batch {want[index]!s}, stream {got[index]!s}",
            hint=_OURS,
        )
    return Comparison(name, length, error)

