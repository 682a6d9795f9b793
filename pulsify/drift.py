"""Whether a pulsed file is still what its batch model converts to, and still streams it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pulsify.api import Conversion
from pulsify.errors import UsageError, VerificationError
from pulsify.inspection import manifest_of
from pulsify.source import Source, read
from pulsify.stages.verify import Report, verify

__all__ = ["Check", "check", "promised"]


@dataclass
class Check:
    """A file that holds. ``same_graph`` tells whether this version would write it byte for byte."""

    report: Report
    same_graph: bool


def promised(path: Path, source: Source) -> dict[str, Any]:
    """The manifest of the file to check. UsageError if it is no pulsed model, VerificationError if it was made of another
    batch model than ``source``."""
    found = manifest_of(path)
    if found is None:
        raise UsageError(
            f"{str(path)!r} is no pulsed model", why="it carries no manifest", hint="--check takes the pulsed file, MODEL is the batch model"
        )
    if found["source"]["sha256"] != source.sha256:
        raise VerificationError(
            f"{str(path)!r} has drifted from its batch model",
            why=f"it was made of a model with sha256 {found['source']['sha256'][:12]}, this one has {source.sha256[:12]}",
            hint="convert the model again",
        )
    return found


#: What a file says of how it may be run, which is no promise of what it gives.
_HINTS = {"wire_bytes", "in_place"}


def check(pulsed: Path, conversion: Conversion, seed: int = 0) -> Check:
    """Compare the file's source hash and manifest with those of a conversion made now, then stream it beside the batch
    model and compare every frame.

    VerificationError names everything that has drifted, or the first frame that differs.
    """
    manifest = promised(pulsed, conversion.source)
    found = list(_drifted(manifest, conversion.manifest))
    if found:
        raise VerificationError(
            f"{str(pulsed)!r} has drifted from its batch model",
            why="; ".join(found),
            hint="convert the model again, or name the options that the file was made with",
        )
    report = verify(conversion.source, conversion.batch, pulsed, seed)
    conversion.report = report
    return Check(report, read(pulsed).sha256 == read(conversion.model).sha256)


def _drifted(was: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Every key of the manifest that is not what it would be now, lists by name."""
    for key in dict.fromkeys([*was, *now]):
        if was.get(key) == now.get(key) or key in _HINTS:
            continue
        if isinstance(was.get(key), list) and isinstance(now.get(key), list):
            yield from _rows(key, was[key], now[key])
        else:
            yield f"{key} is {_text(was.get(key))}, and would be {_text(now.get(key))}"


def _rows(key: str, was: list[dict[str, Any]], now: list[dict[str, Any]]) -> Iterator[str]:
    name = "input" if key == "states" else "name"
    old, new = ({r[name]: r for r in rows} for rows in (was, now))
    word = key.removesuffix("s")
    if gone := [n for n in old if n not in new]:
        yield f"{word} {', '.join(gone)} would not be there"
    if more := [n for n in new if n not in old]:
        yield f"{word} {', '.join(more)} is missing"
    for n in old:
        for k in old[n]:
            if n in new and k not in _HINTS and old[n][k] != new[n].get(k):
                yield f"{k} of {word} {n} is {_text(old[n][k])}, and would be {_text(new[n].get(k))}"
    if list(old) != list(new) and set(old) == set(new):
        yield f"the {key} are in another order"


def _text(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
