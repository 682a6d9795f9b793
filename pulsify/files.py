"""Putting files in place: checked before the work, atomic after it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pulsify.errors import UsageError

__all__ = ["check_target", "place", "place_all", "writing"]


def check_target(path: str | os.PathLike[str], source: Path | None = None, lost: str = "the batch model") -> Path:
    """Where a file is to be written, links followed. UsageError if it cannot be one, or is ``source``, which holds what
    would be ``lost``."""
    target = Path(path)
    if target.is_symlink():
        target = Path(os.path.realpath(target))
    folder = target.parent
    if not target.name:
        raise UsageError(f"cannot write {str(path)!r}", why="it names no file", hint="name a file with -o")
    if source is not None and target.exists() and source.exists() and os.path.samefile(target, source):
        raise UsageError(
            f"the output {str(target)!r} is the input", why=f"{lost} would be lost", hint="-o another file"
        )
    if target.is_dir():
        raise UsageError(
            f"cannot write {str(target)!r}", why="it is a directory", hint=f"a file in it: {target / 'model.onnx'}"
        )
    if not folder.exists():
        raise UsageError(
            f"cannot write {str(target)!r}",
            why=f"the directory {str(folder)!r} does not exist",
            hint=f"create it (mkdir -p {folder}), or name another place",
        )
    if not folder.is_dir():
        raise UsageError(f"cannot write {str(target)!r}", why=f"{str(folder)!r} is not a directory")
    if not os.access(target if _special(target) else folder, os.W_OK):
        raise UsageError(
            f"cannot write {str(target)!r}",
            why=f"no permission to write in {str(folder)!r}",
            hint="name another place with -o",
        )
    return target


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Failures of the file system while writing ``path``, as a message."""
    try:
        yield
    except OSError as e:
        raise UsageError(
            f"cannot write {str(path)!r}", why=e.strerror or str(e), hint="name another place with -o"
        ) from e


def place(data: bytes, path: Path) -> None:
    """Write a file: all of it or none of it. A pipe or a device is written to, not replaced."""
    with writing(path):
        if _special(path):
            path.write_bytes(data)
            return
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            staged = Path(folder) / path.name
            staged.write_bytes(data)
            place_all(Path(folder), path)


def place_all(folder: Path, path: Path) -> None:
    """Move the files staged in ``folder`` beside ``path``; the one named like it last, so it never lacks the others."""
    with writing(path):
        for staged in sorted(folder.iterdir(), key=lambda f: f.name == path.name):
            os.replace(staged, path.parent / staged.name)


def _special(path: Path) -> bool:
    return path.exists() and not path.is_file() and not path.is_dir()
