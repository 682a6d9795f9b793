"""``pulsify report``: a model's time structure as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pulsify.errors import UsageError

from .. import console
from ..request import FILE, Request, streaming

#: The pulse of the report where none is given, in multiples of the least legal one.
_PULSE = 8
#: Sizes measured beside the pulse of the report, in multiples of the least legal one.
_SIZES = (1, 4, 16, 64)

PULSE = click.option("--pulse", type=int, metavar="8", help="Frames per call. Default: 8 times the least legal pulse.")


@click.command(short_help="Draw a model's time structure: one self-contained HTML page.")
@click.argument("model", type=FILE)
@click.option("-o", "--output", metavar="OUT.html", help="Where to write. Default: beside the model, named after it.")
@click.option("--rate", type=float, metavar="HZ", help="Frames of the stream per second: for latency in ms and the real-time factor.")
@click.option("--seconds", type=click.FloatRange(min=0), default=0.5, show_default=True, metavar="T", help="How long to measure each pulse size; 0 leaves it out.")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing when all is well.")
@streaming(PULSE)
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def command(
    model: str, pulse: int | None, output: str | None, rate: float | None, seconds: float, quiet: bool, debug: bool, **asked: Any
) -> None:
    """Convert MODEL, verify it, and draw it: what each layer reaches, where the latency comes from, where the memory
    goes, batch and stream over each other, what a pulse costs. The page needs no network and no scripts.

    \b
    pulsify report model.onnx --axis S --pulse 8 -o report.html
    """
    if rate is not None and rate <= 0:
        raise UsageError(f"--rate {rate:g}", why="a stream has more than 0 frames per second")
    with console.busy("loading", quiet):
        from pulsify import bench
        from pulsify.files import check_target, place
        from pulsify.pages import report as pages

    path = Path(model)
    target = Path(output) if output is not None else path.with_name(f"{path.stem}.report.html")
    if path.is_file():
        check_target(target, path)
    request = Request(model, **asked)
    step = None
    if pulse is None or seconds:
        step = int(request.convert(quiet).manifest["pulse_multiple"])
    size = pulse if pulse is not None else _PULSE * (step or 1)
    done = replace(request, pulse=str(size)).convert(quiet)
    with console.busy("verifying", quiet):
        done.verify()
        samples = pages.sample(done)
    costs = None
    if seconds:
        sizes = _sizes(size, step or 1)
        conversions = [done if p == size else replace(request, pulse=str(p)).convert(quiet) for p in sizes]
        with console.progress("measuring", 1000, quiet) as bar:
            costs = bench.measure(conversions, seconds, lambda share: bar(int(1000 * share), ""))
    with console.busy("drawing", quiet):
        text = pages.report(done, path.name, samples, costs, rate)
    place(text.encode(), target)
    if not quiet:
        console.heading(f"{path.name} -> {target}")


def _sizes(pulse: int, step: int) -> Sequence[int]:
    return sorted({pulse, *(k * step for k in _SIZES)})
