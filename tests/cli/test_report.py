"""``pulsify report``: a well-formed page that needs nothing, with the numbers of the manifest."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import onnx
import pytest

from pulsify import contract, convert
from pulsify.anatomy import anatomy
from tests.cli.conftest import Cli, failed, untouched, write, wrong_conv
from tests.graphs import G

QUICK = ("--seconds", "0.02")


def network() -> onnx.ModelProto:
    """A padded convolution, a GRU, a strided one, and a branch that goes around them; a name that HTML must not believe."""
    g = G()
    x = g.input("x", [1, 4, "S"])
    g.nodes.clear()
    y = g("Conv", x, g.weight(4, 4, 5), pads=[2, 2])
    t = g("Transpose", y, perm=[2, 0, 1])
    h, _ = g("GRU", t, g.weight(1, 18, 4), g.weight(1, 18, 6), n=2, hidden_size=6)
    h = g("Transpose", g("Squeeze", h, g.ints(1)), perm=[1, 2, 0])
    z = g("Conv", g("Concat", h, x, axis=1), g.weight(3, 10, 4), strides=[2])
    model = g.model(z, g("Relu", x))
    model.graph.node[0].name = 'a<b>&"c"'
    return model


def parsed(path: Path) -> ElementTree.Element:
    """The page, as XML: every element closed, every attribute quoted."""
    return ElementTree.fromstring(path.read_text().replace("<!DOCTYPE html>\n", ""))


def data(page: ElementTree.Element) -> Any:
    (element,) = (e for e in page.iter("script") if e.get("id") == "pulsify-data")
    assert element.text is not None
    return json.loads(element.text)


def words(page: ElementTree.Element) -> str:
    return " ".join(" ".join(t.split()) for e in page.iter() if e.tag not in ("style", "script") for t in (e.text, e.tail) if t)


def self_contained(text: str) -> None:
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<link|<img|<iframe|<script(?! type=\"application/json\")| on[a-z]+=", text)


def test_a_page_with_the_numbers_of_the_manifest(cli: Cli, tmp_path: Path) -> None:
    write(tmp_path / "m.onnx", network())
    done = cli("report", "m.onnx", "--axis", "S", "--pulse", "4", "--rate", "100", "-o", "r.html", *QUICK)
    assert (done.code, done.out, done.err) == (0, "m.onnx -> r.html\n", "")
    untouched(tmp_path, "m.onnx", "r.html")
    self_contained(Path("r.html").read_text())
    page = parsed(Path("r.html"))
    found, m = data(page), convert(tmp_path / "m.onnx", axis="S", pulse=4).manifest
    assert found["manifest"] == m
    assert sum(s["bytes"] for s in found["states"]) == m["state_bytes"] and len(found["states"]) == len(m["states"])
    for o in m["outputs"]:
        exact = contract.input_delay(m, o)
        links = found["latency"][o["name"]]
        assert sum(link["adds"] for link in links) == (links[-1]["total"] if links else 0) == exact
        (layer,) = (x for x in found["layers"] if x["delay"] == o["delay"] and x["name"] == next(
            n.name for n in onnx.load("m.onnx").graph.node if o["name"] in n.output))  # fmt: skip
        assert layer["delay_in_input_frames"] == exact and max(0, layer["ahead"]) == o["lookahead"]
        assert (None if layer["back"] is None else layer["back"] + layer["ahead"] + 1 / float(contract.rate(m, o))) == o["receptive_field"]
    assert set(found["errors"]) == {o["name"] for o in m["outputs"]} and max(found["errors"].values()) <= 1e-5
    assert found["verified"]["worst"] <= 1e-5
    assert [r["pulse"] for r in found["bench"]["rows"]] == [2, 4, 8, 32, 128]
    said = words(page)
    delay = max(d for o in m["outputs"] if (d := contract.input_delay(m, o)) is not None)
    assert f"pulse 4 + delay {delay}, in S" in said and f"{10 * (4 + delay)} ms:" in said
    assert 'a<b>&"c"' in said and "remembers all before" in said
    for title in ("What each layer reaches", "Where the latency comes from", "Where the memory goes", "Batch and stream", "What a pulse costs"):
        assert title in said


def test_what_is_drawn_is_what_is_there(cli: Cli, tmp_path: Path) -> None:
    """Every bar of the memory is as long as its state is large; every polyline has as many points as frames drawn."""
    write(tmp_path / "m.onnx", network())
    assert cli("report", "m.onnx", "--axis", "S", "--pulse", "4", "-q", *QUICK).code == 0
    page = parsed(Path("m.report.html"))
    found = data(page)
    widths = [float(r.get("width", "")) for r in page.iter("rect") if r.get("fill") == "var(--memory)"]
    most = max(s["bytes"] for s in found["states"])
    assert widths == pytest.approx([max(1000 * s["bytes"] / most, 2.5) for s in found["states"]], abs=0.06)
    lines = {c: [p.get("points", "").split() for p in page.iter("polyline") if p.get("stroke") == f"var(--{c})"] for c in ("batch", "pulsed")}
    assert [len(p) for p in lines["batch"]] == [len(p) for p in lines["pulsed"]] == [160, 160]
    chain = [r for r in page.iter("rect") if r.get("fill") in ("var(--ahead)", "var(--back)")]
    assert len(chain) >= sum(len(links) for links in found["latency"].values())


def test_the_cause_of_the_delay_is_the_deep_branch() -> None:
    """A branch that is cut to fit another is no cause: the windows of the other are."""
    g = G()
    x = g.input("x", [1, 2, "S"])
    y = x
    for _ in range(3):
        y = g("Conv", y, g.weight(2, 2, 3))
    cut = g("Slice", x, g.ints(6), g.ints(2**63 - 1), g.ints(2))
    model = g.model(g("Add", cut, y))
    (links,) = anatomy(convert(model, axis="S", pulse=4)).chains.values()
    assert [(link.op, int(link.adds), int(link.total)) for link in links] == [("Conv", 2, 2), ("Conv", 2, 4), ("Conv", 2, 6)]


def test_defaults(cli: Cli, tmp_path: Path) -> None:
    g = G()
    write(tmp_path / "m.onnx", g.model(g("Conv", g.input("x", [1, 2, "S"]), g.weight(2, 2, 4), strides=[3])))
    assert cli("report", "m.onnx", "--seconds", "0").code == 0
    page = parsed(Path("m.report.html"))
    assert data(page)["manifest"]["pulse"] == 24 and data(page)["bench"] is None
    assert "What a pulse costs" not in words(page)


def test_a_causal_pointwise_model(cli: Cli, tmp_path: Path) -> None:
    g = G()
    write(tmp_path / "m.onnx", g.model(g("Relu", g.input("x", [1, 2, "S"]))))
    assert cli("report", "m.onnx", "--pulse", "4", "-q", *QUICK).code == 0
    said = words(parsed(Path("m.report.html")))
    assert "Nothing looks ahead" in said and "None: every frame is computed from itself." in said


def test_integers_have_no_picture(cli: Cli, tmp_path: Path) -> None:
    g = G()
    x = g.input("x", [1, 2, "S"])
    write(tmp_path / "m.onnx", g.model(g("ArgMax", x, axis=1, keepdims=0), argmax_1=onnx.TensorProto.INT64))
    assert cli("report", "m.onnx", "--pulse", "4", "-q", *QUICK).code == 0
    assert "No output has a picture" in words(parsed(Path("m.report.html")))


def test_what_is_refused(cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed(cli("report", "model.onnx", "-o", "model.onnx"), 2, "the batch model would be lost")
    failed(cli("report", "model.onnx", "--rate", "-1"), 2, "--rate -1")
    failed(cli("report", "gone.onnx"), 5, "cannot read model")
    wrong_conv(monkeypatch)
    failed(cli("report", "model.onnx", "--pulse", "4"), 4, "disagrees with the batch model")
    untouched(model.parent, "model.onnx")


def test_the_page_of_a_bench(cli: Cli, model: Path) -> None:
    done = cli("bench", "model.onnx", "--pulse", "1", "--pulse", "4", "--rate", "10", "--plot", "b.html", *QUICK)
    assert (done.code, done.err) == (0, "")
    self_contained(Path("b.html").read_text())
    found = data(parsed(Path("b.html")))
    assert [r["pulse"] for r in found["bench"]["rows"]] == [1, 4] and found["rate"] == 10
