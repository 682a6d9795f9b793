"""States named after the conventions of others, and metadata for their clients."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from pulsify import StreamSession, UsageError, convert
from pulsify.naming import DEFAULT, Naming
from tests.graphs import G
from tests.test_runtime import PADDED

TEMPLATES = (DEFAULT, "cached_{id}/new_cached_{id}", "{id}/{id}_out", "in.{id}/out.{id}.next")


@pytest.mark.parametrize("template", TEMPLATES)
def test_states_are_named_and_the_manifest_says_how(template: str) -> None:
    done = convert(PADDED, axis="S", pulse=4, naming=Naming.parse(template))
    plain = convert(PADDED, axis="S", pulse=4)
    past, present = template.split("/")
    names = [s["input"].removeprefix("past_") for s in plain.manifest["states"]]
    got = [(s["input"], s["output"]) for s in done.manifest["states"]]
    assert got == [(past.replace("{id}", n), present.replace("{id}", n)) for n in names]
    graph = done.model.graph
    assert [i.name for i in graph.input][-len(got) :] == [p for p, _ in got]
    assert [o.name for o in graph.output][-len(got) :] == [p for _, p in got]
    assert done.verify().worst <= 1e-5
    x = np.random.default_rng(0).standard_normal((2, 3, 21)).astype(np.float32)
    streams = [StreamSession(c.model.SerializeToString()) for c in (done, plain)]
    a, b = ({**s.feed(x=x), "end": s.finish()} for s in streams)
    assert all(np.array_equal(a["end"][n], b["end"][n]) for n in a["end"])


@pytest.mark.parametrize(
    "template", ["past_{id}", "{id}/{id}", "a/b", "{id}{id}/x_{id}", "a {id}/b_{id}", "{id}/{name}_{id}", "{id}/{id}/{id}", ""]
)
def test_templates_that_cannot_be(template: str) -> None:
    with pytest.raises(UsageError, match="state-names"):
        Naming.parse(template)


def test_a_name_of_the_model_is_not_taken() -> None:
    g = G()
    x = g.input("x", [1, 3, "S"])
    model = g.model(g("Conv", x, g.weight(2, 3, 3)))
    taken = "x.delay_out"
    plain = convert(model, axis="S", pulse=2)
    (state,) = plain.manifest["states"]
    assert state["input"] == "past_x.delay"
    model.graph.node[0].output[0] = model.graph.output[0].name = taken
    with pytest.raises(UsageError, match=r"state 'x.delay' would be called 'x.delay_out', and something in the model") as e:
        convert(model, axis="S", pulse=2, naming=Naming.parse("{id}/{id}_out"))
    assert "cached_" in str(e.value)


def test_metadata() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(PADDED)
    model.metadata_props.add(key="model_type", value="mine")
    naming = Naming.parse(metadata=["sherpa-onnx", "note={pulse} of {states}, {other}", "chunk_shift=8"])
    done = convert(model, axis="S", pulse=4, naming=naming)
    got = {p.key: p.value for p in done.model.metadata_props if p.key != "pulsify.manifest"}
    assert got == {
        "model_type": "mine", "T": "4", "decode_chunk_len": "4", "window_size": "4", "chunk_shift": "8",
        "note": f"4 of {len(done.manifest['states'])}, {{other}}",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["T", "=4", "pulsify.manifest={}", "k2"])
def test_metadata_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match="--metadata"):
        Naming.parse(metadata=[text])


def test_no_pulse_to_write() -> None:
    with pytest.raises(UsageError, match="the pulse is chosen per call"):
        convert(PADDED, axis="S", naming=Naming.parse(metadata=["sherpa-onnx"]))
