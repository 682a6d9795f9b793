"""``--pass``: the graph after a stage."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulsify.pipeline import STAGES
from tests.cli.conftest import Cli, failed, untouched


@pytest.mark.parametrize("stage", [s.name for s in STAGES])
def test_every_stage(cli: Cli, model: Path, stage: str) -> None:
    done = cli("model.onnx", "--axis", "S", "--pulse", "4", "--pass", stage)
    assert (done.code, done.err) == (0, "")
    assert done.lines[0].startswith(f"pulsify 1 stage={stage} symbol=S")
    untouched(model.parent, "model.onnx")


def test_into_a_file(cli: Cli, model: Path) -> None:
    done = cli("model.onnx", "--pulse", "4", "--pass", "pulse-v2", "-o", "dump.txt")
    assert (done.code, done.out) == (0, "")
    text = Path("dump.txt").read_text()
    assert "PulseV2Buffer(%x) axis=2" in text
    assert text == cli("model.onnx", "--pulse", "4", "--pass", "pulse-v2").out


def test_list(cli: Cli) -> None:
    done = cli("--pass", "list")
    assert done.code == 0
    assert [line.split("  ")[0] for line in done.lines] == [s.name for s in STAGES]
    assert done.out == cli("no-such-model.onnx", "--pass", "list").out


@pytest.mark.parametrize(("typo", "meant"), [("pulse2", "pulse-v2"), ("declutterr", "declutter"), ("types", "type")])
def test_typo(cli: Cli, model: Path, typo: str, meant: str) -> None:
    failed(
        cli("model.onnx", "--pass", typo),
        2,
        f"no stage '{typo}'",
        f"try:  did you mean --pass {meant}?",
        "pulse-v2-to-type",
    )


def test_nothing_like_it(cli: Cli, model: Path) -> None:
    failed(cli("model.onnx", "--pass", "zzz"), 2, "no stage 'zzz'", "try:  --pass list")


def test_not_over_the_model(cli: Cli, model: Path) -> None:
    before = model.read_bytes()
    failed(cli("model.onnx", "--pass", "type", "-o", "model.onnx"), 2, "the output 'model.onnx' is the input")
    assert model.read_bytes() == before


def test_stages_before_a_refusal_can_be_seen(cli: Cli, tmp_path: Path) -> None:
    from tests.cli.conftest import write
    from tests.graphs import G

    g = G()
    write(tmp_path / "m.onnx", g.model(g("Softmax", g.input("x", ["S", 8]), axis=0)))
    assert cli("m.onnx", "--pulse", "4", "--pass", "declutter").code == 0
    failed(cli("m.onnx", "--pulse", "4", "--pass", "pulse-v2"), 3, "Softmax")
