"""The table of costs as a picture: time per frame against latency, one dot per pulse size.

A page (.html) needs nothing; raster and vector files go through matplotlib, the extra ``plots``.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from pulsify.bench import Bench
from pulsify.errors import UsageError
from pulsify.files import place

__all__ = ["check", "draw"]

_FORMATS = (".html", ".png", ".svg", ".pdf")


def check(path: Path) -> None:
    """UsageError where a picture cannot be written to ``path``, before anything is measured."""
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"cannot draw {path.suffix or 'a file without a suffix'}", why=f"it is one of {', '.join(_FORMATS)}", hint="--plot bench.png")
    if path.suffix.lower() != ".html":
        _figure(path)


def _figure(path: Path) -> Any:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as e:
        raise UsageError(
            f"cannot draw {str(path)!r}", why="it needs matplotlib", hint=["pip install 'pulsify[plots]'", "--plot bench.html needs nothing"]
        ) from e
    figure = Figure(figsize=(7, 4), dpi=144, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw(b: Bench, path: Path, title: str, rate: float | None = None) -> None:
    """Write the picture; latency in ms where the rate is known (frames per second), else in frames. UsageError."""
    if path.suffix.lower() == ".html":
        from pulsify.pages.report import bench_page

        place(bench_page(b, title, rate).encode(), path)
        return
    figure = _figure(path)
    axes = figure.subplots()
    scale = 1.0 if rate is None else 1000 / rate
    x = [float(c.latency) * scale for c in b.costs]
    axes.plot(x, [c.per_frame * 1e6 for c in b.costs], "o-", color="#2f6fde", label="median")
    axes.plot(x, [c.p99 / c.pulse * 1e6 for c in b.costs], "o:", color="#b58900", label="p99")
    for at, c in zip(x, b.costs, strict=True):
        axes.annotate(f"pulse {c.pulse}", (at, c.per_frame * 1e6), xytext=(7, 5), textcoords="offset points", fontsize=9)
    if b.whole is not None:
        axes.axhline(b.whole * 1e6, color="#888888", linewidth=1, linestyle="--", label="batch model")
    if rate is not None:
        axes.axhline(1e6 / rate, color="#c0392b", linewidth=1, label="real time")
    axes.margins(0.12)
    axes.set(yscale="log", title=title, ylabel="µs per frame", xlabel=f"latency, {'ms' if rate is not None else f'frames of {b.symbol}'}")
    axes.grid(True, which="both", alpha=0.2)
    axes.legend(frameon=False)
    out = io.BytesIO()
    figure.savefig(out, format=path.suffix.lower()[1:])
    place(out.getvalue(), path)
