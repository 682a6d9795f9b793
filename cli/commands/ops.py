"""``pulsify ops``: the operators that stream."""

from __future__ import annotations

import json

import click

from .. import console


def operators() -> list[dict[str, str]]:
    """Every operator of the registry, standard ones first: domain, name, status, note."""
    from pulsify.ops._rule import registry

    rows = [
        {"operator": op, "domain": domain or "ai.onnx", "status": rule.status, "note": rule.note}
        for (domain, op), rule in registry().items()
        if rule.status != "pseudo"
    ]
    return sorted(rows, key=lambda r: (r["domain"] != "ai.onnx", r["domain"], r["operator"]))


@click.command(short_help="List the operators that stream, and under which conditions.")
@click.option("--json", "as_json", is_flag=True, help="The list as JSON.")
@click.option("--debug", is_flag=True, hidden=True)
def command(as_json: bool, debug: bool) -> None:
    """List the operators known along the time axis, and under which conditions they stream.

    An operator that is not on the list is refused where time passes through it, and is kept as it is elsewhere.
    """
    rows = operators()
    if as_json:
        console.line(json.dumps(rows, indent=1))
        return
    header = ("operator", "domain", "status", "note")
    console.table(header, [[r[h] for h in header] for r in rows])
