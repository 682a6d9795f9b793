"""Operators in the form that runtimes do a vector register at a time: Elu and Selu by definition, windows cut instead of gathered."""

from __future__ import annotations

from unittest import mock

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.api import Conversion, convert
from pulsify.rewrites import exponentials, window_gathers
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


def kinds(c: Conversion) -> list[str]:
    return [n.op_type for n in c.model.graph.node]


@pytest.mark.parametrize("op", ["Elu", "Selu"])
@pytest.mark.parametrize("attributes", [{}, {"alpha": 0.5}, {"alpha": 2.5}])
def test_elu_and_selu(op: str, attributes: dict[str, float]) -> None:
    with mock.patch.object(exponentials, "_NUMBERS", 0):
        g = G()
        x = g.input("x", ["N", 3, "S"])
        y = g("Conv", g(op, g("Mul", x, g.const(4.0, "float32")), **attributes), g.weight(3, 3, 3), pads=[1, 1])
        assert op not in kinds(check(g.model(y), pulses=(1, 4)))


def test_elu_where_it_matters() -> None:
    """Far out, at zero, and where nothing is a number."""
    with mock.patch.object(exponentials, "_NUMBERS", 0):
        g = G()
        model = g.model(g("Elu", g.input("x", [1, "S"])))
        c = convert(model, axis="S", pulse=8)
    x = np.array([[-1e30, -100, -1e-6, 0, 1e-6, 1e30, np.inf, np.nan]], np.float32)
    want, got = (ort.InferenceSession(m.SerializeToString()).run(None, {"x": x})[0] for m in (model, c.model))
    assert np.allclose(want, got, rtol=1e-6, atol=1e-7, equal_nan=True)


def test_few_numbers_stay() -> None:
    g = G()
    model = g.model(g("Elu", g.input("x", [1, 64, "S"])))
    assert kinds(convert(model, axis="S", pulse=8)) == ["Elu"] and "Elu" not in kinds(convert(model, axis="S", pulse=64))


@given(data=st.data())
@examples(40)
def test_windows(data: st.DataObject) -> None:
    """Frames by number, on any axis, of any hop and length; one window, and stretches."""
    g = G()
    hop, taps = data.draw(st.integers(1, 9), "hop"), data.draw(st.integers(1, 20), "taps")
    frames = data.draw(st.integers(1, 5), "frames")
    width = (frames - 1) * hop + taps + data.draw(st.integers(0, 3), "more")
    at = data.draw(st.integers(-width, -((frames - 1) * hop + taps)), "first")
    index = at + np.arange(frames)[:, None] * hop + np.arange(taps)
    shape = data.draw(st.permutations(["N", "S", width]), "shape")
    x = g.input("x", shape)
    index = index[0] if frames == 1 and data.draw(st.booleans(), "flat") else index
    y = g("Gather", x, g.const(index, "int64"), axis=shape.index(width))
    with mock.patch.object(window_gathers, "GATHERED", 0), mock.patch.object(window_gathers, "_TAKEN", 0):
        c = check(g.model(g("Tanh", y)), pulses=(1, 3))
    if frames > 1 and taps > hop > 1:
        assert "Gather" not in kinds(c)


def test_front_ends_gather_blocks() -> None:
    """Frames of 400 samples every 160 are five blocks of 80 each."""
    g = G()
    x = g.input("x", [1, "S"])
    y = g("Conv", g("Unsqueeze", x, g.ints(1)), g.const(np.eye(400)[:, None], "float32"), strides=[160])
    c = convert(g.model(g("MatMul", g("Transpose", y, perm=[0, 2, 1]), g.weight(400, 80))), axis="S", pulse=1280)
    (gather,) = [n for n in c.model.graph.node if n.op_type == "Gather"]
    index = next(onnx.numpy_helper.to_array(t) for t in c.model.graph.initializer if t.name == gather.input[1])
    assert index.shape == (8, 5)
