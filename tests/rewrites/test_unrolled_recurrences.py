"""A GRU or LSTM with large weights, frame by frame, where onnxruntime runs natively."""

from __future__ import annotations

from collections import Counter
from typing import Any
from unittest import mock

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify import StreamSession
from pulsify.api import Conversion, convert
from pulsify.rewrites import unrolled_recurrences
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

NATIVE = "onnxruntime-native"
GATES = {"GRU": 3, "LSTM": 4}


def forced() -> Any:
    """However small the weights are, up to eight frames."""
    return mock.patch.multiple(unrolled_recurrences, _BYTES=0, _PER_FRAME=24)


def ops(c: Conversion) -> Counter[str]:
    return Counter(n.op_type for n in c.model.graph.node)


def recurrent(g: G, op: str, x: str, width: int, hidden: int, bias: bool = True, first: str = "", **attributes: Any) -> list[str]:
    """``Y``, ``Y_h`` and for an LSTM ``Y_c`` of ``[S, N, width]``."""
    k = GATES[op] * hidden
    weights = [g.weight(1, k, width), g.weight(1, k, hidden), g.weight(1, 2 * k) if bias else ""]
    return list(g(op, x, *weights, *(["", first] if first else []), n=3 if op == "LSTM" else 2, hidden_size=hidden, **attributes))


def stack(op: str, batch: int | str = 1, hidden: int = 4, **attributes: Any) -> onnx.ModelProto:
    """Two layers, one behind the other."""
    g = G()
    y = g("Transpose", g.input("x", [batch, "S", 4]), perm=[1, 0, 2])
    for width in (4, hidden):
        y = g("Squeeze", recurrent(g, op, y, width, hidden, **attributes)[0], g.ints(1))
    return g.model(g("Transpose", y, perm=[1, 0, 2]))


@pytest.mark.parametrize("batch", [1, 2, "N"])
@pytest.mark.parametrize(("op", "attributes"), [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1})])
def test_layers(op: str, attributes: dict[str, int], batch: int | str) -> None:
    """No operator left, and no moves between the layers."""
    with forced():
        c = check(stack(op, batch, **attributes), pulses=(3, 2, 1), target=NATIVE)
    reset_first = op == "GRU" and not attributes
    assert not ops(c)[op] and ops(c)["Conv"] == (6 if reset_first else 4), ops(c)
    assert [s["kind"] for s in c.manifest["states"]] == ["recurrent"] * (4 if op == "LSTM" else 2)
    assert c.manifest["needs"] is None


def test_states_are_those_of_the_operator() -> None:
    """A stream that was saved goes on in a file made for every runtime."""
    with forced():
        native = convert(stack("LSTM"), axis="S", pulse=2, target=NATIVE)
    plain = convert(stack("LSTM"), axis="S", pulse=2)
    x = np.random.default_rng(0).standard_normal((1, 12, 4)).astype(np.float32)
    (name,) = (o["name"] for o in plain.manifest["outputs"])
    first, second, whole = (StreamSession(c.model.SerializeToString()) for c in (native, native, plain))
    head = first.feed(x=x[:, :6])[name]
    second.load(first.save())
    got = np.concatenate([head, second.feed(x=x[:, 6:])[name], second.finish()[name]], axis=1)
    assert np.allclose(got, np.concatenate([whole.feed(x=x)[name], whole.finish()[name]], axis=1), atol=1e-6)


PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "clip": ("GRU", {"clip": 0.5}),
    "coupled gates": ("LSTM", {"input_forget": 1}),
    "another activation": ("GRU", {"activations": ["Sigmoid", "Relu"]}),
    "blocks that are not full": ("LSTM", {"hidden": 6}),
}


@pytest.mark.parametrize("what", PLAIN)
def test_what_stays(what: str) -> None:
    op, attributes = PLAIN[what]
    with forced():
        c = check(stack(op, **attributes), pulses=(2, 1), target=NATIVE)
    assert ops(c)[op] == 2


