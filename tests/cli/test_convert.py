"""The main job from the command line."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import numpy as np
import onnx
import pytest

from pulsify import StreamSession, contract
from tests.cli.conftest import Cli, conv, failed, untouched, write, wrong_conv
from tests.graphs import G


def test_writes_a_verified_model_beside_the_input(cli: Cli, model: Path) -> None:
    done = cli("model.onnx", "--axis", "S", "--pulse", "4")
    assert (done.code, done.err) == (0, "")
    untouched(model.parent, "model.onnx", "model.p4.onnx")
    manifest = contract.loads({p.key: p.value for p in onnx.load("model.p4.onnx").metadata_props})
    assert (manifest["pulse"], manifest["outputs"][0]["delay"]) == (4, 2)
    x = np.random.default_rng(0).standard_normal((1, 8, 11)).astype(np.float32)
    session = StreamSession("model.p4.onnx")
    got = np.concatenate([session.feed(x=x)["conv_2"], session.finish()["conv_2"]], axis=2)
    assert got.shape == (1, 8, 9)


def test_table(cli: Cli, model: Path) -> None:
    done = cli("model.onnx", "--axis", "S", "--pulse", "4")
    assert done.lines[0] == "model.onnx -> model.p4.onnx"
    assert done.lines[1] == "pulse         4 frames of S; any pulse is legal"
    assert done.lines[3].split("  ")[0] == "output" and "delay in S" in done.lines[3]
    assert done.lines[4].split() == ["conv_2", "2", "4", "2", "2", "2", "3", "S", "-", "2"]
    text = done.out
    assert "states        1, 64 bytes per stream (1 buffer)" in text
    assert "valid_frames  not needed" in text
    assert "assumes       S >= 2, so that S - 3 >= -1" in text or "assumes       S >= 3, so that" in text
    assert "verified      at S = " in text and "worst error   " in text and "time          converted in " in text
    assert all(line == line.rstrip() for line in done.lines) and "\x1b" not in text


def test_table_of_rates_several_outputs_and_static_ones(cli: Cli, tmp_path: Path) -> None:
    g = G()
    x, k = g.input("x", [1, 4, "S"]), g.input("k", [1])
    slow = g("Conv", x, g.weight(4, 4, 4), strides=[2])
    write(tmp_path / "m.onnx", g.model(slow, g("Tanh", x), g("Neg", k)))
    done = cli("m.onnx", "--pulse", "6")
    assert done.code == 0, done.err
    assert "every multiple of 2 is legal (time axis: S (the only candidate))" in done.lines[1]
    rows = {line.split()[0]: line.split() for line in done.lines[4:7]}
    assert rows["conv_2"][1:7] == ["2", "3", "1", "2", "2", "4"]
    assert rows["tanh_3"][1:7] == ["2", "6", "0", "0", "0", "1"]
    assert rows["neg_4"][1] == "-" and " ".join(rows["neg_4"][-3:]) == "no time axis"


def test_axes_of_inputs_are_declared_by_number(cli: Cli, tmp_path: Path) -> None:
    g = G()
    a, b = g.input("a", [1, 4, 50]), g.input("b", [1, 50, 4])
    write(tmp_path / "m.onnx", g.model(g("Add", a, g("Transpose", b, perm=[0, 2, 1]))))
    done = cli("m.onnx", "--axis", "a:2", "--axis", "b:-2", "--pulse", "4")
    assert done.code == 0, done.err


def test_dynamic_pulse(cli: Cli, model: Path) -> None:
    done = cli("model.onnx", "--pulse", "P")
    assert done.code == 0
    assert done.lines[:2] == [
        "model.onnx -> model.pP.onnx",
        "pulse         P frames of S, chosen per call; any pulse is legal (time axis: S (the only candidate))",
    ]
    untouched(model.parent, "model.onnx", "model.pP.onnx")


def test_output_is_named_and_replaced(cli: Cli, model: Path, tmp_path: Path) -> None:
    (tmp_path / "out.onnx").write_bytes(b"old")
    assert cli("model.onnx", "--pulse", "4", "-o", "out.onnx").code == 0
    onnx.checker.check_model("out.onnx")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(Path("out.onnx").stat().st_mode) == 0o666 & ~umask
    untouched(tmp_path, "model.onnx", "out.onnx")


def test_output_through_a_link(cli: Cli, model: Path, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "link.onnx").symlink_to(tmp_path / "store" / "real.onnx")
    assert cli("model.onnx", "--pulse", "4", "-o", "link.onnx").code == 0
    assert Path("link.onnx").is_symlink() and Path("store/real.onnx").is_file()


def test_a_device_is_written_to_not_replaced(cli: Cli, model: Path) -> None:
    assert cli("model.onnx", "--pulse", "4", "-o", "/dev/null").code == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_same_bytes_every_time(cli: Cli, model: Path) -> None:
    cli("model.onnx", "--pulse", "4", "-o", "a.onnx")
    cli("model.onnx", "--pulse", "4", "-o", "b.onnx")
    assert Path("a.onnx").read_bytes() == Path("b.onnx").read_bytes()


def test_quiet_prints_nothing(cli: Cli, model: Path) -> None:
    done = cli("model.onnx", "--pulse", "4", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "") and Path("model.p4.onnx").exists()


def test_no_verify_is_said(cli: Cli, model: Path) -> None:
    done = cli("model.onnx", "--pulse", "4", "--no-verify", "--report", "r.json")
    assert "verified      no (--no-verify)" in done.out
    assert json.loads(Path("r.json").read_text())["verification"] is None


def test_report(cli: Cli, model: Path) -> None:
    assert cli("model.onnx", "--pulse", "4", "--report", "r.json", "-q").code == 0
    report = json.loads(Path("r.json").read_text())
    assert report["exit_code"] == 0 and report["error"] is None
    assert (report["model"], report["output"], report["axis"]) == ("model.onnx", "model.p4.onnx", "S")
    assert report["legal_pulses"] == {"multiple_of": 1}
    assert report["states"] == {"count": 1, "bytes": 64, "kinds": {"buffer": 1}}
    assert report["outputs"] == [{"name": "conv_2", "delay_in_input_frames": 2}]
    assert report["verification"]["worst_error"] <= 1e-5 and len(report["verification"]["lengths"]) > 3
    assert report["seconds"]["convert"] > 0 and report["seconds"]["verify"] > 0
    assert report["manifest"]["outputs"][0]["length"] == "S - 2"
    assert report["conditions"][0]["node"]


def test_report_on_stdout_takes_the_place_of_the_table(cli: Cli, model: Path) -> None:
    assert cli("model.onnx", "--pulse", "4", "--report", "-").json["exit_code"] == 0


def test_report_of_a_failure(cli: Cli, model: Path) -> None:
    assert cli("model.onnx", "--axis", "T", "--report", "r.json").code == 2
    report = json.loads(Path("r.json").read_text())
    assert report["exit_code"] == 2 and report["error"]["what"] == "no axis 'T' in this model"
    assert report["error"]["try"][0] == "--axis S"


@pytest.mark.parametrize("where", ["beside", "elsewhere"])
def test_external_weights_stay_external(cli: Cli, tmp_path: Path, where: str) -> None:
    onnx.save(conv(), tmp_path / "big.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "sub").mkdir()
    out = "big.p4.onnx" if where == "beside" else "sub/out.onnx"
    done = cli("big.onnx", "--pulse", "4", "-o", out)
    assert done.code == 0, done.err
    assert Path(f"{out}.data").stat().st_size >= 8 * 8 * 3 * 4
    assert (tmp_path / "weights.bin").read_bytes() == before
    x = np.zeros((1, 8, 9), np.float32)
    assert StreamSession(out).feed(x=x)["conv_2"].shape == (1, 8, 6)
    untouched(
        tmp_path, "big.onnx", "weights.bin", "sub", *(["big.p4.onnx", "big.p4.onnx.data"] if where == "beside" else [])
    )


def test_external_weights_are_not_overwritten(cli: Cli, tmp_path: Path) -> None:
    onnx.save(conv(), tmp_path / "big.onnx", save_as_external_data=True, location="out.onnx.data", size_threshold=0)
    before = (tmp_path / "out.onnx.data").read_bytes()
    done = cli("big.onnx", "--pulse", "4", "-o", "out.onnx")
    assert done.code == 2 and "the batch model keeps its own weights there" in done.err
    assert (tmp_path / "out.onnx.data").read_bytes() == before


def test_the_model_can_be_changed_on_the_way(cli: Cli, tmp_path: Path) -> None:
    """One output kept, one input bound; the report and the dump see the changed model."""
    g = G()
    x, gain = g.input("x", [1, 4, "S"]), g.input("gain", [])
    y, other = g("Mul", x, gain), g("Softmax", x, axis=2)
    write(tmp_path / "m.onnx", g.model(y, other))
    refused = cli("m.onnx", "--pulse", "4")
    assert refused.code == 3 and f"the other outputs alone: --outputs {y}" in refused.err
    done = cli("m.onnx", "--pulse", "4", "--outputs", y, "--bind", "gain=2.5")
    assert done.code == 0, done.err
    session = StreamSession("m.p4.onnx")
    assert np.allclose(session.feed(x=np.ones((1, 4, 4), np.float32))[y], 2.5)
    dump = cli("m.onnx", "--pulse", "4", "--outputs", y, "--bind", "gain=2.5", "--pass", "declutter")
    assert dump.code == 0 and "Softmax" not in dump.out and "input %gain" not in dump.out


@pytest.mark.parametrize(
    "args", [("--bind", "gain"), ("--bind", "=3"), ("--state", "h0"), ("--outputs", "zz"), ("--bind", "q=1")]
)
def test_changes_that_cannot_be(cli: Cli, model: Path, args: tuple[str, str]) -> None:
    done = cli("model.onnx", "--pulse", "4", *args)
    assert done.code == 2 and args[1].split("=")[0] in done.err, done


def test_levels_of_optimization(cli: Cli, model: Path) -> None:
    for level in ("none", "speed", "size"):
        done = cli("model.onnx", "--pulse", "4", "--optimize", level, "-o", f"{level}.onnx")
        assert (done.code, done.err) == (0, "")
    done = cli("model.onnx", "--optimize", "fast")
    assert done.code == 2 and "'fast' is not one of 'none', 'speed', 'size'" in done.err


def test_operators_of_a_runtime(cli: Cli, tmp_path: Path) -> None:
    """Only on request; the report, ``inspect`` and ``--check`` know of it."""
    g = G()
    write(tmp_path / "dw.onnx", g.model(g("Conv", g.input("x", [1, 4, "S"]), g.weight(4, 1, 3), group=4, pads=[2, 0])))
    assert cli("dw.onnx", "--pulse", "1", "-o", "plain.onnx").code == 0
    done = cli("dw.onnx", "--pulse", "1", "--target", "onnxruntime", "-o", "own.onnx", "--report", "report.json")
    assert (done.code, done.err) == (0, "") and "verified" in done.out
    assert json.loads(Path("report.json").read_text())["manifest"]["needs"]["onnxruntime"] == "1.26"
    assert [n.op_type for n in onnx.load("own.onnx").graph.node] == ["CausalConvWithState"]
    assert "CausalConvWithState" not in cli("inspect", "plain.onnx").out and "needs" not in cli("inspect", "plain.onnx").out
    told = cli("inspect", "own.onnx").out
    assert "com.microsoft::CausalConvWithState" in told and "onnxruntime 1.26 or later: it has operators of that runtime's own" in told
    assert cli("dw.onnx", "--pulse", "1", "--target", "onnxruntime", "--check", "own.onnx").code == 0
    failed(cli("dw.onnx", "--check", "own.onnx"), 4, "name the options that the file was made with")
    done = cli("dw.onnx", "--target", "tract")
    assert done.code == 2 and "'tract' is not one of 'onnx', 'onnxruntime'" in done.err


def test_names_and_metadata_of_others(cli: Cli, model: Path) -> None:
    names = ["--state-names", "cached_{id}/new_cached_{id}", "--metadata", "sherpa-onnx"]
    assert cli(model, "--axis", "S", "--pulse", "4", *names, "-o", "m.onnx").code == 0
    pulsed = onnx.load("m.onnx")
    assert [i.name for i in pulsed.graph.input] == ["x", "cached_x.delay"]
    assert {p.key: p.value for p in pulsed.metadata_props}["T"] == "4"
    failed(cli(model, "--axis", "S", "--pulse", "4", "--state-names", "a/b"), 2, "--state-names a/b", "each with one {id}")


def test_triton_repository(cli: Cli, model: Path, tmp_path: Path) -> None:
    done = cli("model.onnx", "--axis", "S", "--pulse", "4", "--triton", "repository")
    assert done.code == 0 and "repository/model/1/model.onnx" in done.out
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        "model.onnx", "repository/model/1/model.onnx", "repository/model/config.pbtxt",
    ]  # fmt: skip
    failed(cli("model.onnx", "--axis", "S", "--triton", "r", "-o", "x.onnx"), 2, "both -o and --triton")
    (tmp_path / "file").write_text("")
    failed(cli("model.onnx", "--axis", "S", "--triton", "file"), 2, "cannot write")


def test_a_repository_that_would_be_wrong_is_not_written(
    cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong_conv(monkeypatch)
    failed(cli("model.onnx", "--axis", "S", "--pulse", "4", "--triton", "deep/repository"), 4, "disagrees")
    untouched(tmp_path, "model.onnx")
