"""Hooks of the site: what the pages link to outside ``docs`` (examples, tests) comes along as files of it, and the
navigation of mkdocs.yml holds for the pages there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\]\(\.\./([^)#]+)\)")

#: Files of the repository that a page links to, by their path in it.
linked: set[str] = set()


def on_config(config: Any, **_: Any) -> Any:
    """Leave out of the navigation what there is no page of."""
    config.nav = _there(config.nav, Path(config.docs_dir))
    return config


def _there(entry: Any, docs: Path) -> Any:
    """A part of the navigation without entries that lead nowhere; None where nothing is left."""
    if isinstance(entry, str):
        return entry if (docs / entry).is_file() else None
    if isinstance(entry, dict):
        kept = {title: _there(part, docs) for title, part in entry.items()}
        return kept if all(kept.values()) else None
    return [part for part in (_there(part, docs) for part in entry) if part]


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links to ``../examples/stream.py`` become links to a copy under ``source/``."""
    up = "../" * (page.url.count("/"))

    def move(m: re.Match[str]) -> str:
        linked.add(m[1])
        return f"]({up}source/{m[1]}.txt)"

    return LINK.sub(move, markdown)


def on_post_build(config: Any, **_: Any) -> None:
    """Copy what was linked to, as text that a browser shows."""
    for name in linked:
        target = Path(config.site_dir) / "source" / f"{name}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