def test_peepholes_stay() -> None:
    g = G()
    x = g("Transpose", g.input("x", [1, "S", 4]), perm=[1, 0, 2])
    weights = [g.weight(1, 16, 4), g.weight(1, 16, 4), g.weight(1, 32), "", "", "", g.weight(1, 12)]
    y = g("LSTM", x, *weights, n=3, hidden_size=4)[0]
    with forced():
        c = check(g.model(g("Transpose", y, perm=[2, 0, 1, 3])), pulses=(2, 1), target=NATIVE)
    assert ops(c)["LSTM"] == 1


def test_inputs_whose_blocks_are_not_full_stay() -> None:
    g = G()
    y = recurrent(g, "GRU", g.input("x", ["S", 1, 6]), 6, 4)[0]
    with forced():
        c = check(g.model(y), pulses=(2, 1), target=NATIVE)
    assert ops(c)["GRU"] == 1


@pytest.mark.parametrize("axes", [[1, 2], [2]])
def test_axes_of_the_output_are_taken_away(axes: list[int]) -> None:
    """That of the one recording, too, or it alone."""
    g = G()
    y = recurrent(g, "GRU", g.input("x", ["S", 1, 4]), 4, 4)[0]
    with forced():
        c = check(g.model(g("Tanh", g("Squeeze", y, g.ints(*axes)))), pulses=(2, 1), target=NATIVE)
    assert not ops(c)["GRU"]


def test_where_it_pays() -> None:
    """From 4 MiB of recurrent weights on, with two of them per frame; for this target alone, at a pulse that is known."""
    model = stack("LSTM", hidden=512)
    made = {pulse: ops(convert(model, axis="S", pulse=pulse, target=NATIVE))["LSTM"] for pulse in (1, 2, 3, "P")}
    assert made == {1: 0, 2: 0, 3: 2, "P": 2}
    assert ops(convert(stack("LSTM", hidden=508), axis="S", pulse=1, target=NATIVE))["LSTM"] == 2
    assert ops(convert(model, axis="S", pulse=1, target="onnxruntime"))["LSTM"] == 2


@examples(60)
@given(st.data())
def test_any_recurrence(data: st.DataObject) -> None:
    """Without biases, with initial states, outputs of any kind, behind a delay and in front of a convolution."""
    g = G(data.draw(st.integers(0, 5), "seed"))
    batch = data.draw(st.sampled_from([1, 2, "N"]), "batch")
    op = data.draw(st.sampled_from(sorted(GATES)), "op")
    attributes = {"linear_before_reset": data.draw(st.integers(0, 1), "after")} if op == "GRU" else {}
    x = g.input("x", [batch, 4, "S"])
    if data.draw(st.booleans(), "early"):
        x = g("Conv", x, g.weight(4, 4, 3), pads=data.draw(st.sampled_from([[2, 0], [1, 1], [0, 0]]), "pads"))
    y = g("Transpose", x, perm=[2, 0, 1])
    first = ""
    if data.draw(st.booleans(), "start") and not isinstance(batch, str):
        first = g.weight(1, batch, 4)
    outputs = []
    for _ in range(data.draw(st.integers(1, 2), "layers")):
        y, *lasts = recurrent(g, op, y, 4, 4, data.draw(st.booleans(), "bias"), first, **attributes)
        outputs += lasts if data.draw(st.booleans(), "last") else []
        if data.draw(st.booleans(), "whole"):
            outputs.append(y)
        y = g("Squeeze", y, g.ints(1))
    y = g("Transpose", y, perm=[1, 2, 0])
    if data.draw(st.booleans(), "late"):
        y = g("Conv", y, g.weight(4, 4, 2), pads=[1, 0])
    with forced():
        check(g.model(*outputs, y), pulses=(data.draw(st.integers(1, 5), "pulse"),), target=NATIVE)
