"""Cumulative sums and products, and the cumulative means and norms that exporters write with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from pulsify.api import convert
from pulsify.errors import Refusal
from pulsify.runtime import open_session
from tests.contexts import batches, build, contexts, pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


def cumprod(model: onnx.ModelProto) -> onnx.ModelProto:
    """Opset 26 belongs to a later file format."""
    model.ir_version = 10
    return model


@given(
    op_type=st.sampled_from(["CumSum", "CumSum", "CumProd"]), exclusive=st.integers(0, 1), negative=st.booleans(), context=contexts, at=pulses(), batch=batches,
    rank=st.sampled_from([3, 4]),
)  # fmt: skip
@examples(25)
def test_along_time(op_type: str, exclusive: int, negative: bool, context: str, at: Any, batch: Any, rank: int) -> None:
    def op(g: G, x: str) -> str:
        return g(op_type, x, g.const(2 - rank if negative else 2), exclusive=exclusive)

    shape = [batch, 3, "S", 2][:rank]
    check(cumprod(build(op, shape, context, axis=2, opset=26)), "S", at)


@given(
    op_type=st.sampled_from(["CumSum", "CumProd"]), axis=st.sampled_from([1, 3, -1]), exclusive=st.integers(0, 1), reverse=st.integers(0, 1), context=contexts, at=pulses(),
    batch=batches,
)  # fmt: skip
@examples(15)
def test_along_other_axes(
    op_type: str, axis: int, exclusive: int, reverse: int, context: str, at: Any, batch: Any
) -> None:
    def op(g: G, x: str) -> str:
        return g(op_type, x, g.const(axis), exclusive=exclusive, reverse=reverse)

    check(cumprod(build(op, [batch, 3, "S", 2], context, axis=2, opset=26)), "S", at)


@pytest.mark.parametrize("dtype", ["INT32", "INT64", "DOUBLE"])
@pytest.mark.parametrize("context", ["alone", "late", "merged"])
def test_dtypes(dtype: str, context: str) -> None:
    kind = getattr(TensorProto, dtype)
    floats = dtype == "DOUBLE"
    check(
        build(
            lambda g, x: g("CumSum", x, g.const(2)), ["N", 2, "S"], context if not floats or context != "merged" else "alone",
            dtype=kind, result=kind,
        ),
        "S", (1, 3),
    )  # fmt: skip


def test_sums_are_the_batch_models_own() -> None:
    """The same additions in the same order: no drift apart, whatever the batch model's own error."""
    g = G()
    model = g.model(g("CumSum", g.input("x", [1, 2, "S"]), g.const(2)))
    x = np.random.default_rng(0).standard_normal((1, 2, 20_000)).astype(np.float32)
    c = convert(model, axis="S", pulse=50)
    (want,) = open_session(model.SerializeToString()).run(None, {"x": x})
    session = open_session(c.model.SerializeToString())
    past = np.zeros((1, 2, 1), np.float32)
    (state,) = c.manifest["states"]
    for at in range(0, x.shape[2], 50):
        got, past = session.run(None, {"x": x[:, :, at : at + 50], state["input"]: past})
        assert np.array_equal(got, want[:, :, at : at + 50])


@pytest.mark.parametrize("op_type", ["CumSum", "CumProd"])
@pytest.mark.parametrize("exclusive", [0, 1])
def test_half_precision_is_kept_wide(op_type: str, exclusive: int) -> None:
    """Sums of ones stop at 2048 where the memory is half; onnxruntime's do not."""
    g = G(opset=26)
    x = g.input("x", ["N", 2, "S"], TensorProto.FLOAT16)
    x = g("Exp", g("Mul", x, g.const(0.0 if op_type == "CumSum" else 0.001, np.float16)))
    y = g(op_type, x, g.const(2), exclusive=exclusive)
    check(cumprod(g.model(y, **{y: TensorProto.FLOAT16})), "S", (1, 50), lengths=[2500])


