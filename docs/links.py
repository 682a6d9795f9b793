"""``python -m docs.links site``: every link and picture of a built site leads to a file of it, every anchor to a heading.

Prints what does not; the exit code is 1 then. Links that leave the site are not followed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and what can be linked to in it."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self.anchors |= {v for v in (known.get("id"), known.get("name")) if v}
        self.links += [v for v in (known.get("href"), known.get("src")) if v is not None]


def broken(site: Path) -> Iterator[str]:
    """Each link that leads nowhere, with its page."""
    pages = {p: Page(p.read_text(encoding="utf-8")) for p in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or (path.name == "404.html" and parts.path.startswith("/")):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                yield f"{path.relative_to(site)}: {link}"
            elif target.suffix == ".html" and unquote(parts.fragment) not in pages[site / target.relative_to(site.resolve())].anchors:
                yield f"{path.relative_to(site)}: {link} (no such place in the page)"


if __name__ == "__main__":
    found = list(broken(Path(sys.argv[1])))
    print("\n".join(found) or "all links lead somewhere")
    sys.exit(bool(found))
