"""Writes docs/operators.md from the registry: ``make docs``."""

from __future__ import annotations

from pathlib import Path

from pulsify.ops._rule import registry

PAGE = Path(__file__).with_name("operators.md")

HEAD = """# Supported operators

Written from the registry by `make docs`; `pulsify ops` prints the same on the command line.

What follows is about the *time axis*. Where no time axis reaches a node, any operator of any domain is kept as it is.
An operator that is not listed is refused, by name, where time passes through it.

- **streams**: with every attribute the operator has, on any axis.
- **conditions**: as noted; anything else is refused with the node's name and the reason.

| operator | domain | along time | note |
|---|---|---|---|
"""


def render() -> str:
    """The page."""
    rows = [
        (domain or "ai.onnx", op, rule.status, rule.note)
        for (domain, op), rule in registry().items()
        if rule.status != "pseudo"
    ]
    rows.sort(key=lambda r: (r[0] != "ai.onnx", r))
    return HEAD + "".join(f"| {op} | {domain} | {status} | {note} |\n" for domain, op, status, note in rows)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
