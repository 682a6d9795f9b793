"""``pulsify completion``: the scripts, and what a shell is told."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, failed


def asked(words: str, at: int, cwd: Path) -> list[str]:
    env = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": str(at), "_PULSIFY_COMPLETE": "bash_complete"}
    code = "from pulsify_cli.main import run; run([])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=cwd)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script(cli: Cli, shell: str) -> None:
    done = cli("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert "_PULSIFY_COMPLETE" in done.out and f"{shell}_complete" in done.out
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=done.out, text=True, capture_output=True).returncode == 0


def test_another_shell(cli: Cli) -> None:
    failed(cli("completion", "tcsh"), 2, "'tcsh' is not one of 'bash', 'zsh', 'fish'")


def test_commands_files_options_and_values(tmp_path: Path) -> None:
    first = asked("pulsify ", 1, tmp_path)
    assert {"plain,run", "plain,bench", "plain,inspect"} <= set(first) and any(line.startswith("file,") for line in first)
    assert asked("pulsify model.onnx --ax", 2, tmp_path) == ["plain,--axis"]
    assert asked("pulsify run mod", 2, tmp_path) == ["file,mod"]
    assert asked("pulsify run --optimize s", 3, tmp_path) == ["plain,speed", "plain,size"]
    assert asked("pulsify model.onnx --pass pulse-v2-t", 3, tmp_path) == ["plain,pulse-v2-to-type"]


def test_in_a_real_bash(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    script = Path(sys.executable).with_name("pulsify")
    if bash is None or not script.exists():
        pytest.skip("needs bash and the installed program")
    line = 'compopt() { :; }; eval "$(pulsify completion bash)"; COMP_WORDS=(pulsify insp); COMP_CWORD=1; _pulsify_completion pulsify insp; echo "${COMPREPLY[@]}"'
    env = {**os.environ, "PATH": f"{script.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([bash, "-c", line], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert "inspect" in done.stdout.split(), done
