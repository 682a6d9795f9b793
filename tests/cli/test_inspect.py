"""``pulsify inspect``: what a file says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from tests.cli.conftest import Cli, failed, write
from tests.graphs import G


def padded(tmp_path: Path) -> Path:
    """A batch of rows, two padded convolutions, the second with stride 2, and the mean of what comes."""
    g = G()
    x = g.input("x", ["N", 3, "S"])
    y = g("Relu", g("Conv", x, g.weight(4, 3, 3), pads=[1, 1]))
    z = g("Conv", y, g.weight(2, 4, 4), strides=[2], pads=[1, 1])
    model = g.model(z, g("ReduceMean", y, g.ints(2), keepdims=0))
    onnx.helper.set_model_props(model, {"author": "somebody"})
    return write(tmp_path / "m.onnx", model)


def test_a_pulsed_model(cli: Cli, tmp_path: Path) -> None:
    padded(tmp_path)
    cli("m.onnx", "--axis", "S", "--pulse", "4", "-q")
    done = cli("inspect", "m.p4.onnx")
    assert (done.code, done.err) == (0, "")
    (m,) = (json.loads(p.value) for p in onnx.load("m.p4.onnx").metadata_props if p.key == "pulsify.manifest")
    assert cli("inspect", "m.p4.onnx", "--json").json["manifest"] == m
    assert done.lines[0] == "m.p4.onnx: pulsed model"
    assert "pulse         4 frames of S; every multiple of 2 is legal" in done.lines
    assert "metadata      author" in done.lines
    rows = [line.split() for line in done.lines]
    for o in m["outputs"]:
        row = next(r for r in rows if r[:2] == ["output", o["name"]])
        if o["axis"] is not None:
            assert row[2:8] == [str(v) for v in (o["axis"], o["frames"], o["delay"], o["delay"] * 2, o["lookahead"], o["receptive_field"])]
    total = 0
    for s in m["states"]:
        row = next(line for line in done.lines if line.startswith(s["input"] + " "))
        assert s["kind"] in row and str(s["shape"]) in row
        total += int(row[row.index("]") + 1 :].split()[0].replace(",", ""))
    assert total == m["state_bytes"] and f"states        {len(m['states'])}, {total:,} bytes per stream" in done.lines
    assert "valid_frames  needed: something depends on where the stream ends" in done.lines


def test_a_dynamic_pulse(cli: Cli, model: Path) -> None:
    cli("model.onnx", "-q")
    done = cli("inspect", "model.pP.onnx")
    assert "pulse         P frames of S, chosen per call; any pulse is legal" in done.lines


def test_a_batch_model(cli: Cli, tmp_path: Path) -> None:
    padded(tmp_path)
    done = cli("inspect", "m.onnx")
    assert done.lines[0] == "m.onnx: batch model"
    assert "inputs        x float[N, 3, S]" in done.lines
    assert any(line.split() == ["--axis", "S", "streams"] for line in done.lines)
    found = cli("inspect", "m.onnx", "--json").json
    assert found["manifest"] is None and found["operators"]["Conv"] == 2 and found["metadata"] == {"author": "somebody"}
    assert found["weights"] == 4 * 3 * 3 + 2 * 4 * 4 + 1
    assert [c["axis"] for c in found["candidates"]] == ["S", "N"]


def test_what_is_no_model(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"no")
    failed(cli("inspect", "x.onnx"), 5, "it is not a complete ONNX model")


def test_a_manifest_of_the_future(cli: Cli, model: Path) -> None:
    proto = onnx.load(model)
    onnx.helper.set_model_props(proto, {"pulsify.manifest": json.dumps({"version": 2})})
    onnx.save(proto, "new.onnx")
    failed(cli("inspect", "new.onnx"), 5, "cannot read the manifest of 'new.onnx'", "version 2, this client reads version 1")
    failed(cli("run", "new.onnx", "x.npy"), 2, "cannot read 'x.npy'")
