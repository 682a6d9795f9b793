"""What other people's CI takes from this repository: the GitHub Action, run by bash as a runner would, and the hook."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml

from tests.cli.conftest import conv

ROOT = Path(__file__).parents[1]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {s["id"]: s for s in ACTION["runs"]["steps"]}


@dataclass
class Ran:
    """A step that ran: its exit code, what it printed, its outputs and the job's summary."""

    code: int
    said: str
    outputs: dict[str, str]
    summary: str


def run(step: str, folder: Path, **inputs: str) -> Ran:
    """Run a step with the action's inputs, in ``folder``, with the files that a runner provides."""
    files = {n: folder / n.lower() for n in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_PATH")}
    for file in files.values():
        file.write_text("")
    (folder / "temp").mkdir(exist_ok=True)
    given = {n: str(i.get("default", "")) for n, i in ACTION["inputs"].items()} | inputs
    given |= {"github.action_path": str(ROOT)}

    def value(m: re.Match[str]) -> str:
        return given[m[1].removeprefix("inputs.")]

    env = {n: re.sub(r"\$\{\{ ([\w.]+) \}\}", value, text) for n, text in STEPS[step]["env"].items()}
    env |= {n: str(f) for n, f in files.items()} | {"RUNNER_TEMP": str(folder / "temp")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[step]["run"]]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True)
    outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
    return Ran(done.returncode, done.stdout + done.stderr, outputs, files["GITHUB_STEP_SUMMARY"].read_text())


def test_form() -> None:
    assert ACTION["runs"]["using"] == "composite"
    assert all(s["shell"] == "bash" for s in STEPS.values())
    assert "${{" not in "".join(s["run"] for s in STEPS.values()), "inputs reach scripts as variables only"
    used = set(re.findall(r"\$\{\{ inputs\.(\w+) \}\}", json.dumps(ACTION)))
    assert used == set(ACTION["inputs"])
    assert {o["value"] for o in ACTION["outputs"].values()} == {f"${{{{ steps.convert.outputs.{n} }}}}" for n in ACTION["outputs"]}


def test_a_model_that_streams(tmp_path: Path) -> None:
    onnx.save(conv(), tmp_path / "a model.onnx")
    done = run("convert", tmp_path, model="a model.onnx", axis="S", pulse="4", options="--optimize none")
    assert done.code == 0, done.said
    assert done.summary.startswith("### a model.onnx streams\n") and "delay" in done.summary and "worst error" in done.summary
    assert done.outputs["model"] == "a model.p4.onnx" and (tmp_path / done.outputs["model"]).is_file()
    assert json.loads(Path(done.outputs["report"]).read_text())["manifest"]["pulse"] == 4


def test_output_and_axes_of_inputs(tmp_path: Path) -> None:
    onnx.save(conv(), tmp_path / "m.onnx")
    done = run("convert", tmp_path, model="m.onnx", axis="x:2", pulse="3", output="out.onnx")
    assert done.code == 0 and done.outputs["model"] == "out.onnx" and (tmp_path / "out.onnx").is_file(), done.said


def test_a_pulsed_file_in_the_repository(tmp_path: Path) -> None:
    onnx.save(conv(), tmp_path / "m.onnx")
    assert run("convert", tmp_path, model="m.onnx", axis="S", pulse="4").code == 0
    check = "--check m.p4.onnx"
    done = run("convert", tmp_path, model="m.onnx", axis="S", pulse="4", options=check)
    assert done.code == 0 and done.outputs["model"] == "m.p4.onnx", done.said
    onnx.save(conv(pads=(1, 1)), tmp_path / "m.onnx")
    assert run("convert", tmp_path, model="m.onnx", axis="S", pulse="4", options=check).code != 0


@pytest.mark.parametrize("axis", ["nothing", "S; touch broken", "$(touch broken)"])
def test_a_model_that_does_not(tmp_path: Path, axis: str) -> None:
    onnx.save(conv(), tmp_path / "m.onnx")
    done = run("convert", tmp_path, model="m.onnx", axis=axis, pulse="4")
    assert done.code == 2
    assert "### m.onnx does not stream (exit code 2)" in done.summary and "why:" in done.summary
    assert re.search(r"^::error file=m.onnx::\S", done.said, re.M)
    assert not (tmp_path / "broken").exists() and done.outputs["model"] == ""


def test_hook() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["language"] == "python" and hook["pass_filenames"] is False
    assert re.search(hook["files"], "models/vad.onnx") and not re.search(hook["files"], "models/vad.onnx.data")


def test_hook_runs_as_pre_commit_would(tmp_path: Path) -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    onnx.save(conv(), tmp_path / "m.onnx")
    example = re.search(r"args: (\[.*\])", (ROOT / ".pre-commit-hooks.yaml").read_text())
    assert example is not None
    args: list[Any] = ["m.onnx", *yaml.safe_load(example[1])[1:]]
    entry = [Path(sys.executable).parent / hook["entry"].split()[0], *hook["entry"].split()[1:], *args]
    assert subprocess.run(entry, cwd=tmp_path, capture_output=True).returncode == 0
    assert (tmp_path / "m.p4.onnx").is_file()


def test_packages_are_all_listed() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = set(re.findall(r'"([\w.]+)"', re.search(r"^packages = \[(.*?)\]", text, re.M | re.S)[1]))  # type: ignore[index]
    found = {str(p.parent.relative_to(ROOT)).replace("/", ".") for f in ("pulsify", "cli") for p in (ROOT / f).rglob("__init__.py")}
    assert listed == {f"pulsify_{n}" if n.split(".")[0] == "cli" else n for n in found}
