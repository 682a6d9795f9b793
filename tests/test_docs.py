"""The pages of docs/: their commands and programs run as printed, the drawing is current, the guide is followed literally."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import yaml
from pulsify_cli.main import run

from docs import drawing
from docs.links import broken
from tests.cli.conftest import conv
from tests.test_readme import ROOT, blocks, commands, plain, shell

DOCS = ROOT / "docs"
#: Pages whose blocks are run here; the contract and the guide have tests of their own, the others have none to run.
RUN = ("ci", "index", "concepts", "choosing-a-pulse", "command-line", "refusals", "runtimes", "serving")


def execute(command: str, cwd: Path) -> list[str]:
    """A command of a page: ``pulsify`` in this process, where nothing asks for a shell."""
    words = shlex.split(command)
    if words[0] != "pulsify" or set(words) & set("|<>;&"):
        return shell(command, cwd)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        run(words[1:])
    return said.getvalue().rstrip("\n").split("\n") if said.getvalue() else []


@pytest.mark.parametrize("page", RUN)
def test_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(DOCS / f"{page}.md"):
        if block.language == "console":
            for command, said in commands(block.text):
                got = execute(command, tmp_path)
                if said and said[-1] == "...":
                    said, got = said[:-1], got[: len(said) - 1]
                assert [plain(x) for x in got] == [plain(x) for x in said], command
        elif block.language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block.text, f"{page}.md", "exec"), names)
            # What a program prints stands behind it, as comments.
            comments = re.search(r"((?:^# ?.*\n)*)\Z", block.text, re.M)
            assert comments is not None
            want = [line[2:] for line in comments[1].splitlines()]
            assert [_digits(x) for x in printed.getvalue().splitlines()] == [_digits(x) for x in want]


def _digits(line: str) -> str:
    """Numbers that depend on the processor's arithmetic, to three digits."""
    line = re.sub(r"\boff by \S+ at most", "off by <rounding> at most", line)
    return re.sub(r"\d+\.\d{3,}(?:e-?\d+)?", lambda m: f"{float(m[0]):.3g}", line)


def test_the_form_of_an_internal_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pulsify import pipeline

    def fail(*args: object) -> None:
        raise KeyError("w")

    onnx.save(conv(), tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "declutter", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    got = "\n".join(execute("pulsify m.onnx --axis S --pulse 4", tmp_path))
    (text,) = [b.text for b in blocks(DOCS / "refusals.md") if b.language == "text"]
    assert re.sub(r"in /\S+/pulsify-type-\w+", "in <dump>", got) == re.sub(r"in /\S+/pulsify-type-\w+", "in <dump>", text.rstrip())


def test_every_error_has_an_example() -> None:
    from pulsify import errors

    text = (DOCS / "refusals.md").read_text()
    shown = set(re.findall(r"^\*\*`(\w+)`\*\*:", text, re.M))
    classes = {n for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, errors.PulsifyError)}
    assert shown == classes - {"PulsifyError"}


def test_the_guide_is_followed_literally(tmp_path: Path) -> None:
    """Both files of docs/adding-an-operator.md, put where it says, in a copy of the repository: its test passes there."""
    text = (DOCS / "adding-an-operator.md").read_text()
    places = re.findall(r"As `((?:pulsify|tests)/ops/\w+\.py)`:", text)
    sources = [b.text for b in blocks(DOCS / "adding-an-operator.md") if b.language == "python"]
    assert len(places) == len(sources) == 2 and len(sources[0].splitlines()) <= 40
    for name in ("pulsify", "cli", "models", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for place, source in zip(places, sources, strict=True):
        assert not (ROOT / place).exists()
        (tmp_path / place).write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", places[1]]
    env = {"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and " passed" in done.stdout and "failed" not in done.stdout, done.stdout[-2000:] + done.stderr
    where = subprocess.run(
        [sys.executable, "-c", "import pulsify; print(pulsify.__file__)"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert where.stdout.startswith(str(tmp_path))


def test_the_drawing_is_current() -> None:
    assert drawing.FILE.read_text() == drawing.render(), "run `make docs`"


def test_every_page_is_in_the_navigation() -> None:
    nav = re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert len(nav) == len(set(nav))
    assert {p.name for p in DOCS.glob("*.md")} <= set(nav), "a page that is not in the nav of mkdocs.yml"


def test_blocks_of_the_ci_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):  # of a make that runs the tests
        monkeypatch.delenv(name, raising=False)
    by_language = {lang: [b.text for b in blocks(DOCS / "ci.md") if b.language == lang] for lang in ("yaml", "make")}
    action, hook = (yaml.safe_load(text) for text in by_language["yaml"])
    inputs = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    assert set(action[0]["with"]) <= set(inputs)
    assert re.findall(r"^\| `(\w+)` \|", (DOCS / "ci.md").read_text(), re.M) == list(inputs)
    (defined,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook[0]["hooks"][0]["id"] == defined["id"]
    onnx.save(conv(), tmp_path / "vad.onnx")
    (tmp_path / "Makefile").write_text(by_language["make"][0])
    assert shell("make -s vad.p4.onnx", tmp_path) == []
    assert (tmp_path / "vad.p4.onnx").is_file()
    assert "up to date" in shell("make vad.p4.onnx", tmp_path)[0]


def test_links_of_a_site_are_followed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "index.html").write_text('<h1 id="top">x</h1><a href="../a.html#b">')
    (tmp_path / "a.html").write_text(
        '<a href="sub/">1</a><a href="sub#top">2</a><a href="#b">3</a><p id="b"><a href="https://x.example/y">4</a>'
        '<a href="sub#no">5</a><a href="none.html">6</a><img src="none.svg">'
    )
    assert list(broken(tmp_path)) == ["a.html: sub#no (no such place in the page)", "a.html: none.html", "a.html: none.svg"]
