"""What was measured, as Markdown.

One row per model and pulse, in microseconds of CPU time on one thread, medians:

- **bound**: the emitted model with everything bound once; **client**: ``StreamSession.feed`` of one pulse;
- **tract**: tract on the same batch model, called through its C interface;
- **floor**: the batch model on a long stretch, by frame, times the pulse; **window**: the batch model run again on all
  that a pulse depends on (nothing where it depends on the whole past);
- **/tract** and **/floor**: medians over the rounds of bound to these within a round, **±** half of the range that the
  middle half of the first fills.

State bytes are all of ours; the bytes of tract are those of its delays alone (``Buffer`` in its cost), as it does not tell
recurrent states, counters and paddings: **buffers** are ours of that kind.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

__all__ = ["brief", "full", "lines", "summary"]

#: One model at one pulse, as benchmarks/pulses.py measures it; and what it keeps: ``machine`` and ``rows``.
Row = dict[str, Any]
Kept = dict[str, Any]

HEADER = (
    "model", "pulse", "optimize", "nodes", "states", "state bytes", "buffers", "tract's", "bound", "client", "tract", "floor", "window",
    "/tract", "±", "/floor",
)  # fmt: skip


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """Rows of the full table, in Markdown."""
    for row in rows:
        us, theirs = row["us"], row["tract"]
        for level, c in row["levels"].items():
            cells = [
                row["model"], row["pulse"], level, c["nodes"], c["states"], f"{c['state_bytes']:,}", f"{c['buffer_bytes']:,}",
                f"{theirs['buffer_bytes']:,}" if "buffer_bytes" in theirs else "-",
                _us(us[f"bound {level}"]), _us(us[f"client {level}"]), _us(us.get("tract")), _us(us["floor"]), _us(us.get("window")),
                "-" if c["to_tract"] is None else f"{c['to_tract']:.2f}", f"{100 * c['spread']:.0f} %", f"{c['to_floor']:.2f}",
            ]  # fmt: skip
            yield "| " + " | ".join(map(str, cells)) + " |"


def _us(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def brief(kept: Kept) -> Iterator[str]:
    """A line per model: microseconds per pulse, and in brackets their ratio to tract's."""
    rows = kept["rows"]
    for level in _levels(rows):
        yield from _brief(rows, level)
        yield ""
    yield from _notes(kept)


def full(kept: Kept) -> Iterator[str]:
    """All columns, a row per model, pulse and level."""
    yield "| " + " | ".join(HEADER) + " |"
    yield "|" + "---|" * len(HEADER)
    yield from lines(kept["rows"])
    yield ""
    yield from _notes(kept)


def _levels(rows: Sequence[Row]) -> list[str]:
    return list(rows[0]["levels"]) if rows else []


def _notes(kept: Kept) -> Iterator[str]:
    for said in summary(kept["rows"]):
        yield f"- {said}"
    refused = {r["model"]: r["tract"]["note"] for r in kept["rows"] if "note" in r["tract"]}
    for name, note in refused.items():
        yield f"- tract, {name}: {note}"
    yield f"- {', '.join(f'{k} {v}' for k, v in kept['machine'].items())}"


def _brief(rows: Sequence[Row], level: str) -> Iterator[str]:
    pulses = sorted({r["units"] for r in rows})
    yield f"| model ({level}) | state bytes | tract's delays | " + " | ".join(f"{k}" for k in pulses) + " |"
    yield "|---|---|---|" + "---|" * len(pulses)
    for name in dict.fromkeys(r["model"] for r in rows):
        mine = {r["units"]: r for r in rows if r["model"] == name}
        first = next(iter(mine.values()))
        theirs = first["tract"].get("buffer_bytes")
        cells = []
        for k in pulses:
            row = mine.get(k)
            ratio = None if row is None else row["levels"][level]["to_tract"]
            cells.append("" if row is None else _us(row["us"][f"bound {level}"]) + ("" if ratio is None else f" ({ratio:.2f})"))
        c = first["levels"][level]
        bytes_ = [f"{c['state_bytes']:,}", "" if theirs is None else f"{theirs:,}"]
        yield f"| {name} | " + " | ".join([*bytes_, *cells]) + " |"


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """What the rows say as a whole, per level."""
    for level in _levels(rows):
        cells = [(r, r["levels"][level]) for r in rows]
        beside = [(r, c) for r, c in cells if c["to_tract"] is not None]
        if beside:
            yield f"{level}: {_mean([c['to_tract'] for _, c in beside]):.2f} of tract (geometric mean of {len(beside)} rows)"
            slower = [f"{r['model']} at {r['pulse']} ({c['to_tract']:.2f})" for r, c in beside if c["to_tract"] > 1]
            yield f"{level}: slower than tract: {', '.join(slower) or 'nowhere'}"
            larger = {r["model"]: None for r, c in beside if c["buffer_bytes"] > r["tract"]["buffer_bytes"]}
            yield f"{level}: more bytes of buffers than tract: {', '.join(larger) or 'nowhere'}"
        large = [(r, c) for r, c in cells if r["units"] >= 64]
        if large:
            over = [f"{r['model']} at {r['pulse']} ({c['to_floor']:.2f})" for r, c in large if c["to_floor"] > 1.5]
            yield f"{level}: above 1.5 times the floor at a pulse of 64 units or more: {', '.join(over) or 'nowhere'}"
        yield f"{level}: client to bound {statistics.median(c['client_to_bound'] for _, c in cells):.2f} (median)"


def _mean(ratios: Sequence[float]) -> float:
    return math.exp(statistics.fmean(map(math.log, ratios)))
