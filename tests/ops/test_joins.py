"""Joins on time: static frames beside a stream, splits of it, first and last frames as running results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.errors import Refusal
from tests.contexts import batches, contexts, pulses, verify
from tests.contract_check import check, check_least_delay
from tests.graphs import G
from tests.profiles import examples

FAR = 2**63 - 1


def size(g: G, x: str, axis: int) -> str:
    return g("Slice", g("Shape", x), g.ints(axis), g.ints(axis + 1))


def frames(g: G, x: str, count: int, value: float | None = None) -> str:
    """Static frames ``[N, 2, count]``: any, or all of one value."""
    table = g.weight(1, 2, count) if value is None else g.const(np.full((1, 2, count), value, np.float32))
    return g("Expand", table, g("Concat", size(g, x, 0), g.ints(2, count), axis=0))


def cut(g: G, x: str, start: int, end: int = FAR, axis: int = 2, step: int = 1) -> str:
    return g("Slice", x, g.ints(start), g.ints(end), g.ints(axis), g.ints(step))


fills = st.sampled_from([None, None, 0.0, -1.5])


@given(
    before=st.integers(0, 3), after=st.integers(0, 3), first=fills, last=fills, context=contexts, batch=batches, at=pulses(),
    kernel=st.integers(1, 4),
)  # fmt: skip
@examples(40)
def test_static_frames_beside_a_stream(
    before: int, after: int, first: Any, last: Any, context: str, batch: Any, at: Any, kernel: int
) -> None:
    def op(g: G, x: str) -> str:
        parts = [frames(g, x, before, first)] if before else []
        parts += [x, *([frames(g, x, after, last)] if after else [])]
        y = g("Concat", *parts, axis=2)
        return g("Conv", y, g.weight(2, 2, kernel)) if kernel > 1 else y

    verify(op, [batch, 2, "S"], context, at, least=False)


@pytest.mark.parametrize("order", ["zxz", "zxzo", "zoxz", "zxoz", "ozxzo"])
def test_one_constant_in_several_places(order: str) -> None:
    g = G()
    wires = {"x": g.input("x", [1, 2, "S"]), "z": g.const(np.zeros((1, 2, 2), np.float32)), "o": g.const(np.ones((1, 2, 1), np.float32))}
    check(g.model(g("Concat", *(wires[c] for c in order), axis=2)))


@given(before=st.integers(0, 3), after=st.integers(0, 3), kernel=st.integers(1, 4), ahead=st.integers(0, 2))
@examples(20)
def test_the_least_delay(before: int, after: int, kernel: int, ahead: int) -> None:
    g = G()
    x = g.input("x", ["N", 2, "S"])
    x = g("Conv", x, g.weight(2, 2, 1 + ahead)) if ahead else x
    parts = [g.weight(1, 2, before)] if before else []
    parts += [x, *([g.weight(1, 2, after)] if after else [])]
    model = g.model(g("Conv", g("Concat", *parts, axis=2), g.weight(2, 2, kernel)))
    check_least_delay(model)


def test_a_static_input_before_the_stream() -> None:
    """A prompt, of any values, on a graph input."""
    g = G()
    x, prompt = g.input("x", ["N", "S", 3]), g.input("prompt", ["N", 4, 3])
    g.inputs[1].type.tensor_type.shape.dim[0].dim_param = "N"
    y = g("Concat", prompt, x, axis=1)
    check(g.model(g("Relu", y)))


def test_constant_frames_become_padding() -> None:
    """``cat([zeros, x])`` costs no more than padding: one buffer, no mask, no counter."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    y = g("Conv", g("Concat", frames(g, x, 2, 0.0), x, axis=2), g.weight(2, 2, 3))
    c = check(g.model(y))
    assert [s["kind"] for s in c.manifest["states"]] == ["buffer"]


def test_a_class_token_for_attention_free_readers() -> None:
    """One learned frame in front; the rest goes on as it was."""
    g = G()
    x = g.input("x", ["N", "S", 4])
    token = g("Expand", g.weight(1, 1, 4), g("Concat", size(g, x, 0), g.ints(1, 4), axis=0))
    y = g("MatMul", g("Concat", token, x, axis=1), g.weight(4, 3))
    check(g.model(cut(g, y, 1, axis=1), y))


@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=2), rest=st.integers(0, 2), context=contexts, batch=batches,
    at=pulses(), tail=st.booleans(),
)  # fmt: skip
@examples(30)
def test_split_along_time(sizes: list[int], rest: int, context: str, batch: Any, at: Any, tail: bool) -> None:
    """The part that streams; the first ones and the last are static."""

    def op(g: G, x: str) -> str:
        known = sum(sizes) + rest
        left = g("Sub", size(g, x, 2), g.ints(known))
        parts = [g.ints(*sizes), left, *([g.ints(rest)] if rest else [])]
        outs = g("Split", x, g("Concat", *parts, axis=0), n=len(sizes) + 1 + bool(rest), axis=2)
        y = outs[len(sizes)]
        return g("Conv", y, g.weight(2, 2, 2)) if tail else y

    verify(op, [batch, 2, "S"], context, at, least=False)


