"""The pictures of a report, each a function from figures to HTML."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import log10
from typing import Any

import numpy as np

from pulsify.anatomy import Layer, Link
from pulsify.bench import Bench
from pulsify.pages import svg
from pulsify.pages.page import table
from pulsify.pages.svg import escape, frames

__all__ = ["bench", "chain", "layers", "memory", "overlay"]

#: Rows a picture shows; the page's tables have all.
ROWS = 48


def _row(name: str, under: str, picture: str, figure: str, small: str, title: str = "") -> str:
    return (
        f'<li title="{escape(title or name)}"><div class="name">{escape(svg.short(name))}<span>{escape(under)}</span></div>'
        f'{picture}<div class="figure">{escape(figure)}<span>{escape(small)}</span></div></li>'
    )


def _key(*entries: tuple[str, str]) -> str:
    return '<ul class="key">' + "".join(f'<li><i style="background:var(--{c})"></i>{escape(t)}</li>' for c, t in entries) + "</ul>"


def layers(rows: Sequence[tuple[list[Layer], int]], symbol: str) -> str:
    """What each layer reaches: a bar from the oldest frame it depends on to the newest, now in between.

    Each row holds layers that reach the same, and the bytes of the states they read.
    """
    shown = rows[:ROWS]
    low = -max([1.0, *(float(r[0][0].back) for r in shown)])
    high = max([1.0, *(float(r[0][0].ahead) for r in shown)])
    # A memory reaches back for ever: as far as the picture goes.
    out = []
    for group, size in shown:
        first = group[0]
        back = low if first.unbounded else -float(first.back)
        ahead = float(first.ahead)
        spans = [(min(back, ahead), min(0.0, ahead), "past")] if min(back, ahead) < min(0.0, ahead) else []
        if ahead > 0:
            spans.append((max(0.0, back), ahead, "ahead"))
        rate = "" if first.rate == 1 else f", {first.rate} per frame of {symbol}"
        reach = "all before" if first.unbounded else frames(first.back)
        name = first.name + (f" and {len(group) - 1} more" if len(group) > 1 else "")
        out.append(
            _row(
                name, f"{first.op}: {first.reads}{rate}" if first.reads else f"{first.op}{rate}", svg.bar(spans, low, high, [0.0]),
                f"{first.delay:,} late" + (f", {svg.bytes_text(size)}" if size else ""),
                f"{reach} back, {frames(max(first.ahead, Fraction(0)))} ahead", ", ".join(layer.name for layer in group),
            )
        )  # fmt: skip
    rest = f'<p class="note">{len(rows) - len(shown)} rows more in the table below.</p>' if len(rows) > len(shown) else ""
    key = [("past", "frames it has seen")] if any(r[0][0].unbounded or r[0][0].back > 0 for r in shown) else []
    return f'<ul class="rows">{"".join(out)}</ul>{rest}' + _key(*key, ("ahead", f"frames of {symbol} it waits for"))


def chain(links: Sequence[Link], symbol: str) -> str:
    """The chain of nodes that makes an output late, each where the last one ended."""
    if not links:
        return '<p class="note">Nothing looks ahead: every output frame leaves with the input frame it belongs to.</p>'
    kept = list(links)
    if len(kept) > ROWS:
        least = sorted((abs(x.adds) for x in links), reverse=True)[ROWS - 1]
        kept = [x for x in links if abs(x.adds) > least][:ROWS]
    starts = [x.total - x.adds for x in links]
    low, high = float(min([Fraction(0), *starts, *(x.total for x in links)])), float(max([Fraction(1), *starts, *(x.total for x in links)]))
    out = []
    for x in kept:
        a, b = sorted((float(x.total - x.adds), float(x.total)))
        out.append(
            _row(
                x.node, f"{x.op}: {x.reads}" if x.reads else x.op, svg.bar([(a, b, "ahead" if x.adds > 0 else "back")], low, high, [0.0]),
                f"{'+' if x.adds > 0 else '−'}{frames(abs(x.adds))}", f"{frames(x.total)} so far",
            )
        )  # fmt: skip
    rest = f'<p class="note">{len(links) - len(kept)} smaller steps are left out.</p>' if len(kept) < len(links) else ""
    key = [("ahead", f"adds delay, in frames of {symbol}")] + ([("back", "padding gives some back")] if any(x.adds < 0 for x in links) else [])
    return f'<ul class="rows">{"".join(out)}</ul>{rest}' + _key(*key)


def memory(states: Sequence[dict[str, Any]], total: int) -> str:
    """The states, the largest first, as shares of all bytes."""
    if not states:
        return '<p class="note">None: every frame is computed from itself.</p>'
    out = []
    most = max(1, *(s["bytes"] for s in states))
    for s in states[:ROWS]:
        readers = f"read by {', '.join(svg.short(r, 28) for r in s['readers'][:2])}" if s["readers"] else f"of {s['of']}"
        more = f" and {len(s['readers']) - 3} more" if len(s["readers"]) > 3 else ""
        out.append(
            _row(
                s["state"], readers + more, svg.bar([(0, s["bytes"], "memory")], 0, most),
                svg.bytes_text(s["bytes"]), f"{s['kind']} {s['dtype']} [{', '.join(map(str, s['shape']))}]",
            )
        )  # fmt: skip
    rest = states[ROWS:]
    tail = f'<p class="note">{len(rest)} states more, {svg.bytes_text(sum(s["bytes"] for s in rest))} in all.</p>' if rest else ""
    return f'<ul class="rows">{"".join(out)}</ul>{tail}'


def overlay(want: np.ndarray, got: np.ndarray, scale: float, limit: float, name: str, first: int = 0) -> str:
    """One channel of an output: batch and stream over each other, and the error below, relative to ``scale``.

    ``want`` and ``got`` are the frames from ``first`` on, ``scale`` the output's largest magnitude, ``limit`` the
    tolerance relative to it.
    """
    wide, tall, left, bottom = 720, 220, 64, 90
    n = len(want)
    x = [left + (wide - left) * i / max(1, n - 1) for i in range(n)]
    low, high = float(min(want.min(), got.min())), float(max(want.max(), got.max()))
    if low == high:
        low, high = low - 1, high + 1

    def y(v: float) -> float:
        return tall - 16 - (tall - 28) * (v - low) / (high - low)

    error = np.abs(got - want) / scale
    floor, top = -9.0, log10(limit) + 0.5

    def below(e: float) -> float:
        at = (max(floor, log10(e)) if e > 0 else floor) - floor
        return tall + bottom - 12 - (bottom - 24) * min(1.0, at / (top - floor))

    parts = [f'<svg class="chart" viewBox="0 0 {wide} {tall + bottom + 24}" role="img" aria-label="{escape(name)}: batch and stream">']
    for v in svg.ticks(low, high, 4):
        parts += [f'<path class="axis" d="M{left} {y(v):.1f}H{wide}"/>', svg.text(left - 8, y(v) + 4, f"{v:g}", "end")]
    parts.append(svg.line([(a, y(float(v))) for a, v in zip(x, want, strict=True)], "batch", 6))
    parts.append(svg.line([(a, y(float(v))) for a, v in zip(x, got, strict=True)], "pulsed", 1.6))
    base = tall + bottom - 12
    tolerance = below(limit)
    parts += [
        f'<path class="axis" d="M{left} {base}H{wide}"/>',
        f'<path d="M{left} {tolerance:.1f}H{wide}" stroke="var(--error)" stroke-dasharray="4 4" fill="none"/>',
        svg.text(left - 8, tolerance + 4, f"{limit:.0e}".replace("e-0", "e-"), "end"),
        svg.text(left - 8, base + 4, "1e-9", "end"),
    ]
    step = (wide - left) / max(1, n)
    parts += [
        f'<rect x="{a - step / 2 + step * 0.15:.1f}" y="{below(float(e)):.1f}" width="{step * 0.7:.2f}" '
        f'height="{max(0.0, base - below(float(e))):.1f}" fill="var(--error)"/>'
        for a, e in zip(x, error, strict=True)
        if e > 10**floor
    ]
    for i in svg.ticks(first, first + n - 1, 6):
        if i == int(i):
            parts.append(svg.text(x[int(i) - first], tall + bottom + 14, f"{int(i):,}", "middle"))
    parts.append("</svg>")
    worst = float(error.max()) if n else 0.0
    said = "no difference at all" if worst == 0 else f"at most {worst:.1e} of the largest value"
    return (
        f'<div class="plot">{"".join(parts)}</div>'
        + _key(("batch", "batch model"), ("pulsed", "stream"), ("error", f"difference: {said}"))
    )


def bench(b: Bench, rate: float | None, pulse: int | None = None) -> str:
    """Time per frame over the pulse, and the table beside it. ``pulse`` is the row that the page is about."""
    wide, tall, left, bottom = 720, 260, 84, 44
    costs = sorted(b.costs, key=lambda c: c.pulse)
    values = [c.per_frame for c in costs] + [c.p99 / c.pulse for c in costs] + ([b.whole] if b.whole else [])
    low, high = log10(min(values)) - 0.15, log10(max(values)) + 0.15
    first, last = log10(costs[0].pulse), log10(costs[-1].pulse) or 1.0

    def x(p: int) -> float:
        share = 0.5 if last == first else (log10(p) - first) / (last - first)
        return left + 30 + (wide - left - 60) * share

    def y(seconds: float) -> float:
        return 12 + (tall - bottom - 12) * (high - log10(seconds)) / (high - low)

    parts = [f'<svg class="chart" viewBox="0 0 {wide} {tall}" role="img" aria-label="time per frame over the pulse size">']
    powers = [10.0**k for k in range(-9, 3) if low <= k <= high] or [values[0]]
    for v in powers:
        parts += [f'<path class="axis" d="M{left} {y(v):.1f}H{wide}"/>', svg.text(left - 8, y(v) + 4, svg.micro(v), "end")]
    if rate is not None and low <= log10(1 / rate) <= high:
        parts += [f'<path d="M{left} {y(1 / rate):.1f}H{wide}" stroke="var(--error)" fill="none"/>', svg.text(wide, y(1 / rate) - 6, "real time", "end")]
    if b.whole:
        parts.append(f'<path d="M{left} {y(b.whole):.1f}H{wide}" stroke="var(--back)" stroke-dasharray="5 5" fill="none"/>')
    parts.append(svg.line([(x(c.pulse), y(c.p99 / c.pulse)) for c in costs], "ahead", 1.5, "3 4"))
    parts.append(svg.line([(x(c.pulse), y(c.per_frame)) for c in costs], "past", 2.5))
    for c in costs:
        r = 7 if c.pulse == pulse else 4.5
        parts += [
            f'<circle cx="{x(c.pulse):.1f}" cy="{y(c.per_frame):.1f}" r="{r}" fill="var(--past)"><title>pulse {c.pulse}: {svg.micro(c.median)}</title></circle>',
            svg.text(x(c.pulse), tall - 20, f"{c.pulse}", "middle"),
        ]
    parts += [svg.text(wide, tall - 2, f"pulse, frames of {b.symbol}", "end"), "</svg>"]
    header = ["pulse", "median", "p99", "per frame", f"latency, {b.symbol}", "state"]
    if rate is not None:
        header[4:4] = ["real time"]
        header[6:6] = ["latency"]
    rows = []
    for c in b.costs:
        row = [f"{c.pulse:,}", svg.micro(c.median), svg.micro(c.p99), svg.micro(c.per_frame), frames(c.latency), svg.bytes_text(c.state_bytes)]
        if rate is not None:
            row[4:4] = [f"{c.load(rate):.2g}"]
            row[6:6] = [f"{1000 * float(c.latency) / rate:.4g} ms"]
        rows.append(row)
    chosen = next((i for i, c in enumerate(b.costs) if c.pulse == pulse), None)
    key = [("past", "median per frame"), ("ahead", "99th percentile")] + ([("back", "batch model per frame, the floor")] if b.whole else [])
    return f'<div class="plot">{"".join(parts)}</div>{_key(*key)}{table(header, rows, chosen)}'
