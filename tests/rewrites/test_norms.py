"""Normalisations over channels: found by onnxruntime, and in row form."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import conformer
from pulsify.api import Conversion, convert
from pulsify.rewrites import frame_rows
from pulsify.rewrites._region import Choice
from tests.contexts import pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

WAYS = [(square, over) for square in ("Pow", "Mul") for over in ("Div", "Reciprocal", "1/")]


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(n.op_type for n in model.graph.node)


def fused(c: Conversion, at: Path) -> Counter[str]:
    """The operators that onnxruntime makes of a model."""
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(at / "seen.onnx"), 3
    ort.InferenceSession(c.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return kinds(onnx.load(at / "seen.onnx"))


def in_rows(model: onnx.ModelProto) -> Conversion:
    """Checked with all in row form that can be."""
    with mock.patch.object(frame_rows, "choose", lambda g, forms: Choice(set(forms), set())):
        return check(model, pulses=(1, 3))


def norm(g: G, x: str, channels: int, way: tuple[str, str], mean: bool = False, axis: int = -1, after: int = 0) -> str:
    """``x / sqrt(mean(x^2) + epsilon) * scale`` over an axis, as exporters write it; with ``mean``, a layer normalisation."""
    square, over = way
    one, shape = g.const(np.float32(1)), (channels, *[1] * after)
    d = g("Sub", x, g("ReduceMean", x, g.ints(axis))) if mean else x
    power = g("Pow", d, g.const(np.float32(2))) if square == "Pow" else g("Mul", d, d)
    root = g("Sqrt", g("Add", g("ReduceMean", power, g.ints(axis)), g.const(np.float32(1e-5))))
    if over == "Div":
        y = g("Div", d, root)
    else:
        y = g("Mul", *((d, g("Reciprocal", root)) if over == "Reciprocal" else (g("Div", one, root), d)))
    y = g("Mul", y, g.weight(*shape))
    return g("Add", y, g.weight(*shape)) if mean else y


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("batch", [1, "N"])
def test_one_node_in_the_runtime(way: tuple[str, str], mean: bool, batch: Any, tmp_path: Path) -> None:
    """Between two products, in row form or not: one kernel in the end."""
    g = G()
    y = g("MatMul", g.input("x", [batch, "S", 6]), g.weight(6, 8))
    c = check(g.model(g("MatMul", norm(g, y, 8, way, mean), g.weight(8, 4))), pulses=(1, 4))
    found = fused(c, tmp_path)
    assert found["LayerNormalization" if mean else "SimplifiedLayerNormalization"] == 1
    assert not found["ReduceMean"] and not found["Sqrt"]


@given(data=st.data())
@examples(30)
def test_between_convolutions(data: st.DataObject) -> None:
    """Over channels in front of time or behind it, with padding read behind: the same numbers."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    way, mean, first = data.draw(st.sampled_from(WAYS)), data.draw(st.booleans(), "mean"), data.draw(st.booleans(), "channels first")
    y = g("Conv", g.input("x", [data.draw(st.sampled_from([1, "N"])), 4, "S"]), g.weight(8, 4, 2), pads=[1, 0])
    y = norm(g, y, 8, way, mean, 1, 1) if first else g("Transpose", norm(g, g("Transpose", y, perm=[0, 2, 1]), 8, way, mean), perm=[0, 2, 1])
    check(g.model(g("Conv", y, g.weight(4, 8, 3), pads=[1, 1])), pulses=data.draw(pulses()))


def test_a_reciprocal_of_more_axes() -> None:
    """A one of four axes over a wire of three has four, the quotient would have three. (onnxruntime's own fusion forgets that, so
    that nothing is compared here.)"""
    g = G()
    x = g.input("x", [1, "S", 4])
    over = g("Div", g.const(np.ones((1, 1, 1, 1), np.float32)), g("Exp", x))
    assert kinds(convert(g.model(g("Mul", x, over)), axis="S", pulse=4).model)["Mul"] == 1


