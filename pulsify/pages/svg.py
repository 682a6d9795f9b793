"""Small pictures as text: escaping, numbers, bars, axes. Colours are classes of the page's style sheet."""

from __future__ import annotations

import html
from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor, log10

__all__ = ["bar", "bytes_text", "escape", "frames", "line", "micro", "short", "text", "ticks"]

_WIDE = 1000


def escape(value: object) -> str:
    """Text for HTML and SVG, attributes included."""
    return html.escape(str(value), quote=True)


def short(name: str, most: int = 40) -> str:
    """The end of a long name, which tells it from others."""
    return name if len(name) <= most else f"…{name[1 - most:]}"


def frames(f: Fraction | int) -> str:
    """A number of frames: whole ones as they are, others to four digits."""
    exact = Fraction(f)
    return f"{exact.numerator:,}" if exact.denominator == 1 else f"{float(exact):.4g}"


def micro(seconds: float) -> str:
    """A short time: 800 ns, 34 µs, 1.2 ms."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


def bytes_text(n: int) -> str:
    """A size: 640 B, 11.4 KiB."""
    if n < 1024:
        return f"{n} B"
    return f"{n / 1024:,.1f} KiB" if n < 1 << 20 else f"{n / (1 << 20):,.2f} MiB"


def bar(spans: Sequence[tuple[float, float, str]], low: float, high: float, marks: Sequence[float] = ()) -> str:
    """A bar over ``[low, high]``: spans of (from, to, colour) on a track, thin lines at ``marks``."""
    scale = _WIDE / ((high - low) or 1.0)
    parts = [f'<svg class="bar" viewBox="0 0 {_WIDE} 14" preserveAspectRatio="none" aria-hidden="true">']
    parts.append(f'<rect x="0" y="5" width="{_WIDE}" height="4" fill="var(--track)"/>')
    for a, b, colour in spans:
        x, width = (a - low) * scale, max((b - a) * scale, 2.5)
        parts.append(f'<rect x="{x:.1f}" y="1" width="{width:.1f}" height="12" fill="var(--{colour})"/>')
    parts += [
        f'<line x1="{(m - low) * scale:.1f}" x2="{(m - low) * scale:.1f}" y1="-6" y2="20" stroke="var(--ink)" '
        'stroke-width="1" vector-effect="non-scaling-stroke" opacity=".55"/>'
        for m in marks
    ]
    return "".join([*parts, "</svg>"])


def line(points: Sequence[tuple[float, float]], colour: str, width: float = 1.5, dash: str = "") -> str:
    """A polyline through points of the picture."""
    at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<polyline points="{at}" fill="none" stroke="var(--{colour})" stroke-width="{width}"{dashed} stroke-linejoin="round"/>'


def text(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers within ``[low, high]``."""
    span = (high - low) or 1.0
    step = 10 ** floor(log10(span / most))
    step *= next(k for k in (1, 2, 5, 10) if span / (step * k) <= most)
    return [k * step for k in range(ceil(low / step), floor(high / step) + 1)]
