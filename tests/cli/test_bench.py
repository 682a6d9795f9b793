"""``pulsify bench``: the table of costs, for people and machines."""

from __future__ import annotations

from pathlib import Path

import pytest
from onnx import TensorProto

from tests.cli.conftest import Cli, conv, failed, write
from tests.graphs import G

QUICK = ("--seconds", "0.02")


def test_the_table(cli: Cli, model: Path) -> None:
    done = cli("bench", "model.onnx", "--axis", "S", "--pulse", "1", "--pulse", "8", *QUICK)
    assert (done.code, done.err) == (0, "")
    assert done.lines[0] == "model.onnx along S, one stream on one thread"
    assert done.lines[1].split() == ["pulse", "calls", "median", "p99", "per", "frame", "latency", "state", "bytes"]
    assert [line.split()[0] for line in done.lines[2:4]] == ["1", "8"]
    assert [line.split()[-2:] for line in done.lines[2:4]] == [["3", "64"], ["10", "64"]]
    assert any(line.startswith("batch ") for line in done.lines)


def test_json_at_a_rate(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "m.onnx", conv(stride=2))
    found = cli("bench", "m.onnx", "--rate", "100", "--json", *QUICK).json
    assert [r["pulse"] for r in found["rows"]] == [2, 8, 32, 128]  # of the least legal pulse
    for r in found["rows"]:
        assert r["calls"] >= 1 and 0 < r["median"] <= r["p99"]
        assert r["per_frame"] == pytest.approx(r["median"] / r["pulse"])
        assert r["real_time_factor"] == pytest.approx(r["per_frame"] * 100)
        assert r["latency"] == r["pulse"] + r["delay"] and r["delay"] == 2
        assert r["latency_seconds"] == pytest.approx(r["latency"] / 100)
        assert r["keeps_up"] == (r["p99"] <= r["pulse"] / 100)
        assert r["state_bytes"] == 2 * 8 * 4  # one output frame late, at stride 2: two frames of 8 floats
    fine = [r["pulse"] for r in found["rows"] if r["keeps_up"]]
    assert found["smallest_that_keeps_up"] == (min(fine) if fine else None)
    assert found["batch"]["per_frame"] > 0


def test_the_smallest_that_keeps_up(cli: Cli, model: Path) -> None:
    slow = cli("bench", "model.onnx", "--pulse", "1", "--rate", "1", *QUICK)
    assert any(line.startswith("keeps up      at 1 frames/s from pulse 1: p99 ") for line in slow.lines)
    fast = cli("bench", "model.onnx", "--pulse", "1", "--rate", "1e12", *QUICK)
    assert "keeps up      none of these: even the largest takes longer than it lasts" in fast.lines


def test_a_model_with_a_table_starts_again(cli: Cli, tmp_path: Path) -> None:
    g = G()
    x = g.input("x", [1, "S", 4])
    length = g("Gather", g("Shape", x), g.const(1))
    rows = g("Slice", g.const(g.rng.standard_normal((24, 4)).astype("float32")), g.ints(0), g("Unsqueeze", length, g.ints(0)), g.ints(0))
    write(tmp_path / "m.onnx", g.model(g("Add", x, rows)))
    done = cli("bench", "m.onnx", "--pulse", "4", "--json", *QUICK)
    assert done.code == 0 and done.json["rows"][0]["calls"] > 6


def test_static_inputs_are_filled(cli: Cli, tmp_path: Path) -> None:
    g = G()
    x, n = g.input("x", [1, 4, "S"]), g.input("n", [1], TensorProto.INT64)
    write(tmp_path / "m.onnx", g.model(g("Relu", x), g("Add", n, g.ints(1)), add_3=TensorProto.INT64))
    assert cli("bench", "m.onnx", "--axis", "S", "--pulse", "2", *QUICK).code == 0


def test_pictures(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix, begin in ((".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")):
        done = cli("bench", "model.onnx", "--pulse", "1", "--pulse", "4", "--rate", "10", "--plot", f"a{suffix}", *QUICK)
        assert (done.code, done.err) == (0, "")
        assert Path(f"a{suffix}").read_bytes().startswith(begin)
    failed(cli("bench", "model.onnx", "--plot", "a.gif"), 2, "cannot draw .gif")
    failed(cli("bench", "model.onnx", "--plot", "gone/a.png"), 2, "does not exist")
    failed(cli("bench", "model.onnx", "--plot", "model.onnx"), 2, "the batch model would be lost")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    failed(cli("bench", "model.onnx", "--plot", "b.png"), 2, "it needs matplotlib", "pip install 'pulsify[plots]'")


def test_what_cannot_be_measured(cli: Cli, model: Path) -> None:
    failed(cli("bench", "model.onnx", "--pulse", "0"), 2, "a pulse of 0 frames")
    failed(cli("bench", "model.onnx", "--pulse", "P"), 2, "'P' is not a valid integer")
    failed(cli("bench", "model.onnx", "--rate", "0"), 2, "--rate 0")
    failed(cli("bench", "model.onnx", "--seconds", "0"), 2, "--seconds")
    failed(cli("bench", "gone.onnx"), 5, "cannot read model")
