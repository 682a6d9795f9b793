"""Shape arithmetic and tensors made from shapes: never streaming themselves, exact at every length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.errors import Refusal
from tests.contexts import CONTEXTS, batches, contexts, cut, pulses, verify, window
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


def size(g: G, x: str, axis: int) -> str:
    """``x.size(axis)`` as a vector of one."""
    return g("Gather", g("Shape", x), g.ints(axis))


@given(
    batch=batches, at=pulses(), context=contexts,
    rows=st.sampled_from([[1, 1, 1], [2, 1], [1], [], [2, 3, 1]]), value=st.sampled_from([0.0, 1.5]),
)  # fmt: skip
@examples(20)
def test_expand_to_the_streams_length(batch: Any, at: Any, context: str, rows: list[int], value: float) -> None:
    """A constant expanded to the stream's shape meets it at any delay."""

    def op(g: G, x: str) -> str:
        row = g.weight(*rows) if rows else g.const(np.float32(value))
        return g("Add", x, g("Expand", row, g("Shape", x)))

    shape = [2 if rows == [2, 3, 1] else batch, 3 if 3 in rows else 2, "S"]
    verify(op, shape, context, at)


@given(batch=batches, at=pulses(), context=contexts, axis=st.sampled_from([0, 1, 3]))
@examples(12)
def test_expand_of_a_stream(batch: Any, at: Any, context: str, axis: int) -> None:
    """Other axes repeat; the stream's is kept, asked for as 1 or by its length."""

    def op(g: G, x: str) -> str:
        target = [g.ints(1)] * 4
        target[axis] = g.ints(3)
        target[2] = g.ints(1) if axis else size(g, x, 2)
        return g("Expand", x, g("Concat", *target, axis=0))

    shape = [1 if axis == 0 else batch, 1, "S", 1]
    verify(op, shape, context, at, axis=2)


@given(at=pulses(), context=contexts, repeats=st.sampled_from([[1, 2, 1], [2, 1, 1], [3, 2, 1], [1, 1, 1]]))
@examples(12)
def test_tile(at: Any, context: str, repeats: list[int]) -> None:
    verify(lambda g, x: g("Tile", x, g.ints(*repeats)), [2, 2, "S"], context, at)


def test_tile_of_one_frame_is_broadcasting() -> None:
    g = G()
    x = g.input("x", [1, 2, "S"])
    reps = g("Concat", g.ints(1, 1), size(g, x, 2), axis=0)
    check(g.model(g("Conv", g("Mul", x, g("Tile", g.weight(1, 2, 1), reps)), g.weight(2, 2, 3))))


@pytest.mark.parametrize("context", ["alone", "late", "merged", "causal"])
@given(at=pulses(), batch=batches, start=st.sampled_from([0, 3]), step=st.sampled_from([1, 2]), scale=st.sampled_from([1.0, 0.25]))
@examples(6)
def test_positions(context: str, at: Any, batch: Any, start: int, step: int, scale: float) -> None:
    """``arange(S)`` as a signal: every frame knows its index, per row of the batch."""

    def op(g: G, x: str) -> str:
        length = g("Squeeze", size(g, x, 2))
        limit = g("Add", g("Mul", length, g.const(step, np.int64)), g.const(start, np.int64))
        row = g("Range", g.const(start, np.int64), limit, g.const(step, np.int64))
        row = g("Mul", g("Cast", row, to=TensorProto.FLOAT), g.const(np.float32(scale)))
        return g("Add", x, g("Sin", g("Reshape", row, g.ints(1, 1, -1))))

    verify(op, [batch, 2, "S"], context, at, least=False)


def test_constant_of_shape() -> None:
    def op(g: G, x: str) -> str:
        from onnx import helper

        ones = g("ConstantOfShape", g("Shape", x), value=helper.make_tensor("v", TensorProto.FLOAT, [1], [2.5]))
        return g("Mul", x, g("Sqrt", ones))

    for context in CONTEXTS:
        verify(op, ["N", 2, "S"], context, (2, "P"), least=False)


@given(a=st.integers(1, 4), b=st.integers(0, 3), c=st.integers(1, 3), at=pulses(), batch=batches)
@examples(20)
def test_lengths_by_arithmetic(a: int, b: int, c: int, at: Any, batch: Any) -> None:
    """A crop to ``((S + b)//c*c + a - a) - b``-like lengths computed in the graph, over time and back."""
    g = G()
    x = g.input("x", [batch, 2, "S"])
    length = size(g, x, 2)
    total = g("Sub", g("Add", length, g.ints(a + b)), g.ints(a))
    end = g("Sub", g("Div", g("Mul", total, g.ints(c)), g.ints(c)), g.ints(b + 1))
    y = g("Slice", x, g.ints(0), end, g.ints(2))
    z = g("Slice", x, g.ints(1), g.ints(2**63 - 1), g.ints(2))
    check(g.model(g("Conv", g("Mul", y, z), g.weight(2, 2, 2))), "S", at)


def test_data_scaled_by_the_length_is_refused() -> None:
    g = G()
    x = g.input("x", [1, 2, "S"])
    with pytest.raises(Refusal, match="depends on the length of the whole stream"):
        check(g.model(g("Div", x, g("Cast", size(g, x, 2), to=TensorProto.FLOAT))))


def test_positions_from_the_end_are_refused() -> None:
    g = G()
    x = g.input("x", [1, "S"])
    length = g("Squeeze", size(g, x, 1))
    row = g("Sub", length, g("Range", g.const(0, np.int64), length, g.const(1, np.int64)))
    with pytest.raises(Refusal, match="depends on the stream's length"):
        check(g.model(g("Add", x, g("Cast", row, to=TensorProto.FLOAT))))


def test_repeating_the_stream_is_refused() -> None:
    with pytest.raises(Refusal, match="on axis 2\n  why:  it repeats the stream 2 times"):
        verify(lambda g, x: g("Tile", x, g.ints(1, 1, 2)), [1, 2, "S"])


def test_a_shape_computed_from_data_is_refused() -> None:
    g = G()
    x = g.input("x", ["S"])
    n = g("Cast", g("ReduceMax", g("Slice", x, g.ints(0), g.ints(1), g.ints(0))), to=TensorProto.INT64)
    with pytest.raises(Refusal):
        check(g.model(g("Add", x, g("Expand", g.const(np.float32(1)), g("Reshape", n, g.ints(1))))))


def test_a_mask_from_positions() -> None:
    """``arange(S) < 5`` weights the first frames of every stream."""
    g = G()
    x = g("Relu", cut(g, g.input("x", ["N", 2, "S"]), 2, 2))
    length = g("Squeeze", size(g, x, 2))
    row = g("Range", g.const(0, np.int64), length, g.const(1, np.int64))
    keep = g("Cast", g("Less", row, g.const(5, np.int64)), to=TensorProto.FLOAT)
    check(g.model(window(g, g("Mul", x, keep), 2)))
