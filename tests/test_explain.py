"""explain: what a newcomer is told of an unknown file."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto

from models.wavenet import build
from pulsify import Refusal, convert
from pulsify.explain import explain
from tests.graphs import G


def test_the_wavenet_is_understood() -> None:
    e = explain(build())
    (c,) = e.candidates
    assert (c.axis, c.symbol, c.streams, c.pulse_multiple) == ("S", "S", True, 1)
    assert (len(c.states), c.state_bytes) == (25, 4 * 2920)
    (o,) = c.outputs
    assert (o.axis, o.length, o.rate, o.delay, o.lookahead, o.receptive_field) == (0, "S - 182", "1", 182, 182, 183)


def test_every_obstacle_is_named() -> None:
    g = G()
    x = g.input("x", ["N", 4, "S"])
    y = g("Softmax", x, axis=2)
    z = g("Slice", x, g.ints(-1), g.ints(-(2**63)), g.ints(2), g.ints(-1))
    e = explain(g.model(y, z))
    candidate = next(c for c in e.candidates if c.axis == "S")
    assert not candidate.streams
    text = "\n".join(o.render() for o in candidate.obstacles)
    assert "normalises over time" in text
    assert "it reverses time" in text


def test_symbols_like_a_batch_come_last() -> None:
    g = G()
    x = g.input("x", ["batch_size", 4, "frames"])
    assert [c.axis for c in explain(g.model(g("Relu", x))).candidates] == ["frames", "batch_size"]


def test_fixed_axes_are_tried() -> None:
    g = G()
    x = g.input("x", [1, 4, 100])
    e = explain(g.model(g("Conv", x, g.weight(4, 4, 3))))
    assert {c.axis: c.streams for c in e.candidates} == {"x:0": True, "x:1": False, "x:2": True}


def test_exposed_states_are_told() -> None:
    g = G()
    x, h = g.input("x", ["S", "N", 3]), g.input("h0", [1, "N", 5])
    y, hn = g("GRU", x, g.weight(1, 15, 3), g.weight(1, 15, 5), "", "", h, n=2, hidden_size=5)
    model = g.model(y, hn)
    model.graph.output[1].name = "hn"
    model.graph.node[0].output[1] = "hn"
    e = explain(model)
    assert e.pairs == {"h0": "hn"}
    assert any("--state h0:hn" in note for note in e.notes)


def test_a_model_that_already_steps_is_told_so() -> None:
    g = G()
    x, h = g.input("x", [1, 3]), g.input("state", [1, 3])
    cond = g.input("which", [], TensorProto.BOOL)
    s = g("Add", x, h)
    branch = G()
    then = branch("Neg", s)
    body = branch.model(then).graph
    y = g("If", cond, then_branch=body, else_branch=body)
    model = g.model(y, s)
    model.graph.output[1].name = "stateN"
    for node in model.graph.node:
        for k, name in enumerate(node.output):
            if name == s:
                node.output[k] = "stateN"
    for graph in (model.graph.node[1].attribute[0].g, model.graph.node[1].attribute[1].g):
        graph.node[0].input[0] = "stateN"
    e = explain(model)
    assert e.pairs == {"state": "stateN"}


def test_inputs_of_one_length_stream_together() -> None:
    """Audio and its features, both as long: one alone is no axis of the model. Axis 0 comes last."""
    g = G()
    x, f = g.input("x", [2, 1, 50]), g.input("f", [2, 3, 50])
    e = explain(g.model(g("Concat", x, f, axis=1)))
    assert {c.axis: c.streams for c in e.candidates}["x:2 --axis f:2"]
    assert e.candidates[-1].axis.endswith(":0")


def test_an_unnamed_first_axis_is_a_batch() -> None:
    """As tf2onnx and PyTorch name it; time then has a number, and is tried first."""
    for name in ("unk__314", "s6", "batch", "x_0"):
        g = G()
        e = explain(g.model(g("Conv", g.input("x", [name, 4, 76]), g.weight(4, 4, 3))))
        assert [c.axis for c in e.candidates] == ["x:1", "x:2", name]
        assert [c.apart for c in e.candidates] == [False, False, True]


def test_a_condition_on_an_input_is_bound_by_name() -> None:
    g = G()
    x, rate = g.input("x", [1, "S"]), g.input("sr", [], TensorProto.INT64)
    branch = G()
    body = branch.model(branch("Neg", x)).graph
    e = explain(g.model(g("If", g("Equal", rate, g.const(16000, "int64")), then_branch=body, else_branch=body)))
    assert any("--bind sr=16000" in hint for c in e.candidates for o in c.obstacles for hint in o.hints)


def test_caches_and_unrolled_cells_are_states() -> None:
    """``present = concat(past, x)[-3:]`` and ``c' = f * c + i`` are states whatever their names are."""
    g = G()
    x, past, c = g.input("x", [1, 2, 4]), g.input("left", [1, 2, 3]), g.input("cell", [1, 2])
    whole = g("Concat", past, x, axis=2)
    kept = g("Slice", whole, g.ints(-3), g.ints(2**63 - 1), g.ints(2))
    gate = g("Sigmoid", g("ReduceMean", x, g.ints(2), keepdims=0))
    new = g("Add", g("Mul", gate, c), g("Tanh", gate))
    y = g("Conv", whole, g.weight(2, 2, 4))
    assert explain(onnx.shape_inference.infer_shapes(g.model(y, kept, new))).pairs == {"left": kept, "cell": new}


def test_a_stream_joined_with_what_is_made_of_it_is_no_state() -> None:
    g = G()
    x = g.input("x", [1, "S"])
    rest = g("Sub", g("Slice", x, g.ints(1), g.ints(2**63 - 1), g.ints(1)), g("Slice", x, g.ints(0), g.ints(-1), g.ints(1)))
    y = g("Concat", g("Slice", x, g.ints(0), g.ints(1), g.ints(1)), rest, axis=1)
    assert explain(onnx.shape_inference.infer_shapes(g.model(y))).pairs == {}


def test_what_streams_is_no_state_whatever_its_name() -> None:
    g = G()
    x, h = g.input("audio", [1, 4, "S"]), g.input("state", [1, 4, 1])
    model = g.model(g("Softmax", x, axis=2), g("Add", h, h))
    for k, name in enumerate(("audio_out", "state_out")):
        model.graph.node[k].output[0] = model.graph.output[k].name = name
    with pytest.raises(Refusal) as e:
        convert(model, axis="S", pulse=2)
    assert any("its states are state -> state_out;" in hint for hint in e.value.hints)
