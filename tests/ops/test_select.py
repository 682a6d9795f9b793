"""TopK, OneHot, Compress, CenterCropPad, Det, Inverse, BitCast on axes other than time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.errors import Refusal
from tests.contexts import batches, contexts, pulses, verify
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


@given(
    axis=st.sampled_from([1, 3, -1, -3]), largest=st.booleans(), count=st.sampled_from([1, 2, 3]),
    output=st.sampled_from([0, 1]), context=contexts, batch=batches, at=pulses(),
)  # fmt: skip
@examples(20)
def test_topk(axis: int, largest: bool, count: int, output: int, context: str, batch: Any, at: Any) -> None:
    def op(g: G, x: str) -> str:
        return g("TopK", x, g.ints(count), axis=axis, largest=int(largest), n=2)[output]

    result = TensorProto.INT64 if output else TensorProto.FLOAT
    verify(op, [batch, 3, "S", 3], context, at, axis=2, result=result, least=False)


@given(axis=st.sampled_from([0, 1, 2, -1, -2]), context=contexts, batch=batches, at=pulses())
@examples(15)
def test_onehot(axis: int, context: str, batch: Any, at: Any) -> None:
    """Indices of any size, negative ones and ones out of range among them."""

    def op(g: G, x: str) -> str:
        index = g("Cast", g("Mul", x, g.const(3, np.float32)), to=TensorProto.INT64)
        return g("OneHot", index, g.const(4, np.int64), g.const([0.5, 2.0], np.float32), axis=axis)

    out = 1 if axis % 3 == 2 else 2
    verify(op, [batch, "S"], context, at, axis=1, out=out, rank=3, least=False)


@given(axis=st.sampled_from([1, -1]), context=contexts, batch=batches, at=pulses())
@examples(8)
def test_compress(axis: int, context: str, batch: Any, at: Any) -> None:
    """A condition may be shorter than its axis."""
    verify(lambda g, x: g("Compress", x, g.const([True, False, True]), axis=axis), [batch, 4, "S", 4], context, at, axis=2)


@given(context=contexts, batch=batches, at=pulses())
@examples(6)
def test_center_crop_pad(context: str, batch: Any, at: Any) -> None:
    verify(lambda g, x: g("CenterCropPad", x, g.ints(5, 2), axes=[1, 3]), [batch, 3, "S", 3], context, at, axis=2)


@given(context=contexts, batch=batches, at=pulses())
@examples(6)
def test_determinants(context: str, batch: Any, at: Any) -> None:
    verify(lambda g, x: g("Det", x), [batch, "S", 3, 3], context, at, axis=1, rank=2)


@given(context=st.sampled_from(["alone", "late", "early"]), batch=batches, at=pulses())
@examples(6)
def test_inverses(context: str, batch: Any, at: Any) -> None:
    def op(g: G, x: str) -> str:
        return g("Inverse", g("Add", x, g.const(9 * np.eye(3), np.float32)), domain="com.microsoft")

    verify(op, [batch, "S", 3, 3], context, at, axis=1, least=False)


@pytest.mark.parametrize("context", ["alone", "late", "padded"])
def test_garbage_is_no_length(context: str) -> None:
    """Every frame reverses as many rows as it says; frames outside the stream say anything."""

    def op(g: G, x: str) -> str:
        mean = g("ReduceMean", x, g.ints(1, 2), keepdims=0)
        count = g("Cast", g("Mul", g("Sigmoid", mean), g.const(1.9, np.float32)), to=TensorProto.INT64)
        return g("ReverseSequence", x, count, batch_axis=0, time_axis=1)

    verify(op, ["S", 2, 3], context, axis=0, least=False)


def test_garbage_is_no_length_of_a_recurrence() -> None:
    """A recurrence over another axis, with the steps of every frame in a stream of lengths."""

    def op(g: G, x: str) -> str:
        mean = g("ReduceMean", x, g.ints(0, 2), keepdims=0)
        steps = g("Add", g("Mul", g("Sigmoid", mean), g.const(1.9, np.float32)), g.const(1, np.float32))
        count = g("Cast", steps, to=TensorProto.INT32)
        return g("Squeeze", g("GRU", x, g.weight(1, 6, 4), g.weight(1, 6, 2), "", count, hidden_size=2, n=2)[0], g.ints(1))

    verify(op, [3, "S", 4], "late", axis=1, least=False)


def test_bits_as_another_type() -> None:
    op = "BitCast"
    verify(lambda g, x: g(op, x, to=TensorProto.INT32), ["N", "S"], "late", axis=1, result=TensorProto.INT32, opset=26)


def test_of_static_tensors() -> None:
    """What no time reaches is copied, its shape found by other means."""
    g = G()
    x, w, k = g.input("x", [1, 2, "S"]), g.input("w", [2, 5]), g.const(2, np.int64)
    top, _ = g("TopK", w, g("Reshape", k, g.ints(1)), n=2)
    y = g("MatMul", g("Trilu", top), x)
    check(g.model(g("Mul", y, g("Det", top)), g("Unique", w, sorted=1)))


@pytest.mark.parametrize(
    ("op", "why"),
    [
        (lambda g, x: g("TopK", x, g.ints(2), axis=2, n=2)[0], "it ranks the frames of the whole stream"),
        (lambda g, x: g("Compress", x, g.const([True]), axis=2), "how many entries it keeps"),
        (lambda g, x: g("CenterCropPad", x, g.ints(5), axes=[2]), "the centre of a stream is known at its end"),
        (lambda g, x: g("Det", x), "it mixes frames along the time axis"),
    ],
)
def test_refused_along_time(op: Any, why: str) -> None:
    with pytest.raises(Refusal, match=rf"on axis 2\n  why:  {why}"):
        verify(op, [1, 3, "S"], least=False)


def test_a_flat_compress_is_refused() -> None:
    with pytest.raises(Refusal, match="it flattens its input"):
        verify(lambda g, x: g("Compress", x, g.const([True])), [1, 3, "S"])


def test_a_condition_from_data_is_refused() -> None:
    with pytest.raises(Refusal, match="how many entries it keeps is known only when it runs"):
        verify(lambda g, x: g("Compress", x, g("Cast", g.input("c", [3]), to=TensorProto.BOOL), axis=1), [1, 3, "S"])


def test_one_place_per_frame_is_refused() -> None:
    def op(g: G, x: str) -> str:
        return g("OneHot", g.ints(1, 2), g("Squeeze", g("Shape", x, start=2)), g.const([0.0, 1.0], np.float32), axis=-1)

    with pytest.raises(Refusal, match="its depth is S, the length of the stream"):
        verify(lambda g, x: g("Add", x, op(g, x)), [1, 2, "S"])
