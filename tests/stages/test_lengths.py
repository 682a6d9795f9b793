"""The length of the stream as data: running where a static output reads it, refused where a frame needs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from pulsify.api import convert
from pulsify.errors import Refusal
from tests.contract_check import check
from tests.graphs import G

BATCHES = pytest.mark.parametrize("batch", ["N", 1])
FLOAT = TensorProto.FLOAT


def length(g: G, x: str, axis: int = 2, dtype: int = FLOAT) -> str:
    """``[1]``"""
    return g("Cast", g("Shape", x, start=axis, end=axis + 1), to=dtype)


def scalar(g: G, x: str) -> str:
    return g("Cast", g("Gather", g("Shape", x), g.const(2)), to=FLOAT)


def mean(g: G, x: str) -> str:
    return g("Div", g("ReduceSum", x, g.ints(2), keepdims=0), scalar(g, x))


def root(g: G, x: str) -> str:
    """No value law: the number is computed at run time, per row."""
    half = g("Mul", scalar(g, x), g.const(0.5, np.float32))
    return g("Div", g("ReduceSum", x, g.ints(2)), g("Sqrt", half))


def unbiased(g: G, x: str) -> str:
    n, one = length(g, x), g.const(1.0, np.float32)
    m, s = g("ReduceMean", x, g.ints(2)), g("ReduceMean", g("Mul", x, x), g.ints(2))
    factor = g("Div", n, g("Max", g("Sub", n, one), one))
    return g("Mul", g("Sub", s, g("Mul", m, m)), factor)


def strided(g: G, x: str) -> str:
    y = g("Conv", x, g.weight(3, 3, 3), strides=[2], pads=[1, 1])
    return g("Div", g("ReduceSum", y, g.ints(2), keepdims=0), length(g, y))


def whole(g: G, x: str) -> str:
    """Integer arithmetic on the length, floors included."""
    return g("Add", g("ReduceMax", x, g.ints(2), keepdims=0), g("Cast", g("Div", length(g, x, dtype=7), g.ints(3)), to=FLOAT))


def selected(g: G, x: str) -> str:
    """A comparison that is not decided when converting."""
    top = g("ReduceMax", x, g.ints(2))
    return g("Where", g("Greater", g("Sqrt", length(g, x)), g.const(2.0, np.float32)), top, g("Neg", top))


@BATCHES
@pytest.mark.parametrize("op", [mean, root, unbiased, strided, whole, selected])
def test_static_outputs_follow_the_length(op: Callable[[G, str], str], batch: Any) -> None:
    g = G()
    m = 2 if op is strided else 1
    check(g.model(op(g, g.input("x", [batch, 3, "S"]))), "S", (m, 3 * m, "P"))


@pytest.mark.parametrize("how", ["expand", "fill"])
@BATCHES
def test_lengths_as_an_output(how: str, batch: Any) -> None:
    """How many frames the encoder made, per row."""
    g = G()
    x = g.input("x", [batch, 3, "S"])
    y = g("Conv", x, g.weight(3, 3, 3), strides=[2], pads=[1, 1])
    rows = g("Shape", x, start=0, end=1)
    n = g("Shape", y, start=2, end=3)
    one = helper.make_tensor("v", TensorProto.INT64, [1], [1])
    lengths = g("Expand", n, rows) if how == "expand" else g("Mul", g("ConstantOfShape", rows, value=one), n)
    check(g.model(lengths, y, **{lengths: TensorProto.INT64}), "S", (2, 4, "P"))


def test_shape_as_an_output() -> None:
    g = G()
    x = g.input("x", [1, 3, "S"])
    shape = g("Shape", x)
    c = check(g.model(shape, g("Relu", x), **{shape: TensorProto.INT64}), "S", (1, 3, "P"))
    assert [s["kind"] for s in c.manifest["states"]] == ["counter"]


def test_size_without_a_batch() -> None:
    g = G()
    x = g.input("x", [2, 3, "S"])
    total = g("ReduceSum", x, g.ints(1, 2), keepdims=0)
    check(g.model(g("Div", total, g("Cast", g("Size", x), to=FLOAT))), "S", (1, 3, "P"))


def refusal(build: Callable[[G], str], dtype: int = FLOAT) -> str:
    g = G()
    y = build(g)
    with pytest.raises(Refusal) as e:
        convert(g.model(y, **{y: dtype}), axis="S", pulse=2)
    return str(e.value)


def test_refusals() -> None:
    def fed_back(g: G) -> str:
        x = g.input("x", ["N", 3, "S"])
        return g("Mul", x, g("Sqrt", scalar(g, x)))

    def data(g: G) -> str:
        x = g.input("x", ["N", 3, "S"])
        return g("Div", x, scalar(g, x))

    def table(g: G) -> str:
        x = g.input("x", [1, 3, "S"])
        return g("Gather", g.const(np.arange(99, dtype=np.float32)), g("Gather", g("Shape", x), g.const(2)))

    def size(g: G) -> str:
        x = g.input("x", ["N", 3, "S"])
        return g("Div", g("ReduceSum", x, g.ints(2)), g("Cast", g("Size", x), to=FLOAT))

    def shape(g: G) -> str:
        return g("Shape", g.input("x", ["N", 3, "S"]))

    text = refusal(fed_back)
    assert "Mul node" in text and "on axis 2" in text and "summarises the whole stream (its length)" in text
    assert "it uses S, which depends on the length of the whole stream" in refusal(data)
    assert "it uses the stream's length other than in arithmetic" in refusal(table)
    assert "it uses 3*N*S, the size of a whole batch" in refusal(size)
    assert "it uses the stream's length without a batch axis" in refusal(shape, TensorProto.INT64)
