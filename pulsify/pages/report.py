"""The report of a conversion: one page that shows a model's time structure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from pulsify import contract
from pulsify.anatomy import Anatomy, Layer, anatomy, state_rows
from pulsify.api import Conversion
from pulsify.bench import Bench
from pulsify.errors import ModelError
from pulsify.pages import figures, svg
from pulsify.pages.page import page, table
from pulsify.pages.svg import escape, frames
from pulsify.replay import against_batch, legal_length, replay
from pulsify.runtime import StreamSession
from pulsify.stages.verify import TOLERANCE, make_inputs

__all__ = ["Sample", "bench_page", "report", "sample"]

#: Frames of an output drawn.
_DRAWN = 160
#: The longest recording streamed for the picture, in frames of the symbol.
_LONGEST = 200_000


@dataclass(frozen=True)
class Sample:
    """One output on a recording, batch beside stream: the channel with the greatest difference, its last frames.

    ``error`` is the greatest of the whole output, relative to ``scale``, its largest finite magnitude; ``first`` the index
    of the first frame.
    """

    output: str
    channel: tuple[int, ...]
    first: int
    want: np.ndarray
    got: np.ndarray
    error: float
    scale: float
    limit: float
    length: int


def sample(c: Conversion, seed: int = 0) -> list[Sample]:
    """Stream noise through the pulsed model and compare every frame with batch. VerificationError where they disagree."""
    m = c.manifest
    rates = [contract.rate(m, o) for o in m["outputs"] if o["axis"] is not None]
    fields = [o["receptive_field"] or 0 for o in m["outputs"] if o["axis"] is not None]
    wanted = max([*(int(_DRAWN / r) + 1 for r in rates if r), 1]) + max([*fields, 0])
    length = legal_length(m, min(wanted, _LONGEST))
    inputs = make_inputs(c.batch, length, np.random.default_rng(seed))
    streams = {i["name"] for i in m["inputs"] if i["axis"] is not None}
    session = StreamSession(c.open(), static={n: a for n, a in inputs.items() if n not in streams})
    done = replay(session, inputs)
    try:
        rows, expected = against_batch(c.source, c.batch, m, inputs, done)
    except ModelError:
        return []  # a batch model of types that no runtime here runs: verified through its twin
    errors = {r.output: r.error for r in rows}
    out = []
    for o in m["outputs"]:
        want, got = expected[o["name"]], done.outputs.get(o["name"])
        if o["axis"] is None or got is None or not want.size or want.dtype.kind != "f" or want.shape[o["axis"]] < 2:
            continue
        a, b = (np.moveaxis(v.astype(np.float64), o["axis"], 0) for v in (want, got))
        worst = np.abs(np.nan_to_num(b - a)).max(axis=0)
        spread = np.nan_to_num(a).std(axis=0)
        at = int((worst if worst.max() > 0 else spread).argmax())
        pick = tuple(int(i) for i in np.unravel_index(at, worst.shape)) if worst.ndim else ()
        first = max(0, a.shape[0] - _DRAWN)
        index: tuple[slice | int, ...] = (slice(first, None), *pick)
        if not (np.isfinite(a[index]).all() and np.isfinite(b[index]).all()):
            continue  # nothing to draw: verification has compared it all the same
        out.append(
            Sample(
                o["name"], pick, first, a[index], b[index], errors[o["name"]],
                float(np.abs(a[np.isfinite(a)]).max()) or 1.0, TOLERANCE.get(want.dtype.name, 1e-5), length,
            )
        )  # fmt: skip
    return out


def report(c: Conversion, name: str, samples: Sequence[Sample], costs: Bench | None = None, rate: float | None = None) -> str:
    """The page, as HTML. ``rate`` is frames of the stream symbol per second, where that is known."""
    m, found = c.manifest, anatomy(c)
    states = state_rows(m, found.readers)
    delays = [contract.input_delay(m, o) or Fraction(0) for o in m["outputs"] if o["axis"] is not None]
    delay = max(delays, default=Fraction(0))
    parts = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="lead">Pulsed along <code>{escape(m["symbol"])}</code>, {m["pulse"]:,} frames per call. '
        f"{len(found.layers):,} layers over time, opset {m['source']['opset']}.</p>",
        _tiles(c, delay, samples, costs, rate),
        "<h2>What each layer reaches</h2>",
        f"<p>The thin line is now. To its left are frames of <code>{escape(m['symbol'])}</code> that a layer has seen and still depends on; "
        "to its right are those it has to wait for. Layers that change nothing in time are left out.</p>",
        figures.layers(_timed(found, states), m["symbol"]),
        _all_layers(found.layers, m["symbol"]),
        "<h2>Where the latency comes from</h2>",
        *(_chain(found, names, m) for names in _alike(found, m)),
        "<h2>Where the memory goes</h2>",
        f"<p>{svg.bytes_text(m['state_bytes'])} per stream in {len(states)} state{'' if len(states) == 1 else 's'}: "
        "what one call leaves for the next.</p>",
        figures.memory(states, m["state_bytes"]),
        "<h2>Batch and stream</h2>",
        *(_sample(s) for s in samples),
        "" if samples else '<p class="note">No output has a picture: none is floating point with a time axis.</p>',
    ]
    if costs is not None:
        parts += ["<h2>What a pulse costs</h2>", _bench_text(rate, m["symbol"]), figures.bench(costs, rate, m["pulse"])]
    parts += [
        "<h2>The manifest</h2>",
        '<p class="note">What the pulsed file promises whoever runs it.</p>',
        f"<details><summary>Show it</summary><pre>{escape(json.dumps(m, indent=1))}</pre></details>",
        f'<footer>Made by pulsify of a model with sha256 <span class="mono">{escape(m["source"]["sha256"][:16])}</span>.</footer>',
    ]
    return page(f"{name}: time structure", "\n".join(parts), _data(c, name, found, states, samples, costs, rate))


def bench_page(b: Bench, name: str, rate: float | None = None) -> str:
    """The table of costs as a page of its own."""
    body = f"<h1>{escape(name)}</h1>{_bench_text(rate, b.symbol)}{figures.bench(b, rate)}"
    return page(f"{name}: what a pulse costs", body, {"model": name, "rate": rate, "bench": _bench_data(b)})


def _bench_text(rate: float | None, symbol: str) -> str:
    at = f" A stream brings {rate:g} frames of {escape(symbol)} a second." if rate is not None else ""
    return (
        "<p>One stream on one thread, the sizes taking turns. Latency is the pulse and the delay: how old the start of an "
        f"output frame is, at worst, when it comes out.{at}</p>"
    )


def _tiles(c: Conversion, delay: Fraction, samples: Sequence[Sample], costs: Bench | None, rate: float | None) -> str:
    m, step = c.manifest, c.manifest["pulse_multiple"]
    latency = m["pulse"] + delay
    time = f"{1000 * float(latency) / rate:.4g} ms: " if rate is not None else ""
    tiles = [
        ("Latency", f"{frames(latency)}", f"{time}pulse {m['pulse']:,} + delay {frames(delay)}, in {m['symbol']}"),
        ("Memory", svg.bytes_text(m["state_bytes"]), f"per stream, {len(m['states'])} state{'' if len(m['states']) == 1 else 's'}"),
        ("Legal pulses", "any" if step == 1 else f"{step} × n", f"frames of {m['symbol']}"),
    ]
    errors = [s.error for s in samples] + ([c.report.worst] if c.report is not None else [])
    if errors:
        verified = f"over {c.report.frames:,} frames verified" if c.report is not None else "of the largest value"
        tiles.append(("Greatest difference", "none" if max(errors) == 0 else f"{max(errors):.1e}", verified))
    mine = None if costs is None else next((k for k in costs.costs if k.pulse == m["pulse"]), None)
    if mine is not None:
        load = f", {mine.load(rate):.2g} of real time" if rate is not None else ""
        tiles.append(("A call takes", svg.micro(mine.median), f"median{load}"))
    cells = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}<small>{escape(s)}</small></dd></div>" for k, v, s in tiles)
    return f'<dl class="tiles">{cells}</dl>'


def _timed(a: Anatomy, states: Sequence[dict[str, Any]]) -> list[tuple[list[Layer], int]]:
    """Layers that read over time, those that reach the same in a row as one, with the bytes of the states they read.

    A state that several read is counted with the first.
    """
    size: dict[str, int] = {}
    layers = {layer.name: layer for layer in a.layers}
    for s in states:
        readers = [r for r in (s["readers"] or a.readers.get(s["of"].removesuffix(".masked"), [])) if r in layers]
        readers = [b for r in readers for b in (a.readers.get(layers[r].wire, [r]) if _moves(layers[r]) else [r]) if b in layers]
        timed = [r for r in readers if layers[r].reads and not _moves(layers[r])] or readers or [n for n in layers if s["of"] == n or s["state"].startswith(f"{n}.")]
        if timed:
            size[timed[0]] = size.get(timed[0], 0) + s["bytes"]
    rows: list[tuple[list[Layer], int]] = []
    for layer in a.layers:
        if (not layer.reads or _moves(layer)) and layer.name not in size:
            continue
        same = rows and all(
            getattr(rows[-1][0][0], k) == getattr(layer, k) for k in ("op", "rate", "delay", "back", "ahead", "unbounded", "reads")
        )
        if same:
            rows[-1] = ([*rows[-1][0], layer], rows[-1][1] + size.get(layer.name, 0))
        else:
            rows.append(([layer], size.get(layer.name, 0)))
    return rows


def _moves(layer: Layer) -> bool:
    """Whether it only moves frames: a crop or a padding, which is no layer of its own to a reader."""
    return layer.reads.startswith(("drops the first", "pads"))


def _all_layers(layers: Sequence[Layer], symbol: str) -> str:
    rows = [
        [
            svg.short(x.name, 48), x.op, f"[{', '.join(x.shape)}]", str(x.rate), f"{x.delay:,}", frames(x.late),
            "all" if x.unbounded else frames(x.back), frames(x.ahead), x.reads,
        ]
        for x in layers
    ]  # fmt: skip
    header = ["layer", "operator", "shape", "rate", "delay", f"delay in {symbol}", "back", "ahead", "reads"]
    return f"<details><summary>All {len(layers):,} layers over time</summary>{table(header, rows)}</details>"


def _alike(a: Anatomy, m: dict[str, Any]) -> list[list[str]]:
    """The outputs, those that are late by the same nodes together."""
    own = {o["name"]: o["delay"] for o in m["outputs"]}
    groups: dict[Any, list[str]] = {}
    for name, links in a.chains.items():
        groups.setdefault((own[name], tuple(links)), []).append(name)
    return list(groups.values())


def _chain(a: Anatomy, names: Sequence[str], m: dict[str, Any]) -> str:
    (o,) = (x for x in m["outputs"] if x["name"] == names[0])
    delay = contract.input_delay(m, o) or Fraction(0)
    words = ", ".join(f"<code>{escape(n)}</code>" for n in names)
    head = f"<p>{words}: {frames(delay)} frame{'' if delay == 1 else 's'} of <code>{escape(a.symbol)}</code> late"
    if delay:
        own = f", {o['delay']:,} of its own" if o["delay"] != delay else ""
        head += f"{own}: the least that is exact. These nodes make it so, from the input on."
    return f"{head}{'' if delay else '.'}</p>" + figures.chain(a.chains[names[0]], a.symbol)


def _sample(s: Sample) -> str:
    channel = f", channel {list(s.channel)}" if s.channel else ""
    return (
        f"<p><code>{escape(s.output)}</code>{escape(channel)}: frames {s.first:,} to {s.first + len(s.want) - 1:,} of a stream of "
        f"{s.length:,} frames of noise. Below, the difference relative to the largest value; the dashed line is what "
        "verification allows.</p>" + figures.overlay(s.want, s.got, s.scale, s.limit, s.output, s.first)
    )


def _bench_data(b: Bench) -> dict[str, Any]:
    return {
        "whole": b.whole,
        "rows": [
            {"pulse": k.pulse, "median": k.median, "p99": k.p99, "latency": float(k.latency), "state_bytes": k.state_bytes} for k in b.costs
        ],
    }


def _data(
    c: Conversion, name: str, a: Anatomy, states: Sequence[dict[str, Any]], samples: Sequence[Sample], costs: Bench | None, rate: float | None
) -> dict[str, Any]:
    return {
        "model": name,
        "rate": rate,
        "manifest": c.manifest,
        "layers": [
            {
                "name": x.name, "op": x.op, "rate": str(x.rate), "delay": x.delay, "delay_in_input_frames": float(x.late),
                "back": None if x.unbounded else float(x.back), "ahead": float(x.ahead), "reads": x.reads,
            }
            for x in a.layers
        ],
        "latency": {
            o: [{"node": x.node, "op": x.op, "adds": float(x.adds), "total": float(x.total), "reads": x.reads} for x in links]
            for o, links in a.chains.items()
        },
        "states": list(states),
        "errors": {s.output: s.error for s in samples},
        "verified": None if c.report is None else {"lengths": c.report.lengths, "worst": c.report.worst},
        "bench": None if costs is None else _bench_data(costs),
    }  # fmt: skip
