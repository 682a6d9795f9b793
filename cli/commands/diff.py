"""``pulsify diff``: what a stage did to a graph."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from pulsify.errors import UsageError

from .. import console
from ..request import FILE, PULSE, Request, streaming
from .convert import known_stage, stages

_MARK = {"same": " ", "removed": "-", "added": "+"}


@click.command(short_help="Compare two stages of a model, or two dumps, wire by wire.")
@click.argument("first", metavar="MODEL|DUMP", type=FILE)
@click.argument("second", metavar="STAGE|DUMP", type=FILE)
@click.argument("third", metavar="[STAGE]", required=False, shell_complete=stages)
@click.option("--context", type=click.IntRange(min=0), default=2, show_default=True, metavar="N", help="Unchanged records around a change.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 where they differ.")
@click.option("--json", "as_json", is_flag=True, help="The changes as JSON.")
@streaming(PULSE)
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
@click.pass_context
def command(
    ctx: click.Context, /, first: str, second: str, third: str | None, pulse: str, context: int, exit_code: bool, as_json: bool,
    debug: bool, **asked: Any,
) -> None:  # fmt: skip
    """Compare two graphs as text. A node is one record with the wires it makes; what changed is named after the wire.

    \b
    pulsify diff model.onnx declutter pulse-v2 --axis S --pulse 4    two stages of one model
    pulsify diff before.txt after.txt                                two dumps (pulsify MODEL --pass NAME -o FILE)
    """
    from pulsify.diff import hunks, records

    if third is None:
        texts, names = [_read(first), _read(second)], [first, second]
    else:
        for stage in (second, third):
            known_stage(stage)
        texts, names = _stages(Request(first, pulse=pulse, **asked), second, third, as_json), [second, third]
    before, after = (records(t, repr(n)) for t, n in zip(texts, names, strict=True))
    found = list(hunks(before, after, context))
    if as_json:
        rows = [
            {"wire": h.wire, "changes": [{"kind": c.kind, "wire": c.wire, "lines": c.lines} for c in h.changes]}
            for h in found
        ]
        console.line(json.dumps({"before": names[0], "after": names[1], "hunks": rows}, indent=1))
    elif found:
        console.styled(f"--- {names[0]}", "bold")
        console.styled(f"+++ {names[1]}", "bold")
        for h in found:
            console.styled(f"@@ {h.wire} @@", "cyan")
            for c in h.changes:
                for line in c.lines:
                    console.styled(_MARK[c.kind] + line, {"removed": "red", "added": "green"}.get(c.kind, ""))
    if exit_code and found:
        ctx.exit(1)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as e:
        raise UsageError(f"cannot read {path!r}", why=e.strerror or str(e), hint="two dumps, or a model and two stages") from e
    except UnicodeDecodeError as e:
        raise UsageError(
            f"{path!r} is no dump", why="it is not text", hint="of a model, two stages: pulsify diff model.onnx declutter pulse-v2"
        ) from e


def _stages(request: Request, first: str, second: str, quiet: bool) -> list[str]:
    from pulsify.dump import dump
    from pulsify.pipeline import STAGES, run

    texts: dict[str, str] = {}
    names = [s.name for s in STAGES]
    with console.busy(f"converting {Path(request.model).name}", quiet):
        last = max(first, second, key=names.index)
        run(request.source(), request.options, until=last, observe=lambda g: _keep(texts, (first, second), g.stage, dump, g))
    return [texts[first], texts[second]]


def _keep(texts: dict[str, str], wanted: tuple[str, str], stage: str, dump: Any, g: Any) -> None:
    if stage in wanted:
        texts[stage] = dump(g)