def test_causal_sums_need_no_counter() -> None:
    g = G()
    c = check(g.model(g("CumSum", g.input("x", ["N", 2, "S"]), g.const(2))), "S", (1, 3, "P"))
    assert [s["kind"] for s in c.manifest["states"]] == ["accumulator"] and c.manifest["valid"] is None
    assert c.manifest["outputs"][0]["receptive_field"] is None


@pytest.mark.parametrize("op_type", ["CumSum", "CumProd"])
@pytest.mark.parametrize("exclusive", [0, 1])
def test_reverse_is_refused(op_type: str, exclusive: int) -> None:
    g = G(opset=26)
    x = g.input("x", ["N", 2, "S"])
    with pytest.raises(Refusal) as e:
        convert(cumprod(g.model(g(op_type, x, g.const(2), reverse=1, exclusive=exclusive))), axis="S", pulse=2)
    assert f"cannot pulsify {op_type} node" in str(e.value) and "on axis 2" in str(e.value)
    assert "why:  it accumulates backwards from the end of the stream" in str(e.value)


# -- counts ------------------------------------------------------------------------------------------------------------


def length(g: G, x: str, axis: int) -> str:
    return g("Squeeze", g("Shape", x, start=axis, end=axis + 1))


def count(g: G, x: str, how: str) -> str:
    """1, 2, 3, .. to divide sums of x ``[N, C, S]`` by."""
    if how == "ones like x":
        return g("CumSum", g("Expand", g.const(1.0, np.float32), g("Shape", x)), g.const(2))
    if how == "ones":
        one = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
        return g("CumSum", g("ConstantOfShape", g("Shape", x, start=2, end=3), value=one), g.const(0))
    if how == "integer ones":
        ones = g("Expand", g.const(1, np.int64), g("Concat", g.ints(1, 1), g("Shape", x, start=2, end=3), axis=0))
        return g("Cast", g("CumSum", ones, g.const(-1)), to=TensorProto.FLOAT)
    if how == "exclusive":
        ones = g("Expand", g.const(1.0, np.float32), g("Shape", x))
        return g("Add", g("CumSum", ones, g.const(2), exclusive=1), g.const(1.0, np.float32))
    n = length(g, x, 2)
    if how == "range":
        return g("Cast", g("Range", g.const(1), g("Add", n, g.const(1)), g.const(1)), to=TensorProto.FLOAT)
    assert how == "float range", how
    stop = g("Add", g("Cast", n, to=TensorProto.FLOAT), g.const(1.0, np.float32))
    return g("Range", g.const(1.0, np.float32), stop, g.const(1.0, np.float32))


COUNTS = ("ones like x", "ones", "integer ones", "exclusive", "range", "float range")


@given(how=st.sampled_from(COUNTS), context=contexts, at=pulses(), batch=batches)
@examples(25)
def test_cumulative_mean(how: str, context: str, at: Any, batch: Any) -> None:
    """Each row of a batch has its own position; the counts take no state."""

    def op(g: G, x: str) -> str:
        return g("Div", g("CumSum", x, g.const(2)), count(g, x, how))

    c = check(build(op, [batch, 3, "S"], context), "S", at)
    assert sum(s["kind"] == "accumulator" for s in c.manifest["states"]) == 1


def cumulative_layer_norm(g: G, x: str, channels: int, how: str) -> str:
    """Over all channels and the frames so far: E[x^2] - 2*mean*E[x] + mean^2, by cumulative sums."""
    if how == "range":
        n = length(g, x, 2)
        stop = g("Mul", g("Add", n, g.const(1)), g.const(channels))
        entries = g("Cast", g("Range", g.const(channels), stop, g.const(channels)), to=TensorProto.FLOAT)
    else:
        entries = g("Mul", count(g, x, how), g.const(float(channels), np.float32))
        if how == "ones like x":
            entries = g("Squeeze", g("Slice", entries, g.ints(0), g.ints(1), g.ints(1)), g.ints(1))
    sums = g("CumSum", g("ReduceSum", x, g.ints(1), keepdims=0), g.const(1))
    squares = g("CumSum", g("ReduceSum", g("Mul", x, x), g.ints(1), keepdims=0), g.const(1))
    mean = g("Div", sums, entries)
    double = g("Mul", g("Mul", g.const(2.0, np.float32), mean), sums)
    var = g("Add", g("Div", g("Sub", squares, double), entries), g("Mul", mean, mean))
    std = g("Sqrt", g("Add", g("Relu", var), g.const(1e-2, np.float32)))
    y = g("Div", g("Sub", x, g("Unsqueeze", mean, g.ints(1))), g("Unsqueeze", std, g.ints(1)))
    return g("Add", g("Mul", y, g.weight(1, channels, 1)), g.weight(1, channels, 1))


