"""The program around the commands: help, version, discovery, colours, pipes, start-up time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Cli, conv, write


def program(*args: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """The installed program, as another process."""
    return subprocess.run(
        [sys.executable, "-m", "pulsify", *args], capture_output=True, text=True, cwd=cwd, env={**os.environ, **env}
    )


def test_help(cli: Cli) -> None:
    done = cli("--help")
    assert done.code == 0 and done.err == ""
    for text in (
        "pulsify MODEL.onnx --axis S --pulse 4",
        "--axis",
        "--pulse",
        "--pass",
        "--report",
        "--no-verify",
        "Commands:",
        "ops",
    ):
        assert text in done.out
    codes = done.out.split("Exit codes:")[1].split("Examples:")[0]
    assert [line.split()[0] for line in codes.splitlines() if line[2:3].isdigit()] == ["0", "2", "3", "4", "5", "70"]
    assert cli("-h").out == done.out
    assert cli().out.strip() == done.out.strip()
    assert "--pulse" in cli("convert", "--help").out


def test_version(cli: Cli) -> None:
    from pulsify import __version__

    assert cli("--version").out == f"pulsify {__version__}\n"


def test_the_command_may_be_named_and_options_may_come_first(cli: Cli, model: Path) -> None:
    assert cli("convert", "model.onnx", "--pulse", "4", "-q").code == 0
    assert cli("--pulse", "4", "--axis", "S", "-q", "model.onnx").code == 0


def test_ops(cli: Cli) -> None:
    from pulsify.ops._rule import registry

    rows = cli("ops", "--json").json
    known = {(domain or "ai.onnx", op) for (domain, op), rule in registry().items() if rule.status != "pseudo"}
    assert {(r["domain"], r["operator"]) for r in rows} == known
    assert {r["status"] for r in rows} <= {"streams", "conditions", "refused"}
    assert all(r["note"] for r in rows if r["status"] != "streams"), "a condition is said"
    table = cli("ops").lines
    assert table[0].split() == ["operator", "domain", "status", "note"] and len(table) == len(rows) + 1
    assert any(line.split()[:3] == ["Conv", "ai.onnx", "streams"] for line in table)


def test_as_a_module_and_a_program(tmp_path: Path) -> None:
    write(tmp_path / "m.onnx", conv())
    done = program("m.onnx", "--pulse", "4", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and "m.p4.onnx" in done.stdout
    assert program("gone.onnx", cwd=tmp_path).returncode == 5
    script = Path(sys.executable).with_name("pulsify")
    if script.exists():
        assert subprocess.run([script, "--version"], capture_output=True).returncode == 0


def test_starts_fast_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pulsify_cli.main import run; run(['--help']);"
        "print([m for m in ('numpy', 'onnx', 'onnx_ir', 'onnxruntime', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout[-200:] + done.stderr
    best = 1e9
    for _ in range(3):
        # Processor time: what else the machine does is no matter of ours.
        before = os.times()
        program("--help")
        after = os.times()
        best = min(best, after.children_user + after.children_system - before.children_user - before.children_system)
    assert best < 0.3, f"pulsify --help takes {best:.2f} s"


def test_streaming_does_not_import_the_compiler() -> None:
    code = (
        "import sys, pulsify; pulsify.StreamSession;"
        "print([m for m in ('onnx', 'onnx_ir', 'pulsify.pipeline', 'click', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_closed_pipe_is_no_failure(tmp_path: Path) -> None:
    write(tmp_path / "m.onnx", conv())
    command = f"{sys.executable} -m pulsify ops | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.startswith("operator")


@pytest.mark.parametrize("no_color", [False, True])
def test_colours_on_a_terminal_only_and_not_with_no_color(tmp_path: Path, no_color: bool) -> None:
    pty = pytest.importorskip("pty")
    write(tmp_path / "m.onnx", conv())
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")} | {
        "TERM": "xterm",
        "COLUMNS": "100",
    }
    if no_color:
        env["NO_COLOR"] = "1"
    seen = b""
    for args in (["m.onnx", "--pulse", "4"], ["gone.onnx"]):
        parent, child = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "pulsify", *args], stdin=child, stdout=child, stderr=child, cwd=tmp_path, env=env
        )
        os.close(child)
        try:
            while chunk := os.read(parent, 4096):
                seen += chunk
        except OSError:
            pass
        process.wait()
        os.close(parent)
    text = seen.decode()
    assert "conv_2" in text and "cannot read model" in text
    assert ("\x1b[31m" in text) is not no_color, text


def test_report_is_plain_json_from_a_process(tmp_path: Path) -> None:
    write(tmp_path / "m.onnx", conv())
    done = program("m.onnx", "--pulse", "4", "--report", "-", cwd=tmp_path)
    assert json.loads(done.stdout)["manifest"]["version"] == 1


@pytest.mark.parametrize(
    ("args", "signs"),
    [
        (["run", "m.onnx", "x.npy", "--pulse", "1", "--rate", "100"], ["streaming x.npy", "x real time"]),
        (["diff", "m.onnx", "declutter", "pulse-v2", "--pulse", "4"], ["\x1b[31m-", "\x1b[32m+", "\x1b[36m@@"]),
    ],
)
def test_progress_and_colours_on_a_terminal(tmp_path: Path, args: list[str], signs: list[str]) -> None:
    pty = pytest.importorskip("pty")
    write(tmp_path / "m.onnx", conv())
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 4000), np.float32))
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")} | {"TERM": "xterm", "COLUMNS": "120"}
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "pulsify", *args]
    process = subprocess.Popen(command, stdin=child, stdout=child, stderr=child, cwd=tmp_path, env=env)
    os.close(child)
    seen = b""
    try:
        while chunk := os.read(parent, 4096):
            seen += chunk
    except OSError:
        pass
    assert process.wait() == 0
    os.close(parent)
    text = seen.decode()
    assert all(sign in text for sign in signs), text
    piped = program(*args, cwd=tmp_path)
    assert piped.stderr == "" and "\x1b" not in piped.stdout
