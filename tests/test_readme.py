"""What the README and the docs say is run: commands with their output, Python blocks, links, tables."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]

#: What changes from run to run.
VARYING = [
    (re.compile(r"\d+\.\d+ s\b"), "<seconds>"),
    (re.compile(r"\d(?:\.\d+)?e-\d+ of"), "<error> of"),
    (re.compile(r"^(worst error +)0 of"), r"\1<error> of"),
]


@dataclass
class Block:
    """A fenced block; ``real`` if it needs a download."""

    language: str
    text: str
    real: bool


def blocks(page: Path) -> Iterator[Block]:
    for m in re.finditer(r"(<!-- test: real -->\n)?^```(\w+)\n(.*?)^```", page.read_text(), re.M | re.S):
        yield Block(m[2], m[3], bool(m[1]))


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each ``$ command`` and the lines it is said to print."""
    for part in re.split(r"^\$ ", text, flags=re.M)[1:]:
        command, *output = part.rstrip("\n").split("\n")
        yield command, output


def shell(command: str, cwd: Path) -> list[str]:
    """Run a command line as a reader would in the clone, but in another directory."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", command], cwd=cwd, env=env, capture_output=True, text=True)
    return (done.stdout + done.stderr).rstrip("\n").split("\n") if done.stdout or done.stderr else []


def plain(line: str) -> str:
    for pattern, word in VARYING:
        line = pattern.sub(word, line)
    return line


def run_all(real: bool, cwd: Path) -> int:
    names: dict[str, object] = {}
    ran = 0
    for block in blocks(README):
        if block.real is not real:
            continue
        if block.language == "console":
            for command, said in commands(block.text):
                got, ran = shell(command, cwd), ran + 1
                if said and said[-1] == "...":
                    said, got = said[:-1], got[: len(said) - 1]
                assert [plain(x) for x in got] == [plain(x) for x in said], command
        elif block.language == "python":
            exec(compile(block.text, "README.md", "exec"), names)
            ran += 1
    return ran


def test_commands_and_their_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_all(False, tmp_path) == 4


@pytest.mark.real
def test_commands_on_real_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_all(True, tmp_path) == 5
    (said,) = re.findall(r"print\(.*?\)  # (.*)", README.read_text())
    assert capsys.readouterr().out.strip() == said


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.M):
            assert re.search(rf"^{target}:", makefile, re.M), f"{page.name}: make {target}"


def test_options_exist() -> None:
    import click
    from pulsify_cli.main import main

    context = click.Context(main)
    commands = [main.get_command(context, name) for name in main.list_commands(context)]
    known = {o for c in commands if c is not None for p in c.params for o in p.opts} | {"--help", "--version"}
    for page in PAGES:
        for option in re.findall(r"`(--[a-z][a-z-]+)", page.read_text()):
            assert option in known, f"{page.name}: {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_operator_table_is_current() -> None:
    from docs.operators import PAGE, render

    assert PAGE.read_text() == render(), "run `make docs`"


def test_stage_table_is_current() -> None:
    from pulsify.pipeline import STAGES

    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", (ROOT / "docs/stages.md").read_text(), re.M)
    assert rows == [s.name for s in STAGES]


def test_exit_codes_agree() -> None:
    from pulsify_cli.main import EXIT_CODES

    from pulsify import errors

    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", (ROOT / "docs/refusals.md").read_text(), re.M)
    assert {getattr(errors, name).exit_code: int(code) for code, name in rows} == {int(c): int(c) for c, _ in rows}
    assert {0} | {int(code) for code, _ in rows} == {code for code, _ in EXIT_CODES}


def test_contract_page_names_every_key() -> None:
    from pulsify import convert
    from tests.test_runtime import PADDED

    manifest = convert(PADDED, axis="S", pulse=4).manifest
    page = (ROOT / "docs/contract.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|", page, re.M)
    assert rows == list(manifest)
    for part, key in (("inputs", "axis"), ("outputs", "axis"), ("states", "input")):
        listed = re.search(rf"^\| `{part}` \| one `\{{(.*?)\}}`", page, re.M)
        assert listed is not None and key in listed[1]
        assert listed[1].split(", ") == list(manifest[part][0])


@pytest.mark.parametrize("pulse", [2, 4, 10])
def test_client_of_the_contract_page(tmp_path: Path, pulse: int) -> None:
    """The program printed there streams any model with a fixed pulse."""
    from pulsify import convert
    from tests.test_runtime import BATCH, NAMES, PADDED

    (code,) = [b.text for b in blocks(ROOT / "docs/contract.md") if b.language == "python"]
    names: dict[str, object] = {}
    exec(compile(code, "contract.md", "exec"), names)
    path = convert(PADDED, axis="S", pulse=pulse).save(tmp_path / "m.onnx")
    for total in (1, 3, 12, 25):
        x = np.random.default_rng(0).standard_normal((1, 3, total)).astype(np.float32)
        got = names["stream"](str(path), {"x": x}, total)  # type: ignore[operator]
        for name, want in zip(NAMES, BATCH.run(None, {"x": x}), strict=True):
            assert got[name].shape == want.shape and np.allclose(got[name], want, atol=1e-5)