@given(how=st.sampled_from(["range", "ones", "ones like x"]), context=contexts, at=pulses(), batch=batches)
@examples(12)
def test_cumulative_layer_norm(how: str, context: str, at: Any, batch: Any) -> None:
    check(build(lambda g, x: cumulative_layer_norm(g, x, 3, how), [batch, 3, "S"], context), "S", at)


def test_causal_separation_block() -> None:
    """Two blocks of a causal Conv-TasNet: depthwise convolution, PReLU, cumulative norm, skip."""
    g = G()
    x = g.input("x", ["N", 3, "S"])
    for dilation in (1, 2):
        y = g("PRelu", g("Conv", x, g.weight(3, 3, 1)), g.const(np.full((1, 1), 0.25, np.float32)))
        y = cumulative_layer_norm(g, y, 3, "range")
        y = g("Conv", y, g.weight(3, 1, 3), pads=[2 * dilation, 0], dilations=[dilation], group=3)
        x = g("Add", x, g("Conv", y, g.weight(3, 3, 1)))
    c = check(g.model(x), "S", (1, 4, "P"))
    assert c.manifest["outputs"][0]["delay"] == 0 and c.manifest["valid"] is None


def test_counts_take_no_state() -> None:
    g = G()
    x = g.input("x", ["N", 3, "S"])
    c = check(g.model(g("Mul", x, count(g, x, "ones like x"))), "S", (1, 3, "P"))
    assert [s["kind"] for s in c.manifest["states"]] == ["counter"]


def test_counts_as_outputs_and_in_windows() -> None:
    g = G()
    x = g.input("x", ["N", 3, "S"])
    ones = g("CumSum", g("Expand", g.const(2, np.int64), g("Shape", x)), g.const(-1))
    check(g.model(ones, g("Relu", x), **{ones: TensorProto.INT64}), "S", (1, 3, "P"))
    g = G()
    x = g.input("x", ["N", 3, "S"])
    c = count(g, x, "ones like x")
    gap = g("Sub", g("Slice", c, g.ints(2), g.ints(2**62), g.ints(2)), g("Slice", c, g.ints(0), g.ints(-2), g.ints(2)))
    check(g.model(g("Mul", gap, g("Slice", x, g.ints(1), g.ints(-1), g.ints(2)))), "S", (1, 3, "P"))


def test_constants_that_are_no_counts() -> None:
    """Halves are summed (their rounding is the batch model's); ones along other axes are an ordinary table."""
    g = G()
    x = g.input("x", ["N", 3, "S"])
    halves = g("CumSum", g("Expand", g.const(0.5, np.float32), g("Shape", x)), g.const(2))
    table = g("CumSum", g("Expand", g.const(1.0, np.float32), g("Shape", x)), g.const(1))
    check(g.model(g("Mul", x, halves), g("Mul", x, table)), "S", (1, 3, "P"))


def test_sum_of_positions() -> None:
    """Triangular numbers: each row needs its own position, which a wire without a batch axis cannot have."""
    for batch in (1, "N"):
        g = G()
        x = g.input("x", [batch, 3, "S"])
        sums = g("CumSum", g("Cast", g("Range", g.const(0), length(g, x, 2), g.const(1)), to=1), g.const(0))
        model = g.model(g("Add", x, sums))
        if batch == 1:
            check(model, "S", (1, 3, "P"))
            continue
        with pytest.raises(Refusal, match="it uses positions in time without a batch axis"):
            convert(model, axis="S", pulse=2)
