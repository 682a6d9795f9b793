"""Every exit code, its message, and that nothing is left behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.cli.conftest import Cli, conv, failed, untouched, write, wrong_conv
from tests.graphs import G

# -- 5: the model file ------------------------------------------------------------------------------------------------


def test_missing_file(cli: Cli) -> None:
    failed(
        cli("absent.onnx", "--axis", "S"), 5, "cannot read model 'absent.onnx'", "No such file", "try:  check the path"
    )


def test_directory(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "d.onnx").mkdir()
    failed(cli("d.onnx"), 5, "cannot read model 'd.onnx'", "Is a directory")


@pytest.mark.parametrize("data", [b"", b"hello, this is text\n", b"\x00" * 64, b"\x08\x08"])
def test_not_an_onnx_file(cli: Cli, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(data)
    failed(cli("m.onnx"), 5, "cannot read model 'm.onnx'", f"it is not a complete ONNX model ({len(data)} bytes")
    untouched(tmp_path, "m.onnx")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_truncated_file(cli: Cli, model: Path, part: float) -> None:
    data = model.read_bytes()
    model.write_bytes(data[: int(len(data) * part)])
    failed(cli("model.onnx", "--axis", "S"), 5, "cannot read model 'model.onnx'")


def test_missing_external_weights(cli: Cli, tmp_path: Path) -> None:
    onnx.save(conv(), tmp_path / "big.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    failed(cli("big.onnx", "--pulse", "4"), 5, "weights.bin")
    untouched(tmp_path, "big.onnx")


def test_opset_out_of_reach(cli: Cli, tmp_path: Path) -> None:
    g = G(opset=7)
    write(tmp_path / "m.onnx", g.model(g("Relu", g.input("x", ["S", 2]))))
    failed(cli("m.onnx"), 5, "cannot take opset 7", "9 to")


def test_invalid_model(cli: Cli, tmp_path: Path) -> None:
    g = G()
    g.input("x", ["S", 2])
    write(tmp_path / "m.onnx", g.model(g("Relu", "nobody")))
    failed(
        cli("m.onnx", "--pulse", "4"),
        5,
        "the model is invalid",
        "Relu node 'n_relu_1' takes 'nobody', which nothing makes",
    )


# -- 2: usage ---------------------------------------------------------------------------------------------------------


def test_no_model(cli: Cli) -> None:
    failed(cli("--pulse", "4"), 2, "no model given", "pulsify --help")


def test_unknown_option(cli: Cli) -> None:
    failed(cli("m.onnx", "--puls", "4"), 2, "no such option: --puls", "did you mean --pulse?")


def test_option_without_value(cli: Cli) -> None:
    failed(cli("m.onnx", "--pulse"), 2, "--pulse")


def test_too_many_models(cli: Cli) -> None:
    failed(cli("a.onnx", "b.onnx"), 2, "b.onnx")


def test_misspelt_command(cli: Cli) -> None:
    failed(cli("opss"), 2, "no command and no file 'opss'", "did you mean pulsify ops?")


def test_no_such_axis(cli: Cli, model: Path) -> None:
    failed(
        cli("model.onnx", "--axis", "T", "--pulse", "4"),
        2,
        "no axis 'T' in this model",
        "x [1, 8, S]",
        "try:  --axis S",
    )
    failed(cli("model.onnx", "--axis", "x:3", "--pulse", "4"), 2, "no axis 3 on input 'x'", "an axis from 0 to 2")
    failed(cli("model.onnx", "--axis", "y:0", "--pulse", "4"), 2, "no input 'y' in this model")
    untouched(model.parent, "model.onnx")


def test_which_axis(cli: Cli, tmp_path: Path) -> None:
    g = G()
    write(tmp_path / "m.onnx", g.model(g("Relu", g.input("x", ["T", "U"]))))
    failed(cli("m.onnx", "--pulse", "4"), 2, "which axis is time?", "--axis T or --axis U")


def test_no_symbolic_axis(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "m.onnx", conv(time=30))
    failed(cli("m.onnx", "--pulse", "4"), 2, "no input has a symbolic axis", "try:  --axis x:2 declares an axis")


def test_two_time_axes_on_one_input(cli: Cli, model: Path, tmp_path: Path) -> None:
    failed(cli("model.onnx", "--axis", "x:1", "--axis", "x:2"), 2, "two time axes on input 'x': 1 and 2")
    g = G()
    write(tmp_path / "m.onnx", g.model(g("Relu", g.input("x", ["S", 8, "S"]))))
    failed(
        cli("m.onnx", "--axis", "S", "--pulse", "4"),
        3,
        "cannot pulsify input 'x' on axes 0, 2",
        "it has the stream symbol S on 2 axes",
    )


def test_two_symbols(cli: Cli, model: Path) -> None:
    failed(cli("model.onnx", "--axis", "S", "--axis", "T"), 2, "2 stream symbols given")


@pytest.mark.parametrize("pulse", ["0", "-1", "-160"])
def test_pulse_below_one(cli: Cli, model: Path, pulse: str) -> None:
    failed(cli("model.onnx", "--axis", "S", "--pulse", pulse), 2, f"a pulse of {pulse} frames", "a pulse of 1 or more")


@pytest.mark.parametrize("pulse", ["1.5", "4 4", "", "4x", "-P"])
def test_pulse_that_is_none(cli: Cli, model: Path, pulse: str) -> None:
    failed(cli("model.onnx", "--axis", "S", "--pulse", pulse), 2, f"a pulse of {pulse!r}", "whole number of frames")


def test_pulse_named_like_the_axis(cli: Cli, model: Path) -> None:
    failed(cli("model.onnx", "--axis", "S", "--pulse", "S"), 2, "the pulse cannot be named 'S'")


def test_pulse_not_a_multiple(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "m.onnx", conv(stride=2))
    failed(
        cli("m.onnx", "--axis", "S", "--pulse", "5"), 3,
        "cannot pulsify Conv node", "a pulse of 5 frames does not split into strides of 2", "a multiple of 2 (nearest: 4, 6)",
    )  # fmt: skip
    untouched(tmp_path, "m.onnx")


def test_pulse_not_a_multiple_of_the_whole_model(cli: Cli, tmp_path: Path) -> None:
    """The multiples named are legal for the model, not only for the node that complains."""
    g = G()
    x = g("Conv", g.input("x", [1, 8, "S"]), g.weight(8, 8, 3), strides=[2])
    write(tmp_path / "m.onnx", g.model(g("Conv", x, g.weight(8, 8, 3), strides=[3])))
    for pulse in ("2", "3", "4"):
        failed(cli("m.onnx", "--axis", "S", "--pulse", pulse), 3, "try:  a pulse that is a multiple of 6 (nearest: ")
    assert cli("m.onnx", "--axis", "S", "--pulse", "6").code == 0


def test_output_is_the_input(cli: Cli, model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    failed(
        cli("model.onnx", "--pulse", "4", "-o", "model.onnx"),
        2,
        "the output 'model.onnx' is the input",
        "batch model would be lost",
    )
    failed(cli("model.onnx", "--pulse", "4", "-o", f"../{tmp_path.name}/model.onnx"), 2, "is the input")
    os.link(model, tmp_path / "hard.onnx")
    (tmp_path / "soft.onnx").symlink_to(model)
    failed(cli("model.onnx", "--pulse", "4", "-o", "hard.onnx"), 2, "is the input")
    failed(cli("model.onnx", "--pulse", "4", "-o", "soft.onnx"), 2, "is the input")
    failed(cli("model.onnx", "--pulse", "4", "--report", "model.onnx"), 2, "is the input")
    assert model.read_bytes() == before


def test_output_cannot_be_written(cli: Cli, model: Path, tmp_path: Path) -> None:
    failed(
        cli("model.onnx", "-o", "no/such/out.onnx"), 2, "cannot write", "'no/such' does not exist", "mkdir -p no/such"
    )
    failed(cli("model.onnx", "-o", "model.onnx/out.onnx"), 2, "cannot write")
    (tmp_path / "dir").mkdir()
    failed(cli("model.onnx", "-o", "dir"), 2, "it is a directory", "a file in it")
    failed(cli("model.onnx", "-o", ""), 2, "it names no file")
    failed(cli("model.onnx", "-o", "/proc/out.onnx"), 2, "cannot write '/proc/out.onnx'")
    failed(cli("model.onnx", "--pulse", "4", "-q", "--report", "no/r.json"), 2, "cannot write 'no/r.json'")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_output_without_permission(cli: Cli, model: Path, tmp_path: Path) -> None:
    (tmp_path / "ro").mkdir(mode=0o500)
    failed(cli("model.onnx", "-o", "ro/out.onnx"), 2, "no permission to write in 'ro'")


def test_permission_is_looked_at(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *a: False)
    failed(cli("model.onnx", "-o", "out.onnx"), 2, "cannot write 'out.onnx'", "no permission to write in '.'")


def test_a_full_disk_leaves_nothing(cli: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        with open(self, "wb") as f:
            f.write(data[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    failed(cli("model.onnx", "--pulse", "4"), 2, "cannot write 'model.p4.onnx'", "No space left on device")
    untouched(tmp_path, "model.onnx")


# -- 3: refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("domain", "name"), [("", "Sorcery"), ("my.company", "my.company::Sorcery")])
def test_unknown_operator(cli: Cli, tmp_path: Path, domain: str, name: str) -> None:
    g = G()
    write(tmp_path / "m.onnx", g.model(g("Sorcery", g.input("x", ["S", 8]), domain=domain)))
    failed(
        cli("m.onnx", "--pulse", "4"), 3, "cannot pulsify Sorcery node 'n_sorcery_1'", f"operator {name} is not known",
        "wire: x [S, 8], time axis 0", "try:  `pulsify ops` lists the operators",
    )  # fmt: skip
    untouched(tmp_path, "m.onnx")


def test_refusal_over_time(cli: Cli, tmp_path: Path) -> None:
    g = G()
    write(tmp_path / "m.onnx", g.model(g("Softmax", g.input("x", ["S", 8]), axis=0)))
    failed(cli("m.onnx", "--pulse", "4"), 3, "cannot pulsify Softmax node", "on axis 0", "why:", "wire:", "try:")


# -- 4: verification --------------------------------------------------------------------------------------------------


def test_a_wrong_model_is_not_written(cli: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_conv(monkeypatch)
    failed(
        cli("model.onnx", "--pulse", "4"),
        4,
        "the pulsed model disagrees with the batch model on output 'conv_2'",
        "please report",
    )
    untouched(tmp_path, "model.onnx")


def test_a_wrong_model_does_not_replace_a_right_one(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("model.onnx", "--pulse", "4").code == 0
    before = Path("model.p4.onnx").read_bytes()
    wrong_conv(monkeypatch)
    assert cli("model.onnx", "--pulse", "4", "--report", "r.json").code == 4
    assert Path("model.p4.onnx").read_bytes() == before
    assert '"kind": "VerificationError"' in Path("r.json").read_text()


def test_a_wrong_model_with_external_weights(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(conv(), tmp_path / "big.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    wrong_conv(monkeypatch)
    from pulsify.api import Conversion

    monkeypatch.setattr(Conversion, "_external", lambda self: True)
    failed(cli("big.onnx", "--pulse", "4"), 4, "disagrees")
    untouched(tmp_path, "big.onnx", "w.bin")


# -- 70: ours ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["declutter", "pulse_v2", "pulse_v2_declutter", "emit"])
def test_internal_error_hands_over_the_last_good_graph(
    cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch, stage: str, tmp_path: Path
) -> None:
    from pulsify import pipeline

    def broken(*args: Any) -> Any:
        raise KeyError("a promise")

    monkeypatch.setattr(pipeline, stage, broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    name = stage.replace("_", "-")
    done = cli("model.onnx", "--axis", "S", "--pulse", "4")
    failed(
        done,
        70,
        f"internal error in stage {name}",
        "why:  KeyError: 'a promise'",
        "this is a bug of pulsify, not of your model",
    )
    names = [s.name for s in pipeline.STAGES]
    good = names[names.index(name) - 1]
    (dump,) = tmp_path.glob(f"pulsify-{good}-*.txt")
    assert f"the last good graph (after {good}) is in {dump}" in done.err
    assert dump.read_text().startswith(f"pulsify 1 stage={good} ")
    untouched(tmp_path, "model.onnx", dump.name)


def test_internal_error_outside_the_stages(
    cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from pulsify.stages import verify

    def broken(*args: Any) -> Any:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(verify, "lengths_to_try", broken)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    failed(cli("model.onnx", "--pulse", "4"), 70, "ZeroDivisionError: oops", "(after emit)")
    assert not (tmp_path / "model.p4.onnx").exists()


def test_debug_shows_the_traceback(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pulsify import pipeline

    def broken(*args: Any) -> Any:
        raise KeyError("a promise")

    monkeypatch.setattr(pipeline, "emit", broken)
    done = cli("model.onnx", "--pulse", "4", "--debug")
    assert done.code == 70 and "Traceback" in done.err and "in broken" in done.err


def test_interrupt(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pulsify import pipeline

    def interrupted(*args: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "emit", interrupted)
    done = cli("model.onnx", "--pulse", "4")
    assert (done.code, done.err.strip()) == (130, "interrupted")
    untouched(tmp_path, "model.onnx")
