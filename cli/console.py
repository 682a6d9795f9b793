"""Printing: rich on a terminal, plain text without padding in a pipe. NO_COLOR is respected."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["busy", "count", "facts", "heading", "line", "progress", "styled", "table"]


def count(n: int, word: str) -> str:
    """``1 frame``, ``1,000 frames``."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"


def line(text: str = "") -> None:
    """One line, as it is."""
    click.echo(text)


def heading(text: str) -> None:
    """One line that stands out on a terminal."""
    styled(text, "bold")


def styled(text: str, style: str) -> None:
    """One line in a colour on a terminal, not wrapped."""
    if style and _terminal():
        from rich.text import Text

        _rich().print(Text(text, style=style), soft_wrap=True)
    else:
        click.echo(text)


def facts(rows: Iterable[tuple[str, str]], width: int = 14) -> None:
    """A line each: a key and what there is to say."""
    for key, text in rows:
        click.echo(f"{key:<{width}}{text}" if text else key)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> None:
    """A table; the columns in ``right`` hold numbers. On a terminal it is fitted to the width."""
    if not _terminal():
        widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
        for row in (header, *rows):
            cells = [c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
            click.echo("  ".join(cells).rstrip())
        return
    from rich import box
    from rich.table import Table
    from rich.text import Text

    out = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, name in enumerate(header):
        out.add_column(Text(name), justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        out.add_row(*(Text(c) for c in row))
    _rich().print(out)


@contextlib.contextmanager
def busy(text: str, quiet: bool = False) -> Iterator[None]:
    """Say on a terminal what is going on, for as long as it does."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


@contextlib.contextmanager
def progress(text: str, total: int, quiet: bool = False) -> Iterator[Callable[[int, str], None]]:
    """A bar on a terminal, nothing elsewhere: yields a function of how much is done and a word on how fast."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, word: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.fields[word]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=total, word="")
        yield lambda done, word: bar.update(task, completed=done, word=word)


def _terminal() -> bool:
    return sys.stdout.isatty()


def _rich() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False)
