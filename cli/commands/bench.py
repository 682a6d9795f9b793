"""``pulsify bench``: what a pulse costs, to pick one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pulsify.errors import UsageError

from .. import console
from ..request import FILE, Request, streaming

if TYPE_CHECKING:
    from pulsify.bench import Bench, Cost

#: Sizes measured where none is given, in multiples of the least legal pulse.
_SIZES = (1, 4, 16, 64)

PULSES = click.option(
    "--pulse", "pulses", multiple=True, type=int, metavar="1",
    help="A pulse size to measure (repeatable). Default: 1, 4, 16 and 64 times the least legal pulse.",
)  # fmt: skip


@click.command(short_help="Measure what a pulse costs at several sizes, to pick one.")
@click.argument("model", type=FILE)
@click.option("--rate", type=float, metavar="HZ", help="Frames of the stream per second: for the real-time factor and latency in ms.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), default=1.0, show_default=True, metavar="T", help="How long to measure each size.")
@click.option("--plot", metavar="OUT", help="Draw it: .html needs nothing; .png, .svg and .pdf need pulsify[plots].")
@click.option("--json", "as_json", is_flag=True, help="The table as JSON, in seconds.")
@streaming(PULSES)
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def command(
    model: str, pulses: Sequence[int], rate: float | None, seconds: float, plot: str | None, as_json: bool, debug: bool,
    **asked: Any,
) -> None:  # fmt: skip
    """Convert MODEL at several pulse sizes and measure one stream of each on one thread, the sizes taking turns.

    A small pulse answers soon and costs more per frame; latency is the pulse plus the delay. The line under the
    table names the smallest pulse that keeps up with --rate.

    \b
    pulsify bench model.onnx --axis S --pulse 1 --pulse 8 --rate 100
    """
    if rate is not None and rate <= 0:
        raise UsageError(f"--rate {rate:g}", why="a stream has more than 0 frames per second")
    with console.busy("loading", as_json):
        from pulsify import bench
        from pulsify.files import check_target

        target = None if plot is None else check_target(plot, Path(model))
        if target is not None:
            from pulsify import plots

            plots.check(target)
    conversions = [Request(model, pulse=str(p), **asked).convert(as_json) for p in _sizes(model, pulses, asked, as_json)]
    with console.progress(f"measuring {Path(model).name}", 1000, as_json) as bar:
        found = bench.measure(conversions, seconds, lambda done: bar(int(1000 * done), ""))
    if target is not None:
        plots.draw(found, target, Path(model).name, rate)
    if as_json:
        console.line(json.dumps(as_dict(model, found, rate), indent=1))
    else:
        show(found, Path(model).name, rate)


def _sizes(model: str, pulses: Sequence[int], asked: dict[str, Any], quiet: bool) -> list[int]:
    if pulses:
        return list(dict.fromkeys(pulses))
    step = int(Request(model, **asked).convert(quiet).manifest["pulse_multiple"])
    return [step * k for k in _SIZES]


def as_dict(model: str, b: Bench, rate: float | None) -> dict[str, Any]:
    """The measurement for machines. Times in seconds, latency in frames of the symbol."""
    least = None if rate is None else b.least(rate)
    return {
        "model": model,
        "axis": b.symbol,
        "rate": rate,
        "rows": [
            {
                "pulse": c.pulse,
                "calls": c.calls,
                "median": c.median,
                "p99": c.p99,
                "per_frame": c.per_frame,
                "real_time_factor": None if rate is None else c.load(rate),
                "keeps_up": None if rate is None else c.keeps_up(rate),
                "delay": _number(c.delay),
                "latency": _number(c.latency),
                "latency_seconds": None if rate is None else float(c.latency) / rate,
                "state_bytes": c.state_bytes,
                "nodes": c.nodes,
            }
            for c in b.costs
        ],
        "batch": None if b.whole is None else {"frames": b.whole_frames, "per_frame": b.whole},
        "smallest_that_keeps_up": None if least is None else least.pulse,
    }


def show(b: Bench, name: str, rate: float | None) -> None:
    """The measurement for people."""
    console.heading(f"{name} along {b.symbol}, one stream on one thread")
    header = ["pulse", "calls", "median", "p99", "per frame", "latency", "state bytes"]
    if rate is not None:
        header[5:5] = ["real time"]
        header[7:7] = ["latency ms"]
    console.table(header, [_row(c, rate) for c in b.costs], right=range(len(header)))
    console.line()
    if b.whole is not None:
        console.facts([("batch", f"{_us(b.whole)} per frame on a run of {b.whole_frames:,} frames: the floor")])
    if rate is not None:
        least = b.least(rate)
        text = "none of these: even the largest takes longer than it lasts" if least is None else f"{least.pulse}: p99 {_us(least.p99)} of {_us(least.pulse / rate)}"
        console.facts([("keeps up", f"at {rate:g} frames/s from pulse {text}" if least else text)])


def _row(c: Cost, rate: float | None) -> list[str]:
    row = [str(c.pulse), f"{c.calls:,}", _us(c.median), _us(c.p99), _us(c.per_frame), str(_number(c.latency)), f"{c.state_bytes:,}"]
    if rate is not None:
        row[5:5] = [f"{c.load(rate):.2g}"]
        row[7:7] = [f"{1000 * float(c.latency) / rate:.4g}"]
    return row


def _us(seconds: float) -> str:
    us = seconds * 1e6
    return f"{us:,.1f} us" if us < 100 else f"{us:,.0f} us"


def _number(f: Fraction) -> int | float:
    return int(f) if f.denominator == 1 else float(f)
