"""What a conversion came to: the table for people and the report for machines, from the same numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pulsify import contract

from . import console
from .console import count

if TYPE_CHECKING:
    from pulsify.api import Conversion
    from pulsify.drift import Check

    from .request import Request

#: Conditions printed; the report has them all.
SHOWN = 5


def as_dict(c: Conversion, target: Path, verify_seconds: float | None) -> dict[str, Any]:
    """The report of a conversion."""
    m = c.manifest
    verification = None
    if c.report is not None:
        verification = {
            "lengths": c.report.lengths,
            "frames": c.report.frames,
            "worst_error": c.report.worst,
            "in_float32_instead_of": c.report.stood_in_for,
            "outputs": [{"name": o["name"], "worst_error": _worst(c, o["name"])} for o in m["outputs"]],
        }
    return {
        "output": str(target),
        "axis": m["symbol"],
        "notes": c.graph.notes,
        "legal_pulses": {"multiple_of": m["pulse_multiple"]},
        "outputs": [{"name": o["name"], "delay_in_input_frames": input_delay(m, o)} for o in m["outputs"]],
        "states": {"count": len(m["states"]), "bytes": m["state_bytes"], "kinds": dict(_kinds(m))},
        "conditions": m["stream"]["conditions"] if "stream" in m else [],
        "verification": verification,
        "seconds": {
            "convert": round(c.seconds, 6),
            "verify": None if verify_seconds is None else round(verify_seconds, 6),
        },
        "nodes": {"batch": len(c.source.model.graph), "pulsed": len(c.graph.graph)},
        "manifest": m,
    }


def show(c: Conversion, target: Path, verify_seconds: float | None) -> None:
    """The table of a conversion."""
    m = c.manifest
    symbol, step = m["symbol"], m["pulse_multiple"]
    found = f" ({'; '.join(c.graph.notes)})" if c.graph.notes else ""
    console.heading(f"{c.source.path.name if c.source.path else 'model'} -> {target}")
    pulse = (
        f"{count(m['pulse'], 'frame')} of {symbol}"
        if isinstance(m["pulse"], int)
        else f"{m['pulse']} frames of {symbol}, chosen per call"
    )
    console.line(f"pulse         {pulse}; {'any pulse' if step == 1 else f'every multiple of {step}'} is legal{found}")
    console.line()
    header = (
        "output",
        "axis",
        "frames/pulse",
        "delay",
        f"delay in {symbol}",
        "look-ahead",
        "receptive field",
        "length",
    )
    console.table(header, [_row(m, o) for o in m["outputs"]], right=range(1, 7))
    console.line()
    for key, text in _facts(c, verify_seconds):
        console.line(f"{key:<14}{text}")


def input_delay(m: dict[str, Any], o: dict[str, Any]) -> int | float | None:
    """The delay of an output in frames of the stream symbol."""
    exact = contract.input_delay(m, o)
    return exact if exact is None else int(exact) if exact.denominator == 1 else float(exact)


def _row(m: dict[str, Any], o: dict[str, Any]) -> list[str]:
    if o["axis"] is None:
        return [o["name"], "-", "-", "-", "-", "-", "-", "no time axis"]
    delay = input_delay(m, o)
    field = "unbounded" if o["receptive_field"] is None else str(o["receptive_field"])
    return [
        o["name"], str(o["axis"]), str(o["frames"]), str(o["delay"]),
        f"{delay:.4g}" if isinstance(delay, float) else str(delay),
        str(o["lookahead"]), field, str(o["length"]),
    ]  # fmt: skip


def show_check(c: Conversion, pulsed: str, found: Check, seconds: float) -> None:
    """What a check came to, where all is well."""
    name = c.source.path.name if c.source.path else "the batch model"
    console.heading(f"{pulsed} is what {name} converts to")
    made = "the graph is the one this version writes" if found.same_graph else "the graph is another one, with the same promises"
    rows = [
        ("source", f"sha256 {c.manifest['source']['sha256'][:12]}, as the manifest says"),
        ("manifest", f"as a conversion makes it now; {made}"),
        *(r for r in _facts(c, None) if r[0] in ("verified", "worst error")),
        ("time", f"converted in {c.seconds:.2f} s, verified in {seconds:.2f} s"),
    ]
    console.facts(rows)


def axes(manifest: Mapping[str, Any], request: Request) -> tuple[str, ...]:
    """The time axis of a pulsed file, as words of --axis."""
    from pulsify.replay import axis_of

    found = axis_of(manifest, request.source())
    return tuple(f"{n}:{a}" for n, a in found.axes.items()) if found.axes else (manifest["symbol"],)


def _facts(c: Conversion, verify_seconds: float | None) -> list[tuple[str, str]]:
    m = c.manifest
    kinds = ", ".join(count(n, kind) for kind, n in _kinds(m).items())
    states = f"{len(m['states'])}, {count(m['state_bytes'], 'byte')} per stream ({kinds})" if m["states"] else "none"
    valid = (
        "needed: something depends on where the stream ends"
        if m["valid"]
        else "not needed: nothing depends on where the stream ends"
    )
    rows = [("states", states), ("valid_frames", valid)]
    conditions = m["stream"]["conditions"] if "stream" in m else []
    for i, condition in enumerate(conditions[:SHOWN]):
        rows.append(("" if i else "assumes", _condition(m["symbol"], condition)))
    if len(conditions) > SHOWN:
        rows.append(("", f"and {len(conditions) - SHOWN} more (--report has them all)"))
    if c.report is not None:
        lengths = sorted(set(c.report.lengths))
        text = f"at {m['symbol']} = {', '.join(map(str, lengths))}"
        if len(lengths) > 16:
            text = f"at {len(lengths)} lengths of {m['symbol']}, {lengths[0]} to {lengths[-1]}"
        if c.report.stood_in_for:
            text += f", in float32: onnxruntime does not run {' or '.join(c.report.stood_in_for)} here"
        rows.append(("verified", text))
        noise = f" (rounding its inputs moves the batch model itself by {c.report.noise:.2g})" if c.report.noise else ""
        rows.append(("worst error", f"{c.report.worst:.2g} of the output's largest value{noise}"))
    else:
        rows.append(("verified", "no (--no-verify)"))
    took = f"converted in {c.seconds:.2f} s"
    if verify_seconds is not None:
        took += f", verified and written in {verify_seconds:.2f} s"
    return [*rows, ("time", took)]


def _condition(symbol: str, c: dict[str, Any]) -> str:
    parts = [f"{symbol} >= {c['least']}"] if c["least"] else []
    if c.get("most") is not None:
        parts.append(f"{symbol} <= {c['most']}")
    if c["modulus"] > 1:
        parts.append(f"{symbol} % {c['modulus']} == {c['remainder']}")
    by = f" (asked by {c['node']})" if c["node"] else ""
    return f"{' and '.join(parts)}, so that {c['text']}{by}" if parts else f"{c['text']}{by}"


def _kinds(m: dict[str, Any]) -> Counter[str]:
    return Counter(s["kind"] for s in m["states"])


def _worst(c: Conversion, name: str) -> float:
    assert c.report is not None
    return max((r.error for r in c.report.comparisons if r.output == name), default=0.0)
