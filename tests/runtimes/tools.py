"""What the tier installs for itself: npm packages into the cache; from Debian's packages what is not there."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

from models.registry import cache

PACKAGES = Path(__file__).with_name("package.json")
SERVER = "nvidia-pytriton==0.7.0"
HEADERS = "com.github.asus4.onnxruntime@0.4.9"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def node_modules() -> Path:
    """The folder that holds ``node_modules`` with the pinned packages, installed there if they are not.

    Install scripts are not run: that of onnxruntime-node only fetches GPU libraries, the CPU's are in the package.
    """
    assert shutil.which("npm"), "needs Node.js and npm"
    text = PACKAGES.read_text()
    folder = cache() / f"node-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if not (folder / "node_modules").is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".node-", dir=folder.parent) as staged:
            (Path(staged) / "package.json").write_text(text)
            _run("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", cwd=Path(staged))
            shutil.copytree(staged, folder, dirs_exist_ok=True, symlinks=True)
    return folder


def cpp_headers() -> Path:
    """The C++ headers of onnxruntime, which npm has inside a package for Unity; the rest of it (150 MB) is not kept."""
    folder = cache() / f"headers-{HEADERS.replace('@', '-')}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".headers-", dir=folder.parent) as staged:
            _run("npm", "pack", HEADERS, cwd=Path(staged))
            (file,) = Path(staged).glob("*.tgz")
            kept = Path(staged) / "kept"
            kept.mkdir()
            with tarfile.open(file) as archive:
                for member in archive:
                    if member.isfile() and re.search(r"/ios-arm64/.*/Headers/\w+\.h$", member.name):
                        data = archive.extractfile(member)
                        assert data is not None
                        (kept / Path(member.name).name).write_bytes(data.read())
            assert (kept / "onnxruntime_cxx_api.h").is_file()
            os.replace(kept, folder)
    return folder


def triton_server() -> tuple[Path, Path]:
    """Triton's server as PyTriton's wheel ships it (for x86-64, glibc 2.35 or later), and the folder of its libraries."""
    folder = cache() / SERVER.replace("==", "-")
    program = folder / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    if not program.is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".triton-", dir=folder.parent) as staged:
            _run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", staged, SERVER)
            (file,) = Path(staged).glob("*.whl")
            kept = Path(staged) / "kept"
            with zipfile.ZipFile(file) as archive:
                archive.extractall(kept)
            (kept / program.relative_to(folder)).chmod(0o755)
            os.replace(kept, folder)
    return program, folder / "nvidia_pytriton.libs"


def json_headers() -> None:
    """nlohmann/json where the compiler finds it, installed as a Debian package where it does not."""
    if not any((Path(p) / "nlohmann" / "json.hpp").is_file() for p in ("/usr/include", "/usr/local/include")):
        _apt("nlohmann-json3-dev", "needs the headers of nlohmann/json")


def chromium() -> str:
    """A Chromium, installed as a Debian package where there is none and that is allowed."""
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        _apt("chromium", f"needs one of {', '.join(BROWSERS)}")
        found = shutil.which("chromium")
    assert found is not None
    return found


def chromium_args(profile: Path) -> list[str]:
    """Headless, without a sandbox (a container's root has none), and without calls to the outside."""
    return [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
    ]  # fmt: skip


def _apt(package: str, why: str) -> None:
    assert shutil.which("apt-get") and os.geteuid() == 0, why
    _run("apt-get", "update", "-qq")
    _run("apt-get", "install", "-y", "-qq", package)


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}"
