"""``pulsify inspect``: what an ONNX file is."""

from __future__ import annotations

import json
from dataclasses import asdict
from fractions import Fraction
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .. import console
from ..request import FILE

if TYPE_CHECKING:
    from pulsify.inspection import Inspection

#: Operators printed; ``--json`` has them all.
_SHOWN = 8


@click.command(short_help="Say what a file is: manifest, delays and states of a pulsed one.")
@click.argument("file", type=FILE)
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON, the manifest included.")
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
def command(file: str, as_json: bool, debug: bool) -> None:
    """Look into FILE. Of a pulsed model: its manifest (docs/contract.md), the delay of every output, every state with
    its bytes. Of a batch model: its interface, and along which axes it would stream, as `pulsify explain` says it."""
    with console.busy(f"looking at {Path(file).name}", as_json):
        from pulsify.explain import explain
        from pulsify.inspection import inspect
        from pulsify.source import read

        source = read(Path(file))
        found = inspect(Path(file), source)
        law = explain(source) if found.manifest is None else None
    if as_json:
        from . import explain as explaining

        record = {**asdict(found), "path": str(found.path)}
        if law is not None:
            record["candidates"] = explaining.as_dict(file, law)["candidates"]
        console.line(json.dumps(record, indent=1))
        return
    _file(found)
    if found.manifest is not None:
        _pulsed(found.manifest)
    elif law is not None:
        from . import explain as explaining

        console.facts([("", ""), ("note", "not a pulsed model; `pulsify explain` says more of it")][1:])
        for c in law.candidates:
            verdict = "streams" if c.streams else f"refused: {c.obstacles[0].what}"
            console.facts([("--axis " + c.axis, verdict)], width=max(14, len("--axis " + c.axis) + 2))


def _file(f: Inspection) -> None:
    kind = "batch model" if f.manifest is None else "pulsed model"
    console.heading(f"{f.path.name}: {kind}")
    count = ", ".join(f"{n} {op}" for op, n in list(f.operators.items())[:_SHOWN])
    more = f" and {len(f.operators) - _SHOWN} kinds more" if len(f.operators) > _SHOWN else ""
    where = ", in a file beside it" if f.external else ""
    rows = [
        ("file", f"{f.bytes:,} bytes, sha256 {f.sha256[:12]}"),
        ("made by", f.producer or "not said"),
        ("opset", ", ".join(f"{v}" if k == "ai.onnx" else f"{k} {v}" for k, v in f.opset.items())),
        ("nodes", f"{f.nodes:,}: {count}{more}"),
        ("weights", f"{f.weights:,} values, {f.weight_bytes:,} bytes{where}"),
    ]
    if f.manifest is None:
        rows += [("inputs", "; ".join(map(_port, f.inputs))), ("outputs", "; ".join(map(_port, f.outputs)))]
    if f.metadata:
        rows.append(("metadata", ", ".join(f.metadata)))
    console.facts(rows)


def _port(p: dict[str, Any]) -> str:
    shape = "?" if p["shape"] is None else ", ".join("?" if d is None else str(d) for d in p["shape"])
    return f"{p['name']} {p['dtype'] or '?'}[{shape}]"


def _pulsed(m: dict[str, Any]) -> None:
    symbol, step = m["symbol"], m["pulse_multiple"]
    legal = "any pulse" if step == 1 else f"every multiple of {step}"
    pulse = f"{m['pulse']} frames of {symbol}" if isinstance(m["pulse"], int) else f"{m['pulse']} frames of {symbol}, chosen per call"
    console.facts([("pulse", f"{pulse}; {legal} is legal"), ("made of", f"sha256 {m['source']['sha256'][:12]}, opset {m['source']['opset']}")])
    console.line()
    rows = [["input", i["name"], _text(i["axis"]), _text(i["frames"]), "-", "-", "-", "-", "-"] for i in m["inputs"]]
    rows += [["output", o["name"], *(_text(o[k]) for k in ("axis", "frames", "delay")), _delay(m, o), *_law(o)] for o in m["outputs"]]
    header = ("", "name", "axis", "frames/pulse", "delay", f"delay in {symbol}", "look-ahead", "receptive field", "length")
    console.table(header, rows, right=range(2, 8))
    console.line()
    if m["states"]:
        rows = [[s["input"], s["kind"], s["dtype"], str(s["shape"]), f"{_bytes(s):,}", s["origin"]] for s in m["states"]]
        console.table(("state", "kind", "type", "shape", "bytes", "of"), rows, right=(4,))
        console.line()
    console.facts(
        [
            ("states", f"{len(m['states'])}, {m['state_bytes']:,} bytes per stream" if m["states"] else "none"),
            ("valid_frames", "needed: something depends on where the stream ends" if m["valid"] else "not needed"),
            *(("needs", text) for text in _needs(m.get("needs") or {})),
            *(("assumes", c["text"] + (f" (asked by {c['node']})" if c["node"] else "")) for c in m.get("stream", {}).get("conditions", [])),
        ]
    )


def _needs(needs: dict[str, Any]) -> list[str]:
    """What a model needs of its runtime beyond the operators of the standard."""
    if needs.get("onnxruntime"):
        return [f"onnxruntime {needs['onnxruntime']} or later: it has operators of that runtime's own"]
    return [f"operators of {', '.join(needs['domains'])}"] if needs.get("domains") else []


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _delay(m: dict[str, Any], o: dict[str, Any]) -> str:
    from pulsify import contract

    exact: Fraction | None = contract.input_delay(m, o)
    return "-" if exact is None else str(exact)


def _law(o: dict[str, Any]) -> list[str]:
    if o["axis"] is None:
        return ["-", "-", "no time axis"]
    return [str(o["lookahead"]), "unbounded" if o["receptive_field"] is None else str(o["receptive_field"]), str(o["length"])]


def _bytes(state: dict[str, Any]) -> int:
    import ml_dtypes  # noqa: F401  numpy knows the narrow floats by it
    import numpy as np

    return prod(d if isinstance(d, int) else 1 for d in state["shape"]) * int(np.dtype(state["dtype"]).itemsize)
