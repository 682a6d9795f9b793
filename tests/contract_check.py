"""The one contract check: batch against stream on every frame of every output, start, middle and end.

Written against docs/contract.md with a bare onnxruntime session, not with the project's client. What no valid frame
may depend on is NaN: filler after the end, other rows before they start, initial states the compiler says are never
read. There is no switch to weaken it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx_ir.passes.common import RemoveUnusedNodesPass

from pulsify.api import Conversion, convert
from pulsify.contract import evaluate
from pulsify.dim import evaluate as dim_value
from pulsify.dim import symbols_of
from pulsify.runtime import open_session
from pulsify.stages.load import AxisSpec, load
from pulsify.stages.type import infer_types
from pulsify.stages.verify import TOLERANCE, batch_session

#: Key of a stream's static outputs after every pulse; how many of them are compared.
SO_FAR, PREFIXES = "", 6

__all__ = ["check", "check_least_delay", "random_inputs"]


@dataclass
class Row:
    """One stream of a batch: its inputs (batch of 1), its length, and the pulse it starts at."""

    inputs: dict[str, np.ndarray]
    length: int
    start: int


def random_inputs(c: Conversion, length: int, rng: np.random.Generator, ints: int = 3) -> dict[str, np.ndarray]:
    """Random inputs of the batch model at batch 1. Static integers hold the length."""
    out = {}
    for v in c.batch.graph.inputs:
        f = c.batch.facts[v]
        env = {s: 1 for d in f.shape or () for s in symbols_of(d)} | {c.batch.symbol: length}
        shape = [int(dim_value(d, env)) for d in f.shape or ()]
        dtype = f.dtype.numpy()
        if dtype.kind == "b":
            out[v.name] = np.asarray(rng.random(shape) < 0.5)
        elif dtype.kind in "iu" and dtype.name != "bfloat16":
            streaming = c.batch.time_axes(v)
            out[v.name] = rng.integers(0, ints, shape).astype(dtype) if streaming else np.full(shape, length, dtype)
        else:
            out[v.name] = rng.standard_normal(shape).astype(dtype)
    return out


def check(
    model: onnx.ModelProto | str,
    axis: str | Sequence[str] | None = "S",
    pulses: Iterable[int | str] = (1, 2, 5),
    lengths: Iterable[int] | None = None,
    seed: int = 0,
    ints: int = 3,
    target: str = "onnx",
) -> Conversion:
    """Convert at every pulse (a legal one) and compare at every length; at the first also without optimization. Returns
    the last conversion."""
    last = None
    pulses = list(pulses)
    for pulse, level in [(pulses[0], "none"), *((p, "speed") for p in pulses)]:
        c = convert(model, axis=axis, pulse=pulse, optimize=level, target=target)
        _check_file(c, target)
        session = open_session(c.model.SerializeToString())
        batch = batch_session(c.source, c.batch)
        rng = np.random.default_rng(seed)
        step = c.manifest["pulse_multiple"]
        sizes = [pulse] if isinstance(pulse, int) else [step, 2 * step, 5 * step]
        tried = sorted(set(lengths)) if lengths is not None else _lengths(c, max(sizes))
        rows = []
        for length in tried:
            if not c.batch.assume.allows(length):
                continue
            inputs = random_inputs(c, length, rng, ints)
            want = _wanted(batch, c, inputs, length)
            if want is None:
                continue
            rows.append((Row(inputs, length, 0), want))
            (got,) = _stream(session, c, [rows[-1][0]], sizes, rng)
            _compare(c, want, got, length, pulse)
            _check_so_far(batch, c, rows[-1][0], got, pulse)
        assert rows or lengths is not None, f"no length of {tried} was checked"
        if c.batch.batch is not None and len(rows) > 1:
            _check_batch(session, c, rows, sizes, rng, pulse)
        last = c
    assert last is not None
    return last


def _check_batch(session, c, rows, sizes, rng, pulse) -> None:  # type: ignore[no-untyped-def]
    """Streams of different lengths that start at different pulses share a batch; a row is reused after its end."""
    chosen = [rows[0], rows[-1], rows[len(rows) // 2]]
    staggered = [Row(r.inputs, r.length, 2 * i) for i, (r, _) in enumerate(chosen)]
    for (_, want), got, row in zip(chosen, _stream(session, c, staggered, sizes, rng), staggered, strict=True):
        _compare(c, want, got, row.length, f"{pulse} in a batch, started at pulse {row.start}")


def _check_so_far(batch, c, row, got, pulse) -> None:  # type: ignore[no-untyped-def]
    """A running output that needs no flushing is, after every pulse, the batch model's on the frames so far."""
    names = [o["name"] for o in c.manifest["outputs"] if o.get("settle") == 0]
    axes = {i["name"]: i["axis"] for i in c.manifest["inputs"]}
    for real, values in got[SO_FAR][:: max(1, len(got[SO_FAR]) // PREFIXES)] if names else ():
        if not real or not c.batch.assume.allows(real):
            continue
        cut = {
            n: a if axes[n] is None else np.take(a, range(real * (a.shape[axes[n]] // row.length)), axis=axes[n])
            for n, a in row.inputs.items()
        }
        try:
            want = _run_batch(batch, cut)
        except Exception:
            continue
        _compare(c, want, values, real, f"{pulse}, {real} of {row.length} frames so far", names)


def _reads(graph: onnx.GraphProto) -> Iterator[str]:
    """The wires read in a graph, those of its subgraphs with them."""
    for node in graph.node:
        yield from node.input
        for a in node.attribute:
            for sub in (a.g, *a.graphs):
                yield from (o.name for o in sub.output)
                yield from _reads(sub)


def _check_file(c: Conversion, target: str) -> None:
    """ONNX, valid, in the order of the contract; no operators beyond the standard's but the batch model's and the target's."""
    used = set(_reads(c.model.graph)) | {o.name for o in c.model.graph.output}
    assert {t.name for t in c.model.graph.initializer} <= used, "constants that nothing reads"
    onnx.checker.check_model(c.model)
    m = c.manifest
    graph = c.model.graph
    names = [i["name"] for i in m["inputs"]] + ([m["valid"]["input"]] if m["valid"] else []) + [s["input"] for s in m["states"]]
    assert [i.name for i in graph.input] == names
    assert [o.name for o in graph.output] == [o["name"] for o in m["outputs"]] + [s["output"] for s in m["states"]]
    assert [v.name for v in c.source.model.graph.inputs] == [i["name"] for i in m["inputs"]]
    assert [v.name for v in c.source.model.graph.outputs] == [o["name"] for o in m["outputs"]]
    for s in m["states"]:
        assert s["input"].startswith("past_") and s["output"] == "present_" + s["input"][5:], s
    assert all(d.domain != "pulsify" for d in c.model.opset_import)
    domains = {n.domain for n in c.graph.model.graph.all_nodes()} - {""}
    allowed = {n.domain for n in c.source.model.graph.all_nodes()} | ({"com.microsoft"} if target != "onnx" else set())
    needs = m["needs"] or {"domains": {}, "onnxruntime": None}
    assert domains <= allowed and domains == set(needs["domains"]), (domains, needs)
    assert needs["onnxruntime"] is None or target != "onnx"


def _allowed(c: Conversion, length: int) -> int:
    """The least length from there on for which the batch model is defined, or the greatest."""
    assume = c.batch.assume
    length = length if assume.most is None else min(length, assume.most)
    up = range(length, length + assume.least + assume.modulus + 1)
    return next(s for s in (*up, *range(length, 0, -1)) if assume.allows(s))


def _lengths(c: Conversion, pulse: int) -> list[int]:
    reach = max([o["receptive_field"] or 1 for o in c.manifest["outputs"]] or [1])
    least = max(1, c.batch.assume.least)
    raw = {1, 2, 3, pulse - 1, pulse, pulse + 1, reach - 1, reach, reach + 1, reach + 2 * pulse + 1, 3 * pulse + reach + 2, least}
    return sorted({s for s in raw if s > 0} | {_allowed(c, s) for s in raw if s > 0})


def _length(o: dict[str, Any], c: Conversion, length: int) -> int:
    return evaluate(o["length"], **{c.manifest["symbol"]: length})


def _run_batch(batch: ort.InferenceSession, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return dict(zip([o.name for o in batch.get_outputs()], batch.run(None, inputs), strict=True))


def _wanted(batch: ort.InferenceSession, c: Conversion, inputs: dict[str, np.ndarray], length: int) -> dict[str, np.ndarray] | None:
    """What the batch model gives; None at a length onnxruntime refuses it, as some wire has no frame there: it wants one
    on every wire, even where padding comes behind it or nobody reads it."""
    try:
        return _run_batch(batch, inputs)
    except Exception as e:
        axes = {v.name or "": c.batch.time_axes(v)[0] for v in c.batch.graph.inputs if c.batch.time_axes(v)}
        g = infer_types(load(c.source, AxisSpec(c.batch.symbol, axes)))
        shapes = [f.shape or () for f in g.facts.values()]
        env = {s: 1 for shape in shapes for d in shape for s in symbols_of(d)} | {g.symbol: length}
        live = c.source.model.clone()
        RemoveUnusedNodesPass()(live)
        dead = len(live.graph) < len(c.source.model.graph)
        assert dead or any(dim_value(d, env) <= 0 for shape in shapes for d in shape), (length, e)
        return None


def _poison(dtype: Any) -> Any:
    return np.nan if np.dtype(dtype).kind == "f" or np.dtype(dtype).name == "bfloat16" else 0


def _stream(
    session: ort.InferenceSession, c: Conversion, rows: list[Row], sizes: Sequence[int], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Run rows through one session by the letter of the contract.

    Returns per row the frames ``[d, d + L)`` of every streaming output (counted from the row's start) and the static
    outputs as they are at the end (flushed until settled; more filler must not change them).
    """
    m = c.manifest
    axes = {i["name"]: i["axis"] for i in m["inputs"]}
    types = {i.name: i for i in session.get_inputs()}
    batched = c.batch.batch is not None
    assert batched or len(rows) == 1
    nrows = len(rows)
    row_axis = {
        v.name: c.batch.batch_axis(c.batch.facts[v].shape) for v in (*c.batch.graph.inputs, *c.batch.graph.outputs)
    }
    dtypes = {v.name: c.batch.facts[v].dtype.numpy() for v in c.batch.graph.inputs}

    def zeros(s: dict[str, Any]) -> np.ndarray:
        shape = [d if isinstance(d, int) else nrows for d in s["shape"]]
        return np.zeros(shape, np.dtype(s["dtype"]) if s["dtype"] != "bfloat16" else dtypes[next(iter(dtypes))])

    slots = {slot.past.name: slot.state for slot in c.graph.slots if slot.past is not None}

    def initial(s: dict[str, Any]) -> np.ndarray:
        """Zeros; NaN where the compiler says that no valid frame depends on them."""
        state = zeros(s)
        if not slots[s["input"]].zeros_read and state.dtype.kind == "f":
            state[...] = np.nan
        return state

    states = {s["input"]: initial(s) for s in m["states"]}
    sent = [0] * nrows  # stream frames sent to each row since its start
    done: list[dict[str, list[np.ndarray]]] = [{o["name"]: [] for o in m["outputs"] if o["axis"] is not None} for _ in rows]
    static_out: list[dict[str, np.ndarray]] = [{} for _ in rows]
    so_far: list[list[tuple[int, dict[str, np.ndarray]]]] = [[] for _ in rows]
    have = [dict.fromkeys(d, 0) for d in done]
    goal = [
        {o["name"]: max(0, _length(o, c, r.length)) and o["delay"] + _length(o, c, r.length) for o in m["outputs"] if o["axis"] is not None}
        for r in rows
    ]
    tick = 0
    settle = max((o.get("settle") or 0 for o in m["outputs"]), default=0)
    while (
        tick == 0
        or any(h[n] < g[n] for h, g in zip(have, goal) for n in g)
        or any(s < r.length + settle for s, r in zip(sent, rows))
    ):
        assert tick < 100_000
        size = int(rng.choice(sizes))
        for i, r in enumerate(rows):
            if r.start == tick and tick:
                for s in m["states"]:
                    if s["batch_axis"] is not None:
                        index = [slice(None)] * len(s["shape"])
                        index[s["batch_axis"]] = i
                        states[s["input"]][tuple(index)] = np.take(initial(s), i, axis=s["batch_axis"])
        feeds: dict[str, np.ndarray] = dict(states)
        real = [0 if tick < r.start else max(0, min(size, r.length - sent[i])) for i, r in enumerate(rows)]
        for name, axis in axes.items():
            parts = []
            for i, r in enumerate(rows):
                whole = r.inputs[name]
                if axis is None:
                    parts.append(whole)
                    continue
                ratio = whole.shape[axis] // r.length
                at, n = sent[i] * ratio, real[i] * ratio
                chunk = np.take(whole, range(at, at + n), axis=axis)
                shape = list(whole.shape)
                shape[axis] = size * ratio - n
                parts.append(np.concatenate([chunk, np.full(shape, _poison(whole.dtype), whole.dtype)], axis=axis))
            where = row_axis[name]
            feeds[name] = parts[0] if where is None else np.concatenate(parts, axis=where)
        if m["valid"] is not None:
            feeds[m["valid"]["input"]] = np.array(real, dtype=np.int64)
        assert set(feeds) == set(types), set(feeds) ^ set(types)
        results = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
        states = {s["input"]: np.array(results[s["output"]]) for s in m["states"]}
        for i, r in enumerate(rows):
            if tick < r.start:
                continue
            sent[i] += size
            for o in m["outputs"]:
                where = row_axis[o["name"]]
                value = results[o["name"]] if where is None else np.take(results[o["name"]], [i], axis=where)
                if o["axis"] is None:
                    static_out[i][o["name"]] = value
                else:
                    done[i][o["name"]].append(value)
                    have[i][o["name"]] += value.shape[o["axis"]]
            so_far[i].append((min(sent[i], r.length), dict(static_out[i])))
        tick += 1
    out = []
    for i, r in enumerate(rows):
        row: dict[str, Any] = {**static_out[i], SO_FAR: so_far[i]}
        for o in m["outputs"]:
            if o["axis"] is not None:
                frames = np.concatenate(done[i][o["name"]], axis=o["axis"])
                n = max(0, _length(o, c, r.length))
                row[o["name"]] = np.take(frames, range(o["delay"], o["delay"] + n), axis=o["axis"])
        out.append(row)
    return out


def _compare(
    c: Conversion, want: dict[str, np.ndarray], got: dict[str, Any], length: int, pulse: object, only: Sequence[str] | None = None
) -> None:
    for o in c.manifest["outputs"]:
        if only is not None and o["name"] not in only:
            continue
        a, b = want[o["name"]], got[o["name"]]
        where = f"output {o['name']} at S={length}, pulse {pulse}"
        assert a.shape == b.shape, f"{where}: batch {a.shape}, stream {b.shape}, law {o['length']}"
        assert a.dtype == b.dtype, where
        if a.size == 0:
            continue
        if a.dtype.kind in "f":
            wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
            same = (wide_a == wide_b) | (np.isnan(wide_a) & np.isnan(wide_b))
            finite = np.isfinite(wide_a)
            scale = np.max(np.abs(wide_a[finite]), initial=0.0) or 1.0
            with np.errstate(invalid="ignore"):
                gap = np.where(same, 0.0, np.abs(wide_a - wide_b))
            gap = np.where(np.isnan(gap), np.inf, gap)
            worst = np.unravel_index(gap.argmax(), gap.shape)
            limit = TOLERANCE[a.dtype.name] * scale
            assert gap.max() <= limit, f"{where}: {gap.max()} > {limit} at {worst}: batch {a[worst]}, stream {b[worst]}"
        else:
            assert np.array_equal(a, b), f"{where}: {np.argwhere(a != b)[:3]}"


def check_least_delay(model: onnx.ModelProto | str, axis: str | Sequence[str] | None = "S", extra: int = 0) -> None:
    """No smaller delay would do, at the smallest pulse.

    After k pulses a frame can be told only if every way the stream may go on gives it the same value: other frames
    from there, an end right there, an end a little later. The least delay is the worst over k.
    """
    c = convert(model, axis=axis, pulse="P")
    step = c.manifest["pulse_multiple"]
    reach = max([o["receptive_field"] or 1 for o in c.manifest["outputs"]] or [1])
    least = max(1, c.batch.assume.least)
    pulses = -(-(3 * reach + least + extra) // step) + 6
    total = _allowed(c, pulses * step)
    batch = batch_session(c.source, c.batch)
    rng = np.random.default_rng(1)
    base = random_inputs(c, total, rng)
    want = _run_batch(batch, base)
    axes = {i["name"]: i["axis"] for i in c.manifest["inputs"] if i["axis"] is not None}
    first_k = max(1, -(-(reach + least) // step))
    needed = {o["name"]: 0 for o in c.manifest["outputs"] if o["axis"] is not None}
    for k in range(1, (pulses * step - reach) // step - 1):
        # The batch model need not be defined for the shortest streams.
        ends = (k * step, k * step + 1, k * step + 2, k * step + step) if k >= first_k else ()
        for length in sorted({total, *(_allowed(c, s) for s in ends)}):
            got = _wanted(batch, c, _continued(c, base, axes, k * step, total, length, rng), length)
            if got is None:
                continue
            for o in c.manifest["outputs"]:
                if o["axis"] is None:
                    continue
                rate = Fraction(evaluate(str(o["frames"]), **{c.manifest["pulse"]: step}), step)
                a, b = (np.moveaxis(r[o["name"]], o["axis"], 0) for r in (want, got))
                n = min(len(a), len(b))
                a, b = a[:n].astype(np.float64), b[:n].astype(np.float64)
                moved = np.any((np.abs(a - b) > 1e-6 * np.abs(a).max(initial=1e-9)).reshape(n, -1), axis=1)
                if not moved.any():
                    continue  # frames that only one of the two has are cropped by the client
                first = int(np.argmax(moved))
                needed[o["name"]] = max(needed[o["name"]], int(rate * k * step) - first)
    for o in c.manifest["outputs"]:
        if o["axis"] is not None:
            assert o["delay"] == needed[o["name"]], f"delay of {o['name']} is {o['delay']}, {needed[o['name']]} would do"


def _continued(  # type: ignore[no-untyped-def]
    c: Conversion, base: dict[str, np.ndarray], axes: dict[str, int], at: int, total: int, length: int, rng
) -> dict[str, np.ndarray]:
    """The stream up to frame ``at``, and something else from there to ``length``."""
    other = random_inputs(c, length, rng)
    for name, a in axes.items():
        data = np.moveaxis(other[name], a, 0)
        ratio = base[name].shape[a] // total
        data[: at * ratio] = np.moveaxis(base[name], a, 0)[: at * ratio]
        if data.dtype.kind == "f":
            data[at * ratio :] *= 3
    return other
