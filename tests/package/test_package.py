"""The wheel and the sdist, installed into empty environments of every Python at hand that the metadata allows."""

from __future__ import annotations

import email
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from models import chain
from tests.cli.conftest import write

pytestmark = pytest.mark.package

ROOT = Path(__file__).parents[2]
VERSIONS = [f"3.{minor}" for minor in range(10, 20)]


def pythons() -> dict[str, str]:
    """Interpreters by version: on the path, and those of pyenv."""
    found = {}
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for version in VERSIONS:
        installed = [str(p / "bin" / "python") for p in sorted(pyenv.glob(f"{version}.*"))]
        path = shutil.which(f"python{version}")
        candidates = [*installed, *([path] if path else [])]
        working = [c for c in candidates if _says(c) == version]
        if working:
            found[version] = working[0]
    return found


def _says(python: str) -> str:
    script = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", script], capture_output=True, text=True)
    return done.stdout.strip()


PYTHONS = pythons() or {f"{sys.version_info[0]}.{sys.version_info[1]}": sys.executable}


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    return folder


def run(*command: str | os.PathLike[str], cwd: Path | None = None) -> str:
    env = {n: v for n, v in os.environ.items() if n not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def test_contents(built: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [n for n in names if n.endswith(".dist-info/METADATA")]
        told = email.message_from_bytes(archive.read(metadata))
    sources = {str(p.relative_to(ROOT)) for folder in ("pulsify", "cli") for p in (ROOT / folder).rglob("*.py")}
    here = {f"pulsify_{s}" if s.startswith("cli/") else s for s in sources}
    assert here <= names and "pulsify/py.typed" in names
    assert {n.split("/")[0] for n in names} - {metadata.split("/")[0]} == {"pulsify", "pulsify_cli"}
    assert told["Requires-Python"] == ">=3.10"
    assert {"audio", "plots", "docs"} <= set(told.get_all("Provides-Extra") or [])
    assert "# pulsify" in str(told.get_payload())
    with tarfile.open(sdist) as archive:
        inside = {n.split("/", 1)[1] for n in archive.getnames() if "/" in n}
    assert sources | {"pyproject.toml", "README.md", "pulsify/py.typed"} <= inside


@pytest.mark.parametrize("version", list(PYTHONS))
def test_installed_into_an_empty_environment(built: Path, version: str, tmp_path: Path) -> None:
    run(PYTHONS[version], "-m", "venv", tmp_path / "env")
    python, command = tmp_path / "env" / "bin" / "python", tmp_path / "env" / "bin" / "pulsify"
    (wheel,) = built.glob("*.whl")
    run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel)
    write(tmp_path / "m.onnx", chain.build(channels=8, depth=4))
    assert run(command, "--version") == run(python, "-m", "pulsify", "--version")
    said = run(command, "m.onnx", "--axis", "S", "--pulse", "4", cwd=tmp_path)
    assert "worst error" in said
    script = """if True:
        import numpy as np, onnxruntime as ort, pulsify
        x = np.random.default_rng(0).standard_normal([d if isinstance(d, int) else 150
            for d in ort.InferenceSession("m.onnx").get_inputs()[0].shape]).astype(np.float32)
        name = ort.InferenceSession("m.onnx").get_inputs()[0].name
        stream = pulsify.StreamSession("m.p4.onnx")
        (axis,) = [o["axis"] for o in stream.manifest["outputs"]]
        parts = [*stream.feed({name: x}).values(), *stream.finish().values()]
        (want,) = ort.InferenceSession("m.onnx").run(None, {name: x})
        print(np.allclose(np.concatenate(parts, axis), want, atol=1e-4), pulsify.__file__)
    """
    same, where = run(python, "-c", script, cwd=tmp_path).split()
    assert same == "True" and where.startswith(str(tmp_path))
