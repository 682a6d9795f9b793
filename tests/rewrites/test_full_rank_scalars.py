"""Constant scalars get the rank of what they are computed with, where that ends in axes of length 1."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from pulsify.api import convert
from pulsify.runtime import open_session
from tests.contract_check import check
from tests.graphs import G


def ranks(op: str, pulse: int | str, level: str = "speed", shape: tuple[int | str, ...] = (1, 3, 4, "S")) -> set[int]:
    g = G()
    x = g.input("x", list(shape))
    two = g.const(2.0, "float32")
    y = g("Where", g("Greater", x, two), two, x) if op == "Where" else g(op, x, two)
    c = convert(g.model(g("Tanh", y)), axis="S", pulse=pulse, optimize=level)
    sizes = {t.name: len(t.dims) for t in c.model.graph.initializer}
    return {sizes[i] for n in c.model.graph.node if n.op_type == op for i in n.input if i in sizes}


@pytest.mark.parametrize("op", ["Mul", "Add", "Pow", "PRelu", "Div", "Where", "Max"])
def test_where_the_last_axis_is_one(op: str) -> None:
    assert ranks(op, 1) == ranks(op, "P") == {4}
    assert ranks(op, 2) == ranks(op, 1, "none") == {0}
    assert ranks(op, 1, shape=("S", 3, 4)) == {0}


@pytest.mark.parametrize("batch", [1, "N"])
def test_same_numbers(batch: int | str) -> None:
    """Scalars before, behind and between operands, masks of one frame, fills of a Where."""
    g = G()
    x = g.input("x", [batch, 3, 2, "S"])
    y = g("Sub", g.const(1.5, "float32"), g("Mul", x, g.const([0.5], "float32")))
    y = g("Where", g("Less", y, g.const(0.25, "float32")), g.const([[-1.0]], "float32"), y)
    y = g("Conv", y, g.weight(3, 3, 1, 3), g.weight(3), pads=[0, 1, 0, 1])
    y = g("MaxPool", g("PRelu", y, g.const(0.1, "float32")), kernel_shape=[1, 2], pads=[0, 0, 0, 1])
    check(g.model(g("Max", y, g.const(-0.5, "float32"))), pulses=(1, 2, "P"))


def test_strings_stay_as_they_are() -> None:
    g = G()
    x = g.input("x", [1, 2, "S"], onnx.TensorProto.STRING)
    a, b = (g.const(np.array(t, object)) for t in "ab")
    y = g("Where", g("Equal", x, a), b, x)
    g.opset = 19
    model = g.model(y, **{y: onnx.TensorProto.STRING})
    c = convert(model, axis="S", pulse=1)
    feeds = {"x": np.array([[["a"], ["c"]]], object)}
    (got,) = open_session(c.model.SerializeToString()).run(None, feeds)
    assert got.tolist() == [[["b"], ["c"]]]
