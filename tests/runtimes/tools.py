"""What the tier installs for itself: npm packages into the cache, Chromium from Debian's packages where there is none."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from models.registry import cache

PACKAGES = Path(__file__).with_name("package.json")
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


def chromium() -> str:
    """A Chromium, installed as a Debian package where there is none and that is allowed."""
    found = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if found is None:
        assert shutil.which("apt-get") and os.geteuid() == 0, f"needs one of {', '.join(BROWSERS)}"
        _run("apt-get", "update", "-qq")
        _run("apt-get", "install", "-y", "-qq", "chromium")
        found = shutil.which("chromium")
    assert found is not None
    return found


def chromium_args(profile: Path) -> list[str]:
    """Headless, without a sandbox (a container's root has none), and without calls to the outside."""
    return [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
    ]  # fmt: skip


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}"
