"""``pulsify MODEL --check PULSED``: a file that holds, and every way in which one may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.cli.conftest import Cli, conv, failed, untouched, write


@pytest.fixture
def pulsed(cli: Cli, model: Path) -> Path:
    assert cli("model.onnx", "--pulse", "4", "-q").code == 0
    return model.with_name("model.p4.onnx")


def edit(path: Path, **changes: Any) -> None:
    """Change the manifest of a file."""
    proto = onnx.load(path)
    (entry,) = (p for p in proto.metadata_props if p.key == "pulsify.manifest")
    entry.value = json.dumps({**json.loads(entry.value), **changes})
    onnx.save(proto, path)


def test_a_file_that_holds(cli: Cli, pulsed: Path) -> None:
    before = pulsed.read_bytes()
    done = cli("model.onnx", "--check", "model.p4.onnx")
    assert (done.code, done.err) == (0, "")
    assert done.lines[0] == "model.p4.onnx is what model.onnx converts to"
    assert "manifest      as a conversion makes it now; the graph is the one this version writes" in done.lines
    assert any(line.startswith("verified      at S = ") for line in done.lines)
    assert pulsed.read_bytes() == before
    untouched(pulsed.parent, "model.onnx", "model.p4.onnx")
    assert cli("model.onnx", "--axis", "S", "--pulse", "4", "--check", "model.p4.onnx", "-q").out == ""


def test_a_fixed_axis_and_a_dynamic_pulse(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "m.onnx", conv(time=100))
    cli("m.onnx", "--axis", "x:2", "-q")
    assert cli("m.onnx", "--check", "m.pP.onnx").code == 0


def test_report(cli: Cli, pulsed: Path) -> None:
    record = cli("model.onnx", "--check", "model.p4.onnx", "--report", "-").json
    assert record["same_graph"] is True and record["verification"]["worst_error"] < 1e-5 and record["exit_code"] == 0


def test_another_batch_model(cli: Cli, pulsed: Path) -> None:
    other = conv()
    other.doc_string = "trained again"
    write(pulsed.with_name("model.onnx"), other)
    failed(cli("model.onnx", "--check", "model.p4.onnx"), 4, "has drifted from its batch model", "it was made of a model with sha256")


def test_a_manifest_that_promises_something_else(cli: Cli, pulsed: Path) -> None:
    edit(pulsed, state_bytes=1)
    failed(cli("model.onnx", "--check", "model.p4.onnx"), 4, "state_bytes is 1, and would be 64")
    failed(cli("model.onnx", "--pulse", "8", "--check", "model.p4.onnx"), 4, "pulse is 4, and would be 8", "frames of input x is 4")


def test_states_by_name(cli: Cli, pulsed: Path) -> None:
    edit(pulsed, states=[])
    failed(cli("model.onnx", "--check", "model.p4.onnx"), 4, "state past_x.delay is missing")


def test_a_graph_that_computes_something_else(cli: Cli, pulsed: Path) -> None:
    proto = onnx.load(pulsed)
    (weight,) = (t for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    onnx.save(proto, pulsed)
    failed(cli("model.onnx", "--check", "model.p4.onnx"), 4, "the pulsed model disagrees with the batch model")


def test_another_graph_that_computes_the_same(cli: Cli, pulsed: Path) -> None:
    proto = onnx.load(pulsed)
    proto.doc_string = "by an older version"
    onnx.save(proto, pulsed)
    done = cli("model.onnx", "--check", "model.p4.onnx")
    assert done.code == 0 and "the graph is another one, with the same promises" in done.out


def test_what_cannot_be_asked(cli: Cli, pulsed: Path) -> None:
    for option in (["-o", "x.onnx"], ["--triton", "x"], ["--pass", "type"], ["--no-verify"]):
        failed(cli("model.onnx", "--check", "model.p4.onnx", *option), 2, "--check and", option[0])
    failed(cli("model.onnx", "--check", "model.onnx"), 2, "'model.onnx' is no pulsed model")
    failed(cli("model.onnx", "--check", "gone.onnx"), 5, "cannot read model 'gone.onnx'")
