"""What differs between two dumps, wire by wire (docs/stages.md tells how to read one)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from pulsify.errors import UsageError

__all__ = ["Change", "Hunk", "hunks", "records"]

_HEAD = re.compile(r"pulsify \d+ stage=")


@dataclass(frozen=True)
class Record:
    """One wire or node of a dump: its lines, and the wire it is known by."""

    wire: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Change:
    """Lines of one record that are in both dumps (``same``), or only in the one (``removed``) or the other (``added``)."""

    kind: str
    wire: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Hunk:
    """Changes that stand together, with what is around them. ``wire`` is the first that changed."""

    wire: str
    changes: list[Change]


def records(text: str, name: str = "the dump") -> list[Record]:
    """The records of a dump in order: a node with its outputs is one. UsageError where it is no dump."""
    lines = text.splitlines()
    if not lines or not _HEAD.match(lines[0]):
        raise UsageError(
            f"{name} is no dump", why=f"it begins with {(lines or [''])[0][:60]!r}", hint="pulsify MODEL --pass NAME -o FILE writes one"
        )
    out: list[list[str]] = []
    for line in lines:
        if line.startswith("  -> ") and out:
            out[-1].append(line)
        else:
            out.append([line])
    return [Record(_wire(r), tuple(r)) for r in out]


def _wire(lines: list[str]) -> str:
    """The first wire a node makes; of the rest the first name on the line."""
    m = re.match(r"  -> (%\S+)", lines[1]) if len(lines) > 1 else None
    if m:
        return m[1]
    word, _, rest = lines[0].partition(" ")
    return "graph" if word == "pulsify" else (rest.split() or [word])[0]


def hunks(before: list[Record], after: list[Record], context: int = 2) -> Iterator[Hunk]:
    """The changes in graph order, each with up to ``context`` unchanged records around it."""
    a, b = [r.lines for r in before], [r.lines for r in after]
    for group in difflib.SequenceMatcher(None, a, b, autojunk=False).get_grouped_opcodes(context):
        changes: list[Change] = []
        for tag, i, j, k, m in group:
            if tag == "equal":
                changes += [Change("same", r.wire, r.lines) for r in before[i:j]]
            else:
                changes += _paired(before[i:j], after[k:m])
        first = next(c.wire for c in changes if c.kind != "same")
        yield Hunk(first, changes)


def _paired(old: list[Record], new: list[Record]) -> Iterator[Change]:
    """What went and what came; of a wire that is in both, the lines from the first that differs."""
    waiting = list(old)
    for r in new:
        at = next((i for i, o in enumerate(waiting) if o.wire == r.wire), None)
        if at is None:
            yield Change("added", r.wire, r.lines)
            continue
        for gone in waiting[:at]:
            yield Change("removed", gone.wire, gone.lines)
        was = waiting[at].lines
        del waiting[: at + 1]
        same = next((i for i, (x, y) in enumerate(zip(was, r.lines, strict=False)) if x != y), min(len(was), len(r.lines)))
        for kind, lines in (("same", r.lines[:same]), ("removed", was[same:]), ("added", r.lines[same:])):
            if lines:
                yield Change(kind, r.wire, lines)
    for gone in waiting:
        yield Change("removed", gone.wire, gone.lines)
