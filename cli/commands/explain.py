"""``pulsify explain``: what a model looks like from here, without converting it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import console
from ..request import FILE, pair

if TYPE_CHECKING:
    from pulsify.errors import PulsifyError
    from pulsify.explain import Candidate, Explanation

#: Operators printed; ``--json`` has them all.
_SHOWN = 8


@click.command(short_help="Say what a model looks like: time axes, laws, delays, states, obstacles.")
@click.argument("model", type=FILE)
@click.option(
    "--axis", "axes", multiple=True, metavar="S",
    help="Look along this axis only, as for a conversion. Default: every axis that may be time.",
)  # fmt: skip
@click.option("--bind", "binds", multiple=True, metavar="NAME=VALUE", help="Make an input a constant first (repeatable).")
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON.")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def command(model: str, axes: Sequence[str], binds: Sequence[str], as_json: bool, debug: bool) -> None:
    """Look at MODEL without converting it: which axes may be time and, along each, how long every output is, the legal
    pulses, delay, look-ahead and receptive field, the states and their bytes, and whatever stands in the way, with what
    to do about it."""
    with console.busy(f"looking at {Path(model).name}", as_json):
        from pulsify.explain import explain
        from pulsify.source import read

        source = read(Path(model))
        if binds:
            from pulsify.adapt import bind

            source = bind(source, dict(pair("--bind", "NAME=VALUE", text, "=") for text in binds))
        found = explain(source, list(axes))
    if as_json:
        console.line(json.dumps(as_dict(model, found), indent=1))
    else:
        show(model, found)


def as_dict(model: str, e: Explanation) -> dict[str, Any]:
    """The explanation for machines."""
    return {
        "model": model,
        "inputs": e.inputs,
        "outputs": e.outputs,
        "opset": e.opset,
        "nodes": e.nodes,
        "operators": e.operators,
        "state_pairs": e.pairs,
        "notes": e.notes,
        "candidates": [
            {
                "axis": c.axis,
                "symbol": c.symbol,
                "streams": c.streams,
                "pulse_multiple": c.pulse_multiple,
                "outputs": [asdict(o) for o in c.outputs],
                "states": c.states,
                "state_bytes": c.state_bytes,
                "state_bytes_soonest": c.state_bytes_soonest,
                "valid_frames": c.valid_frames,
                "conditions": c.conditions,
                "obstacles": [o.as_dict() for o in c.obstacles],
            }
            for c in e.candidates
        ],
    }


def show(model: str, e: Explanation) -> None:
    """The explanation for people."""
    console.heading(Path(model).name)
    names = sorted(e.operators, key=lambda op: (-e.operators[op], op))
    count = ", ".join(f"{e.operators[op]} {op}" for op in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} kinds more" if len(names) > _SHOWN else ""
    _fact("inputs", "; ".join(e.inputs))
    _fact("outputs", "; ".join(e.outputs))
    _fact("nodes", f"{e.nodes} (opset {e.opset}): {count}{more}")
    for note in e.notes:
        _fact("note", note)
    if not e.candidates:
        _fact("note", "no input has an axis that may be time; --axis input:axis declares one")
    for c in e.candidates:
        console.line()
        _candidate(c)


def _fact(key: str, text: str) -> None:
    console.line(f"{key:<14}{text}")


def _candidate(c: Candidate) -> None:
    verdict = "streams" if c.streams else f"refused, {len(c.obstacles)} obstacle{'' if len(c.obstacles) == 1 else 's'}"
    console.heading(f"--axis {c.axis}: {verdict}")
    header = ("output", "axis", "length", f"frames per {c.symbol or 'S'}", "delay", "look-ahead", "receptive field")
    if c.outputs:
        rows = [
            [o.name, _text(o.axis), o.length or "no time axis", _text(o.rate), _text(o.delay), _text(o.lookahead), _field(c, o)]
            for o in c.outputs
        ]
        console.table(header, rows, right=(1, 3, 4, 5, 6))
    if c.apart:
        _fact("note", "every frame is computed by itself, nothing is remembered: this axis is a batch, or needs no pulsing")
    if c.streams:
        step = c.pulse_multiple or 1
        _fact("pulses", "any" if step == 1 else f"every multiple of {step} frames of {c.symbol}")
        size = f"{c.state_bytes:,} bytes per stream" if c.state_bytes else "none"
        kinds = ", ".join(sorted({s["kind"] for s in c.states}))
        more = f"; {c.state_bytes_soonest:,} as soon as possible" if c.states else ""
        _fact("states", f"{len(c.states)}, {size} ({kinds}){more}" if c.states else "none")
        _fact("valid_frames", "needed: something depends on where the stream ends" if c.valid_frames else "not needed")
        for i, condition in enumerate(c.conditions):
            _fact("" if i else "assumes", condition)
    for alike in _alike(c.obstacles):
        console.line(alike[0].render())
        if len(alike) > 1:
            console.line(f"  and:  {len(alike) - 1} more of the kind, the last at {alike[-1].what.removeprefix('cannot pulsify ')}")


def _alike(obstacles: Sequence[PulsifyError]) -> list[list[PulsifyError]]:
    """Obstacles of one operator and with one remedy, together."""
    groups: dict[tuple[str, ...], list[PulsifyError]] = {}
    for o in obstacles:
        groups.setdefault((o.what.partition(" node ")[0], *(h.partition(",")[0] for h in o.hints)), []).append(o)
    return list(groups.values())


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _field(c: Candidate, o: Any) -> str:
    if o.axis is None or not c.streams:
        return "-"
    return "unbounded" if o.receptive_field is None else str(o.receptive_field)
