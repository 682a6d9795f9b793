"""explain: what a newcomer is told of an unknown file."""

from __future__ import annotations

from onnx import TensorProto

from models.wavenet import build
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
