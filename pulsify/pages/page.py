"""The frame of a page: head, style, body."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pulsify.pages.svg import escape

__all__ = ["page", "table"]


def page(title: str, body: str, data: Any) -> str:
    """A whole document. ``data`` is what it was made of, as JSON for machines (element ``pulsify-data``)."""
    style = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
    # A page that holds JSON must not hold the end of the element it is in.
    machine = json.dumps(data, separators=(",", ":"))
    for sign in "<>&":
        machine = machine.replace(sign, f"\\u{ord(sign):04x}")
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>\n{style}</style></head>\n<body><main>\n{body}\n</main>\n"
        f'<script type="application/json" id="pulsify-data">{machine}</script></body></html>\n'
    )


def table(header: list[str], rows: list[list[str]], chosen: int | None = None) -> str:
    """A table that scrolls where the page is too narrow; ``chosen`` is the row that stands out."""
    head = "".join(f"<th>{escape(h)}</th>" for h in header)
    body = "".join(
        f"<tr{' class=' + chr(34) + 'chosen' + chr(34) if i == chosen else ''}>{''.join(f'<td>{escape(c)}</td>' for c in row)}</tr>"
        for i, row in enumerate(rows)
    )
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
