"""``pulsify explain``: what is printed of an unknown file."""

from __future__ import annotations

import json
from pathlib import Path

from onnx import TensorProto

from tests.cli.conftest import Cli, failed, untouched, write
from tests.graphs import G


def test_a_model_that_streams(cli: Cli, model: Path) -> None:
    done = cli("explain", "model.onnx")
    assert (done.code, done.err) == (0, "")
    assert done.lines[0] == "model.onnx"
    assert "--axis S: streams" in done.lines
    assert "pulses        any" in done.lines
    row = next(line.split() for line in done.lines if line.startswith("conv_2"))
    assert row[1:] == ["2", "S", "-", "2", "1", "2", "2", "3"]
    assert "states        1, 64 bytes per stream (buffer); 64 as soon as possible" in done.lines
    untouched(model.parent, "model.onnx")


def test_every_obstacle_and_its_remedy(cli: Cli, tmp_path: Path) -> None:
    g = G()
    x = g.input("x", [1, 4, "S"])
    y = g("Softmax", x, axis=2)
    z = g("Slice", x, g.ints(-1), g.ints(-(2**63)), g.ints(2), g.ints(-1))
    write(tmp_path / "m.onnx", g.model(y, z))
    done = cli("explain", "m.onnx")
    assert done.code == 0
    assert "--axis S: refused, 2 obstacles" in done.lines
    assert "normalises over time" in done.out and "it reverses time" in done.out and "  try:  " in done.out


def test_json(cli: Cli, tmp_path: Path) -> None:
    g = G()
    x = g.input("x", ["batch", 4, "S"])
    write(tmp_path / "m.onnx", g.model(g("Conv", x, g.weight(4, 4, 4), strides=[2])))
    done = cli("explain", "m.onnx", "--axis", "S", "--json")
    found = json.loads(done.out)
    (c,) = found["candidates"]
    assert (c["axis"], c["streams"], c["pulse_multiple"], c["outputs"][0]["rate"]) == ("S", True, 2, "1/2")
    assert found["operators"] == {"Conv": 1}
    both = json.loads(cli("explain", "m.onnx", "--json").out)
    assert [c["axis"] for c in both["candidates"]] == ["S", "batch"]


def test_exposed_states(cli: Cli, tmp_path: Path) -> None:
    g = G()
    x, h = g.input("x", ["S", "N", 3]), g.input("hidden", [1, "N", 5])
    y, last = g("GRU", x, g.weight(1, 15, 3), g.weight(1, 15, 5), "", "", h, n=2, hidden_size=5)
    write(tmp_path / "m.onnx", g.model(y, last))
    done = cli("explain", "m.onnx", "--axis", "S")
    assert f"note          states the author exposed: --state hidden:{last}" in done.lines


def test_a_streaming_step(cli: Cli, tmp_path: Path) -> None:
    g = G()
    x, h = g.input("x", [1, 1, 3]), g.input("hidden", [1, 1, 5])
    y, last = g("GRU", x, g.weight(1, 15, 3), g.weight(1, 15, 5), "", "", h, n=2, hidden_size=5)
    y = g("Reshape", y, g.ints(1, 5))
    write(tmp_path / "m.onnx", g.model(y, last))
    done = cli("explain", "m.onnx")
    note = f"this looks like a model that already runs step by step: its states are hidden -> {last}"
    assert f"note          {note}" in done.lines
    failed(cli("m.onnx", "--axis", "x:0"), 3, f"try:  {note}; `pulsify explain` tells more")


def test_bind(cli: Cli, tmp_path: Path) -> None:
    g = G()
    x, rate = g.input("x", [1, 4, "S"]), g.input("sr", [], TensorProto.INT64)
    scaled = g("Div", x, g("Cast", rate, to=TensorProto.FLOAT))
    write(tmp_path / "m.onnx", g.model(scaled))
    assert "sr int64[]" in cli("explain", "m.onnx").out
    done = cli("explain", "m.onnx", "--bind", "sr=16000")
    assert done.code == 0 and "sr int64[]" not in done.out
    failed(cli("explain", "m.onnx", "--bind", "sr"), 2, "--bind sr", "it takes NAME=VALUE")


def test_no_such_file(cli: Cli, tmp_path: Path) -> None:
    failed(cli("explain", "gone.onnx"), 5, "cannot read model 'gone.onnx'")
