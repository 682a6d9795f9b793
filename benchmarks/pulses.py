"""What a pulse costs, beside tract, the batch model and a sliding window: ``make bench`` (or ``python -m benchmarks.pulses``).

What the columns mean is told by benchmarks/tables.py.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx

from benchmarks import tables
from benchmarks.cases import Entry, entries
from benchmarks.contenders import Batch, Bound, Client, Tract, window
from benchmarks.timing import take_turns
from models import peer
from models.registry import DownloadError
from pulsify.api import Conversion, convert
from pulsify.errors import PulsifyError
from pulsify.pipeline import LEVELS

PULSES = (1, 4, 8, 16, 64)
QUICK = (("wavenet", "chain-64", "crn", "hifigan"), (1, 8, 64))

#: CPU seconds that the batch model's long stretch should take, so that turns stay short.
LONG = 0.008

Row = dict[str, Any]


def rows_of(name: str, pulses: Sequence[int], levels: Sequence[str], seconds: float, with_tract: bool) -> list[Row]:
    """The rows of one model: every pulse, in units of the least legal one."""
    (entry,) = entries([name])
    batch = entry.batch()
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(batch, onnx.ModelProto):
            path = Path(folder) / "batch.onnx"
            onnx.save(batch, path)
            batch = path
        least = int(_convert(batch, entry, entry.legal, levels[0]).manifest["pulse_multiple"])
        return [{"units": k, **_row(entry, batch, k * least, levels, seconds, with_tract)} for k in pulses]


def _convert(batch: Path, entry: Entry, pulse: int, level: str) -> Conversion:
    return convert(batch, axis=entry.axis, pulse=pulse, optimize=level, target=entry.target)


def _row(entry: Entry, batch: Path, pulse: int, levels: Sequence[str], seconds: float, with_tract: bool) -> Row:
    """One model at one pulse: all contenders in turns."""
    row: Row = {"model": entry.name, "pulse": pulse, "tract": {}, "levels": {}, "us": {}, "least_us": {}}
    steps: dict[str, Callable[[], object]] = {}
    done = None
    for level in levels:
        done = _convert(batch, entry, pulse, level)
        model = done.model
        steps[f"bound {level}"] = Bound(model, done).step
        steps[f"client {level}"] = Client(model.SerializeToString(), done).step
        row["levels"][level] = _counts(done)
    assert done is not None
    if with_tract:
        try:
            contender = Tract(_request(entry, batch, done), done)
            steps["tract"] = contender.step
            row["tract"] = {"buffer_bytes": contender.buffer_bytes, "nodes": contender.nodes}
        except ImportError:
            row["tract"] = {"note": "not installed"}
        except Exception as e:
            row["tract"] = {"note": "refused: " + peer.reason(e)}
    else:
        row["tract"] = {"note": "crashes"}
    session = Batch.open(done)
    long = _long(session, done)
    steps["floor"] = long.step
    width = window(done.manifest, pulse)
    if width is not None:
        steps["window"] = Batch(session, done, width).step
        row["window_frames"] = width
    samples = take_turns(steps, seconds, frozenset({"floor", "window"}))
    scale = {name: pulse / long.frames if name == "floor" else 1.0 for name in steps}
    for name in steps:
        row["us"][name] = samples.median(name) * scale[name] * 1e6
        row["least_us"][name] = samples.least(name) * scale[name] * 1e6
    for level in levels:
        mine, counts = f"bound {level}", row["levels"][level]
        counts["to_floor"] = samples.ratio(mine, "floor") / scale["floor"]
        counts["client_to_bound"] = samples.ratio(f"client {level}", mine)
        counts["to_window"] = samples.ratio(mine, "window") if width is not None else None
        counts["to_tract"] = samples.ratio(mine, "tract") if "tract" in steps else None
        counts["spread"] = samples.spread(mine, "tract" if "tract" in steps else f"client {level}")
    return row


def _counts(done: Conversion) -> dict[str, Any]:
    m = done.manifest
    delays = [s for s in m["states"] if s["kind"] in ("buffer", "cache")]
    return {
        "nodes": len(done.graph.graph),
        "states": len(m["states"]),
        "state_bytes": m["state_bytes"],
        "buffer_bytes": sum(math.prod(d if isinstance(d, int) else 1 for d in s["shape"]) * np.dtype(s["dtype"]).itemsize for s in delays),
    }


def _request(entry: Entry, batch: Path, done: Conversion) -> dict[str, Any]:
    m = done.manifest
    return {
        "path": str(batch),
        "symbol": done.batch.symbol,
        "pulse": m["pulse"],
        "axes": {i["name"]: i["axis"] for i in m["inputs"] if i["axis"] is not None},
    }


def _long(session: Any, done: Conversion) -> Batch:
    """The batch model on a stretch of at least four receptive fields that takes about :data:`LONG` seconds or more."""

    def legal(frames: float) -> int | None:
        return window({**done.manifest, "outputs": [{"axis": 0, "receptive_field": 1}]}, math.ceil(frames))

    reach = max((o["receptive_field"] or 1 for o in done.manifest["outputs"]), default=1)
    frames = legal(max(4 * reach, 16 * int(done.manifest["pulse_multiple"])))
    assert frames is not None, "the model is too short for a floor"
    while True:
        batch = Batch(session, done, frames)
        batch.step()
        start = time.process_time()
        batch.step()
        spent = time.process_time() - start
        if spent > LONG / 2:
            return batch
        longer = legal(frames * min(8.0, 1.5 * LONG / max(spent, 1e-6)))
        if longer is None:
            return batch
        frames = longer


def measure(names: Iterable[str], pulses: Sequence[int], levels: Sequence[str], seconds: float) -> Iterator[list[Row]]:
    """The rows of each model, from a process of its own: a native library may abort, and then is left out."""
    for name in names:
        for with_tract in (True, False):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                try:
                    yield pool.submit(rows_of, name, pulses, levels, seconds, with_tract).result()
                    break
                except BrokenProcessPool:
                    continue
                except (DownloadError, PulsifyError) as e:
                    click.echo(f"{name}: left out: {e}", err=True)
                    break


def machine() -> dict[str, str]:
    """What was measured on."""
    versions = {p: metadata.version(p) for p in ("onnxruntime", "pulsify", "numpy")}
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.processor()
    )
    return {"cpu": model, "cores": str(os.cpu_count()), "python": platform.python_version(), "tract": peer.VERSION, **versions}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


@click.command(help="Measure what a pulse costs; print the table as Markdown.")
@click.option("-m", "--model", "names", multiple=True, help="A model by name, for the target onnxruntime-native with /native behind it; all if left out. Repeatable.")
@click.option("-p", "--pulse", "pulses", multiple=True, type=click.IntRange(1), help="Pulses, in units of the least legal one. Repeatable.")
@click.option("-O", "--optimize", "levels", multiple=True, type=click.Choice(LEVELS), help="A level to measure (speed if left out). Repeatable.")
@click.option("--real/--no-real", default=True, help="With the real models, or without.")
@click.option("--quick", is_flag=True, help="Four models at pulses 1, 8 and 64, in under two minutes.")
@click.option("--seconds", type=float, help="Seconds per model and pulse (2; 1 if quick).")
@click.option("--json", "target", type=click.Path(dir_okay=False, path_type=Path), help="Write all figures there as well.")
@click.option("--from", "given", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Measure nothing: show what --json wrote.")
@click.option("--brief", "short", is_flag=True, help="One line per model instead, as in the README.")
@click.option("--list", "listed", is_flag=True, help="List the models.")
def main(
    names: tuple[str, ...], pulses: tuple[int, ...], levels: tuple[str, ...], real: bool, quick: bool, seconds: float | None,
    target: Path | None, given: Path | None, short: bool, listed: bool,
) -> None:  # fmt: skip
    """The command."""
    if quick:
        names, pulses = names or QUICK[0], pulses or QUICK[1]
    try:
        chosen = [e.name for e in entries(names, real)]
    except ValueError as e:
        raise click.UsageError(str(e)) from e
    if listed:
        click.echo("\n".join(chosen))
        return
    if given is not None:
        kept = json.loads(given.read_text())
        kept["rows"] = [r for r in kept["rows"] if not names or r["model"] in names]
    else:
        kept = {"machine": machine(), "rows": []}
        for rows in measure(chosen, pulses or PULSES, levels or ("speed",), seconds or (1.0 if quick else 2.0)):
            kept["rows"] += rows
            for line in tables.lines(rows):
                click.echo(line, err=True)
    if target is not None:
        staged = target.with_name(f".{target.name}.part")
        staged.write_text(json.dumps(kept, indent=1) + "\n")
        os.replace(staged, target)
    for line in (tables.brief if short else tables.full)(kept):
        click.echo(line)


if __name__ == "__main__":
    main()