@given(
    start=st.integers(0, 4), count=st.integers(1, 4), step=st.sampled_from([1, 1, 2, -1]), lead=st.integers(-2, 2),
    batch=batches, at=pulses(), spelling=st.sampled_from(["slice", "gather"]),
)  # fmt: skip
@examples(40)
def test_first_frames(start: int, count: int, step: int, lead: int, batch: Any, at: Any, spelling: str) -> None:
    """Static from when they came, on late wires, on announced ones, with a head behind them."""
    g = G()
    x = g.input("x", [batch, 2, "S"])
    y = g("Tanh", x)
    if lead < 0:
        y = cut(g, y, -lead)
    elif lead:
        y = g("Pad", y, g.ints(0, 0, lead, 0, 0, 1), g.const(2.5, np.float32))
    picked = [start + abs(step) * j for j in range(count)][:: 1 if step > 0 else -1]
    if spelling == "gather":
        head = g("Gather", y, g.ints(*picked), axis=2)
    else:
        end = picked[-1] + (1 if step > 0 else -1)
        head = cut(g, y, picked[0], end if end >= 0 else -FAR, step=step)
    check(g.model(g("MatMul", head, g.weight(count, 2)), g("Relu", y)), "S", at)


@given(
    back=st.integers(1, 4), skip=st.integers(0, 2), step=st.sampled_from([1, 1, 2, -1]), kind=st.integers(0, 3),
    batch=batches, at=pulses(), spelling=st.sampled_from(["slice", "gather"]),
)  # fmt: skip
@examples(40)
def test_last_frames(back: int, skip: int, step: int, kind: int, batch: Any, at: Any, spelling: str) -> None:
    """The last frames so far, behind delays, crops, padding that the end makes."""
    g = G()
    x = g.input("x", [batch, 2, "S"])
    y = g("Tanh", x)
    if kind == 1:
        y = g("Conv", y, g.weight(2, 2, 3))
    elif kind == 2:
        y = cut(g, y, 0, -2)
    elif kind == 3:
        y = g("Pad", y, g.ints(0, 0, 1, 0, 0, 2), mode="reflect")
    picked = list(range(-back - skip, -skip, abs(step)))[:: 1 if step > 0 else -1]
    if spelling == "gather":
        tail = g("Gather", y, g.ints(*picked), axis=2)
    else:
        end = picked[-1] + (1 if step > 0 else -1)
        tail = cut(g, y, picked[0], (end if end else FAR) if step > 0 else end, step=step)
    check(g.model(g("MatMul", tail, g.weight(len(picked), 2)), g("Relu", y)), "S", at)


@pytest.mark.parametrize("index", [0, 2, -1, -3])
def test_one_frame(index: int) -> None:
    """``x[:, -1]`` and a classifier behind it."""
    g = G()
    x = g.input("x", ["N", "S", 2])
    y = g("Conv", g("Transpose", x, perm=[0, 2, 1]), g.weight(2, 2, 3), pads=[1, 1])
    z = g("Gather", y, g.const(index, np.int64), axis=2)
    check(g.model(g("Gemm", z, g.weight(2, 4)), y))


@pytest.mark.parametrize("dtype", [TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.DOUBLE])
def test_types(dtype: int) -> None:
    g = G()
    y = g("Cast", g.input("x", ["N", 2, "S"]), to=dtype)
    a, b = cut(g, y, 1, 3), cut(g, y, -2)
    check(g.model(a, b, **{a: dtype, b: dtype}))


def test_two_streams_are_refused() -> None:
    with pytest.raises(Refusal, match="on axis 2\n  why:  it joins two streams along time"):
        verify(lambda g, x: g("Concat", x, g("Relu", x), axis=2), [1, 2, "S"])


def test_the_first_frame_fed_back_is_refused() -> None:
    with pytest.raises(Refusal, match="is made of the first frames of the stream"):
        verify(lambda g, x: g("Sub", x, cut(g, x, 0, 1)), [1, 2, "S"])


def test_the_last_frame_joined_to_another_stream_is_refused() -> None:
    with pytest.raises(Refusal, match="is made of frames of an end of the stream"):
        verify(lambda g, x: g("Concat", g("Relu", x), cut(g, x, -1), axis=2), [1, 2, "S"])


def test_frames_from_the_middle_are_refused() -> None:
    g = G()
    x = g.input("x", [1, 2, "S"])
    half = g("Div", size(g, x, 2), g.ints(2))
    y = g("Slice", x, half, g("Add", half, g.ints(3)), g.ints(2))
    with pytest.raises(Refusal, match="it keeps 3 frames of the stream whatever its length, from frame S//2 on"):
        check(g.model(y, g("Relu", x)))


def test_an_uneven_split_is_refused() -> None:
    g = G()
    x = g.input("x", [1, 2, "S"])
    half = g("Div", size(g, x, 2), g.ints(2))
    outs = g("Split", x, g("Concat", half, g("Sub", size(g, x, 2), half), axis=0), n=2, axis=2)
    with pytest.raises(Refusal, match="it cuts the stream along time into S//2, S - "):
        check(g.model(outs[0]))


def test_the_first_frames_less_the_last() -> None:
    """Running results combine into another."""
    g = G()
    y = g("Tanh", g.input("x", ["N", 2, "S"]))
    check(g.model(g("Sub", cut(g, y, 0, 2), cut(g, y, -2))))
