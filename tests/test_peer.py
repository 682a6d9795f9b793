"""Models that the best of the peers converts into something silently wrong. Here each is exact, or refused by name."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from pulsify import Refusal, convert
from tests.contract_check import check
from tests.graphs import G

FAR = 2**63 - 1


def delayed(g: G, x: str) -> str:
    """A look-ahead of one frame."""
    return g("Conv", x, g.weight(4, 4, 3), pads=[1, 1])


def strided_transposed(late: bool) -> onnx.ModelProto:
    g = G()
    x = g.input("x", ["N", 4, "S"])
    x = delayed(g, x) if late else x
    y = g("ConvTranspose", x, g.weight(4, 4, 4), strides=[2], pads=[1, 1])
    return g.model(g("Conv", y, g.weight(2, 4, 3), pads=[1, 1]))


@pytest.mark.parametrize("late", [False, True])
def test_strided_transposed_convolution_after_a_delay(late: bool) -> None:
    """Its stride multiplies the delay; so does a wrong answer go unnoticed where there is none."""
    check(strided_transposed(late), "S", [1, 2, 5, "P"])


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_softmax_over_time(op: str) -> None:
    g = G()
    x = delayed(g, g.input("x", ["N", 4, "S"]))
    with pytest.raises(Refusal, match=rf"{op} node '.*' on axis 2\n  why:  it normalises over time"):
        convert(g.model(g(op, x, axis=2)), axis="S", pulse=4)


def test_softmax_over_channels_streams() -> None:
    g = G()
    check(g.model(g("Softmax", delayed(g, g.input("x", ["N", 4, "S"])), axis=1)), "S", [1, 3, "P"])


@pytest.mark.parametrize("op", ["GRU", "LSTM", "RNN"])
@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_recurrence_backwards_over_time(op: str, direction: str) -> None:
    g = G()
    x = g.input("x", ["S", "N", 3])
    gates, ways = {"GRU": 3, "LSTM": 4, "RNN": 1}[op], 1 + (direction == "bidirectional")
    y = g(op, x, g.weight(ways, 5 * gates, 3), g.weight(ways, 5 * gates, 5), hidden_size=5, direction=direction)
    with pytest.raises(Refusal, match=rf"{op} node '.*' on axis 0\n  why:  .*backwards"):
        convert(g.model(y), axis="S", pulse=4)


def attention(kind: str, tokens: int = 1) -> onnx.ModelProto:
    """One head over ``[1, S, 4]`` with a sliding window of tokens; a token is ``tokens`` frames."""
    g = G()
    x = g.input("x", [1, "S", 4])
    h = g("Transpose", x, perm=[0, 2, 1])
    h = g("Conv", h, g.weight(4, 4, 3), pads=[2, 0], strides=[1])
    h = g("Conv", h, g.weight(4, 4, tokens), strides=[tokens]) if tokens > 1 else h
    h = g("Transpose", h, perm=[0, 2, 1])
    q, k, v = (g("MatMul", h, g.weight(4, 4)) for _ in range(3))
    scores = g("MatMul", q, g("Transpose", k, perm=[0, 2, 1]))
    size = g("Squeeze", g("Slice", g("Shape", h), g.ints(1), g.ints(2)), g.ints(0))
    at = g("Range", g.const(0, np.int64), size, g.const(1, np.int64))
    row, column = g("Unsqueeze", at, g.ints(1)), g("Unsqueeze", at, g.ints(0))
    seen = g("LessOrEqual", column, row)
    if kind == "window":
        seen = g("And", seen, g("Greater", column, g("Sub", row, g.ints(3))))
    if kind != "none":
        scores = g("Where", seen, scores, g.const(np.float32(-1e9)))
    return g.model(g("MatMul", g("Softmax", scores, axis=-1), v))


@pytest.mark.parametrize("tokens", [1, 2])
@pytest.mark.parametrize("kind", ["window", "causal", "none"])
def test_token_level_windows(kind: str, tokens: int) -> None:
    """Exact at every length, or refused by the name of a node: never in between."""
    model = attention(kind, tokens)
    try:
        convert(model, axis="S", pulse=4)
    except Refusal as e:
        assert " node '" in e.what and e.why
        return
    assert kind == "window", "attention without a bound needs all the stream"
    check(model, "S", [2, 4, "P"])


@pytest.mark.parametrize("late", [False, True])
def test_position_tables(late: bool) -> None:
    """Row i belongs to frame i, however late it comes; a stream longer than the table is refused by the client."""
    g = G()
    x = g.input("x", ["N", 4, "S"])
    h = g("Transpose", delayed(g, x) if late else x, perm=[0, 2, 1])
    size = g("Slice", g("Shape", h), g.ints(1), g.ints(2))
    check(g.model(g("Add", h, g("Slice", g.weight(90, 4), g.ints(0), size, g.ints(0)))), "S", [1, 3, "P"])


def quantised(zero: int) -> onnx.ModelProto:
    """A quantised convolution over padding: what is padded is the zero point, not 0."""
    g = G()
    x = g.input("x", ["N", 4, "S"])
    scale, point = g.const(np.float32(0.05), "float32"), g.const(np.uint8(zero), "uint8")
    q = g("QuantizeLinear", x, scale, point)
    w = g.const(np.random.default_rng(1).integers(-9, 9, (4, 4, 3)), "int8")
    y = g("ConvInteger", q, w, point, pads=[1, 1])
    return g.model(g("Cast", y, to=TensorProto.FLOAT))


@pytest.mark.parametrize("zero", [0, 7, 128])
def test_quantised_padding(zero: int) -> None:
    check(quantised(zero), "S", [1, 2, 5, "P"])


@pytest.mark.parametrize("zero", [0, 128])
def test_quantised_padding_before_a_linear_convolution(zero: int) -> None:
    g = G()
    x = g.input("x", ["N", 4, "S"])
    scale, point = g.const(np.float32(0.05), "float32"), g.const(np.uint8(zero), "uint8")
    q = g("QuantizeLinear", g("Conv", x, g.weight(4, 4, 3), pads=[1, 1]), scale, point)
    w = g.const(np.random.default_rng(1).integers(0, 9, (4, 4, 3)), "uint8")
    wide = g.const(np.float32(0.5), "float32")
    y = g("QLinearConv", q, scale, point, w, scale, g.const(np.uint8(3), "uint8"), wide, g.const(np.uint8(120), "uint8"), pads=[2, 1])
    check(g.model(g("DequantizeLinear", y, wide, g.const(np.uint8(120), "uint8"))), "S", [1, 3, "P"])