def test_what_is_no_norm() -> None:
    """A square that others read, one whose mean nobody takes the root of, a reciprocal that others read."""
    for case in range(3):
        g = G()
        x = g.input("x", [1, "S", 4])
        square = g("Mul", x, x)
        mean = g("ReduceMean", square, g.ints(-1))
        root = g("Sqrt", g("Add", mean, g.const(np.float32(1e-3))))
        over = g("Reciprocal", root)
        y = g("Mul", x, over)
        if case == 1:
            y = g("Mul", x, g("Tanh", g("Add", mean, g.const(np.float32(1)))))
        c = check(g.model(y, *[[square], [], [over]][case]), pulses=(1, 4))
        assert kinds(c.model)["Pow"] == (case == 2)
        assert kinds(c.model)["Reciprocal"] == (case == 2)


@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2"])
@pytest.mark.parametrize("opset", [12, 18])
def test_a_number_per_frame(op: str, opset: int) -> None:
    """A reduction over channels between products stays in row form: axes move where the wire comes in and goes out alone."""
    for batch in (1, "N"):
        g = G(opset=opset)
        y = g("Conv", g.input("x", [batch, 4, "S"]), g.weight(8, 4, 3), pads=[2, 0])
        told = opset == 18 or (op == "ReduceSum" and opset >= 13)
        y = g("Sub", y, g(op, y, g.ints(1)) if told else g(op, y, axes=[1]))
        c = in_rows(g.model(g("Conv", y, g.weight(4, 8, 3), pads=[2, 0])))
        assert kinds(c.model)["Transpose"] == 2 and kinds(c.model)["Conv"] == 0


@pytest.mark.parametrize("batch", [1, "N"])
def test_batch_normalisation_in_rows(batch: Any) -> None:
    """Behind an activation and in front of padding it can't go into a product; with a batch it is a scale and a shift."""
    g = G()
    y = g("Relu", g("Conv", g.input("x", [batch, 4, "S"]), g.weight(8, 4, 3), g.weight(8), pads=[2, 0]))
    y = g("BatchNormalization", y, g.weight(8), g.weight(8), g.weight(8), g.const(np.full(8, 0.5, np.float32)))
    c = in_rows(g.model(g("Conv", y, g.weight(4, 8, 3), pads=[2, 0])))
    assert kinds(c.model)["BatchNormalization"] == (batch == 1) and kinds(c.model)["Transpose"] == 2


def test_masks_behind_normalisations() -> None:
    """What a normalisation makes of finite numbers is finite, unless it adds nothing to what it divides by."""
    counts = []
    for epsilon in (1e-5, 0.0):
        g = G()
        y = g("Transpose", g("Conv", g.input("x", [1, 4, "S"]), g.weight(4, 4, 3), g.weight(4), pads=[1, 1]), perm=[0, 2, 1])
        y = g("LayerNormalization", y, g.weight(4), g.weight(4), axis=-1, epsilon=epsilon)
        y = g("Conv", g("Transpose", y, perm=[0, 2, 1]), g.weight(4, 4, 3), pads=[1, 1])
        counts.append(kinds(check(g.model(y), pulses=(1, 3)).model)["Where"])
    assert counts[1] == counts[0] + 1


@pytest.mark.parametrize("rms", [False, True])
def test_a_conformer(rms: bool, tmp_path: Path) -> None:
    """Every factor, batch normalisation and bias is within a product, every norm is one kernel."""
    c = check(conformer.build(channels=16, blocks=2, rms=rms), pulses=(4, 1))
    found = fused(c, tmp_path)
    assert not found["BatchNormalization"] and not found["ReduceMean"]
    assert found["SimplifiedLayerNormalization" if rms else "LayerNormalization"] == 8
    # The gate of each linear unit, and the taps of each depthwise convolution.
    assert found["Mul"] == 4
