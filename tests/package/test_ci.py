"""The action and the hook where they install pulsify for themselves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from tests import test_ci_files as files
from tests.cli.conftest import conv

pytestmark = pytest.mark.package

ROOT = Path(__file__).parents[2]

CONFIG = """
repos:
  - repo: {root}
    rev: {rev}
    hooks:
      - id: pulsify
        args: [m.onnx, --axis, {axis}, --pulse, "4"]
"""


def test_the_action_installs(tmp_path: Path) -> None:
    done = files.run("install", tmp_path)
    assert done.code == 0, done.said
    (folder,) = (tmp_path / "github_path").read_text().split()
    assert folder == str(tmp_path / "temp" / "pulsify" / "bin")
    onnx.save(conv(), tmp_path / "m.onnx")
    command = [f"{folder}/pulsify", "m.onnx", "--axis", "S", "--pulse", "4", "--quiet"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    assert (tmp_path / "m.p4.onnx").is_file()


def test_pre_commit(tmp_path: Path) -> None:
    """pre-commit clones this repository as it is committed, installs it, and runs the hook on a commit's files."""

    def git(*args: str, cwd: Path = tmp_path) -> str:
        return subprocess.run(["git", *args], cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()

    def hook(axis: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / ".pre-commit-config.yaml").write_text(CONFIG.format(root=ROOT, rev=rev, axis=axis))
        git("add", "-A")
        env = {**os.environ, "PRE_COMMIT_HOME": str(tmp_path / ".git" / "hooks-cache")}
        command = [sys.executable, "-m", "pre_commit", "run", "--all-files"]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)

    rev = git("rev-parse", "HEAD", cwd=ROOT)
    git("init", "--quiet")
    onnx.save(conv(), tmp_path / "m.onnx")
    onnx.save(conv(), tmp_path / "m.p4.onnx")
    done = hook("S")
    # The pulsed file was another one, so pre-commit says that the hook changed it.
    assert done.returncode == 1 and "files were modified by this hook" in done.stdout, done.stdout + done.stderr
    done = hook("S")
    assert done.returncode == 0 and "Passed" in done.stdout, done.stdout + done.stderr
    done = hook("T")
    assert done.returncode == 1 and "no axis 'T' in this model" in done.stdout
