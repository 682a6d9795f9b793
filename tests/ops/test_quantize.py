"""Quantised operators: bit for bit the batch model's, padded with the zero point, states as narrow as the wire."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.errors import Refusal
from tests.contexts import batches, build, contexts, pulses, verify
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

MS = "com.microsoft"
U8, I8 = np.uint8, np.int8
TYPES = {U8: TensorProto.UINT8, I8: TensorProto.INT8, np.int16: TensorProto.INT16, np.uint16: TensorProto.UINT16}
BYTES: dict[str, Any] = {"dtype": TensorProto.UINT8, "result": TensorProto.UINT8, "ints": 255, "least": False}


def scale(g: G, v: float = 0.02) -> str:
    return g.const(v, np.float32)


def weights(g: G, *shape: int, dtype: Any = I8) -> str:
    return g.const(g.rng.integers(*((-100, 100) if dtype == I8 else (20, 220)), shape), dtype)


def params(g: G, v: float = 0.02, zero: int = 7, dtype: Any = U8) -> tuple[str, str]:
    """Scale and zero point."""
    return g.const(v, np.float32), g.const(zero, dtype)


# -- QuantizeLinear, DequantizeLinear ----------------------------------------------------------------------------------


@given(
    dtype=st.sampled_from([U8, I8, np.int16, np.uint16]), channel=st.booleans(), axis=st.sampled_from([1, -2]),
    context=contexts, batch=batches, at=pulses(),
)  # fmt: skip
@examples(20)
def test_fake_quantisation(dtype: Any, channel: bool, axis: int, context: str, batch: Any, at: Any) -> None:
    def op(g: G, x: str) -> str:
        s = g.const([0.02, 0.03, 0.04] if channel else 0.03, np.float32)
        z = g.const([1, 5, 3] if channel else 3, dtype)
        return g("DequantizeLinear", g("QuantizeLinear", x, s, z, axis=axis), s, z, axis=axis)

    # onnxruntime moves an int8 quantiser of opset 21 in front of a Slice and then rejects its own graph.
    verify(op, [batch, 3, "S"], context, at, opset=18 if dtype in (U8, I8) else 21)


@given(dtype=st.sampled_from([U8, I8]), context=contexts, batch=batches, at=pulses())
@examples(12)
def test_narrow_wires(dtype: Any, context: str, batch: Any, at: Any) -> None:
    """The quantised wire itself is cut, padded with any value, and buffered."""

    def op(g: G, x: str) -> str:
        q = g("QuantizeLinear", x, *params(g, 0.05, 3, dtype))
        q = g("Pad", g("Slice", q, g.ints(2), g.ints(2**40), g.ints(2)), g.ints(0, 0, 1, 0, 0, 2), g.const(9, dtype))
        late = g("Slice", q, g.ints(1), g.ints(2**40), g.ints(2))
        q = g("Concat", late, g("Slice", q, g.ints(0), g.ints(-1), g.ints(2)), axis=1)
        return g("DequantizeLinear", q, *params(g, 0.05, 3, dtype))

    c = verify(op, [batch, 3, "S"], context, at)
    name = np.dtype(dtype).name
    assert name in {s["dtype"] for s in c.manifest["states"]}


@pytest.mark.parametrize("kind", ["INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT8E5M2"])
def test_types_without_arithmetic(kind: str) -> None:
    def op(g: G, x: str) -> str:
        y = g("QuantizeLinear", x, scale(g, 0.1), output_dtype=getattr(TensorProto, kind))
        return g("DequantizeLinear", y, scale(g, 0.1))

    verify(op, ["N", 3, "S"], "padded", opset=21)


def test_a_scale_for_every_frame_may_stream() -> None:
    g = G(opset=21)
    x, raw = g.input("x", [1, 4, "S"]), g.input("s", ["S"])
    s = g("Add", g("Abs", raw), scale(g, 0.1))
    y = g("QuantizeLinear", g("Conv", x, g.weight(4, 4, 3), pads=[1, 1]), s, axis=2)
    check(g.model(y, **{y: TensorProto.UINT8}), pulses=(1, 3, "P"))


def test_blocks_of_channels() -> None:
    g = G(opset=21)
    x, raw = g.input("x", [1, 4, "S"]), g.input("s", [1, 2, "S"])
    s = g("Add", g("Abs", raw), scale(g, 0.1))
    y = g("QuantizeLinear", x, s, axis=1, block_size=2)
    y = g("DequantizeLinear", y, s, axis=1, block_size=2)
    check(g.model(g("Conv", y, g.weight(2, 4, 3), pads=[1, 1])), pulses=(1, 3, "P"))


def test_quantised_weights_stay_quantised() -> None:
    def op(g: G, x: str) -> str:
        w = g("DequantizeLinear", weights(g, 2, 3, 3), g.const([0.01, 0.02], np.float32), g.const([0, 0], I8), axis=0)
        return g("Conv", x, w, pads=[2, 0])

    c = verify(op, ["N", 3, "S"], "late")
    assert [n.op_type for n in c.model.graph.node].count("DequantizeLinear") == 1


def test_a_fixed_scale_per_frame_is_refused() -> None:
    with pytest.raises(Refusal, match="the time axis is baked in: one input is S long on axis 2, another has 5"):
        verify(lambda g, x: g("QuantizeLinear", x, g.const(np.ones(5, np.float32)), axis=2), [1, 4, "S"])


def test_blocks_of_time_are_refused() -> None:
    def op(g: G, x: str) -> str:
        return g("QuantizeLinear", x, g.const(np.ones((1, 4, 5), np.float32)), axis=2, block_size=2)

    with pytest.raises(Refusal, match="on axis 2\n  why:  it has a scale per block of 2 frames of time"):
        verify(op, [1, 4, "S"], opset=21)


def test_blocks_of_channels_with_a_scale_per_frame_are_refused() -> None:
    def op(g: G, x: str) -> str:
        return g("QuantizeLinear", x, g.const(np.ones((1, 2, 5), np.float32)), axis=1, block_size=2)

    with pytest.raises(Refusal, match="it has a scale for each of 5 frames of time"):
        verify(op, [1, 4, "S"], opset=21)


# -- convolutions ------------------------------------------------------------------------------------------------------


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    kernel, stride, dilation = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 2))
    reach = (kernel - 1) * dilation
    return {
        "kernel_shape": [kernel], "strides": [stride], "dilations": [dilation],
        "pads": [draw(st.integers(0, reach + 1)), draw(st.integers(0, reach + 1))],
    }  # fmt: skip


def quantised_conv(a: dict[str, Any], kind: Any, wkind: Any, zero: int, channel: bool, domain: str):
    def op(g: G, x: str) -> str:
        w = weights(g, 4, 3, *a["kernel_shape"], dtype=wkind)
        wzero = 0 if wkind == I8 else 128
        ws = g.const([0.01, 0.02, 0.03, 0.04] if channel else 0.02, np.float32)
        wz = g.const([wzero] * 4 if channel else wzero, wkind)
        out = params(g, 0.05, 100 if kind == U8 else -10, kind)
        bias = g.const([10, -300, 200, 0], np.int32)
        return g("QLinearConv", x, *params(g, 0.02, zero, kind), w, ws, wz, *out, bias, domain=domain, **a)

    return op


@given(
    a=geometries(), kind=st.sampled_from([U8, I8]), wkind=st.sampled_from([I8, U8]), zero=st.sampled_from([0, 7, 100]),
    channel=st.booleans(), domain=st.sampled_from(["", MS]), context=contexts, batch=batches, at=pulses(),
)  # fmt: skip
@examples(30)
def test_qlinearconv(
    a: dict[str, Any], kind: Any, wkind: Any, zero: int, channel: bool, domain: str, context: str, batch: Any, at: Any
) -> None:  # fmt: skip
    wkind = I8 if kind == I8 else wkind
    op = quantised_conv(a, kind, wkind, zero, channel, domain)
    verify(
        op, [batch, 3, "S"], context, at, multiple=a["strides"][0], dtype=TYPES[kind], result=TYPES[kind], ints=120,
        least=False,
    )  # fmt: skip


@given(a=geometries(), zero=st.sampled_from([None, 0, 9]), context=contexts, batch=batches, at=pulses())
@examples(20)
def test_convinteger(a: dict[str, Any], zero: int | None, context: str, batch: Any, at: Any) -> None:
    def op(g: G, x: str) -> str:
        extra = [] if zero is None else [g.const(zero, U8)]
        return g("ConvInteger", x, weights(g, 4, 3, *a["kernel_shape"]), *extra, **a)

    verify(
        op, [batch, 3, "S"], context, at, multiple=a["strides"][0], dtype=TensorProto.UINT8, result=TensorProto.INT32,
        ints=255, least=False,
    )  # fmt: skip


def test_padding_is_the_zero_point_behind_a_delay() -> None:
    """Zero bytes in place of the zero point: a mistake that shows only in the first and last frames."""

    def op(g: G, x: str) -> str:
        a = {"kernel_shape": [3], "pads": [1, 1]}
        for _ in range(3):
            w = weights(g, 3, 3, 3)
            out = params(g, 0.9, 121)
            x = g("QLinearConv", x, *params(g, 0.02, 121), w, *params(g, 0.02, 0, I8), *out, **a)
        return x

    c = verify(op, ["N", 3, "S"], **BYTES)
    assert {s["dtype"] for s in c.manifest["states"] if s["kind"] == "buffer"} == {"uint8"}


def test_causal_quantised_convolution_has_no_delay() -> None:
    c = verify(quantised_conv({"kernel_shape": [3], "pads": [2, 0]}, U8, I8, 121, False, ""), ["N", 3, "S"], **BYTES)
    assert c.manifest["outputs"][0]["delay"] == 0
    assert c.manifest["valid"] is None


def test_padding_with_a_computed_zero_point_is_refused() -> None:
    g = G()
    x, z = g.input("x", [1, 3, "S"], TensorProto.UINT8), g.input("z", [], TensorProto.UINT8)
    y = g("ConvInteger", x, weights(g, 4, 3, 3), z, pads=[1, 1])
    with pytest.raises(Refusal, match="it pads along time with its zero point, which is not one constant"):
        check(g.model(y, **{y: TensorProto.INT32}))


def test_a_computed_zero_point_without_padding() -> None:
    g = G()
    x, z = g.input("x", [1, 3, "S"], TensorProto.UINT8), g.input("z", [], TensorProto.UINT8)
    y = g("ConvInteger", x, weights(g, 4, 3, 3), z)
    check(g.model(y, **{y: TensorProto.INT32}), lengths=(3, 7, 11))


def test_channels_last_is_refused() -> None:
    op = quantised_conv({"kernel_shape": [3], "channels_last": 1}, U8, I8, 7, False, MS)
    with pytest.raises(Refusal, match="its channels are last"):
        verify(op, [1, "S", 3], axis=1, **BYTES)


# -- products ----------------------------------------------------------------------------------------------------------

PRODUCTS = {
    "QLinearMatMul": (
        lambda g, x: g("QLinearMatMul", x, *params(g), weights(g, 4, 5), *params(g, 0.03, 0, I8), *params(g, 0.05, 100)),
        TensorProto.UINT8,
    ),
    "MatMulInteger": (
        lambda g, x: g("MatMulInteger", x, weights(g, 4, 5), g.const(7, U8), g.const(3, I8)), TensorProto.INT32,
    ),
    "MatMulIntegerToFloat": (
        lambda g, x: g(
            "MatMulIntegerToFloat", x, weights(g, 4, 5), scale(g), scale(g), g.const(7, U8), g.const(0, I8),
            g.weight(5), domain=MS,
        ),
        TensorProto.FLOAT,
    ),
}  # fmt: skip


@given(name=st.sampled_from(sorted(PRODUCTS)), context=contexts, batch=batches, at=pulses())
@examples(15)
def test_products(name: str, context: str, batch: Any, at: Any) -> None:
    op, result = PRODUCTS[name]
    kw = {**BYTES, "result": result}
    verify(op, [batch, "S", 4], context, at, axis=1, **kw)


@pytest.mark.parametrize("to", ["byte", "float"])
@pytest.mark.parametrize("trans", [0, 1])
def test_qgemm(to: str, trans: int) -> None:
    def op(g: G, x: str) -> str:
        b = weights(g, *((5, 4) if trans else (4, 5)))
        bias = g.const(g.rng.integers(-50, 50, (5,)), np.int32)
        out = params(g, 0.05, 100) if to == "byte" else ()
        return g("QGemm", x, *params(g), b, *params(g, 0.03, 0, I8), bias, *out, domain=MS, transB=trans)

    result = TensorProto.UINT8 if to == "byte" else TensorProto.FLOAT
    verify(op, ["S", 4], "late", axis=0, **{**BYTES, "result": result})


def test_weights_of_four_bits() -> None:
    def op(g: G, x: str) -> str:
        b = g.const(g.rng.integers(0, 255, (5, 1, 16)), U8)
        return g("MatMulNBits", x, b, g.const([0.1] * 5, np.float32), domain=MS, K=32, N=5, bits=4, block_size=32)

    verify(op, ["N", "S", 32], "late", axis=1)


def test_a_contracted_time_is_refused() -> None:
    g = G()
    x, y = g.input("x", [1, 3, "S"], TensorProto.UINT8), g.input("y", [1, "S", 4], TensorProto.INT8)
    with pytest.raises(Refusal, match=r"MatMulInteger node .* on axis 2\n  why:  it sums over time"):
        check(g.model(g("MatMulInteger", x, y)))


# -- pointwise, joins, pools -------------------------------------------------------------------------------------------

POINTWISE = {
    "sigmoid": (1, lambda g, x: g("QLinearSigmoid", x, *params(g), *params(g, 1 / 256, 0), domain=MS)),
    "leaky": (1, lambda g, x: g("QLinearLeakyRelu", x, *params(g, zero=90), *params(g, zero=90), domain=MS, alpha=0.1)),
    "add": (2, lambda g, x, y: g("QLinearAdd", x, *params(g), y, *params(g, 0.03), *params(g, 0.05, 100), domain=MS)),
    "mul": (2, lambda g, x, y: g("QLinearMul", x, *params(g), y, *params(g, 0.03), *params(g, 0.05, 100), domain=MS)),
    "bias": (1, lambda g, x: g(
        "QLinearAdd", x, *params(g), g.const([[9], [99], [200]], U8), *params(g), *params(g, 0.05, 100), domain=MS)),
    "where": (2, lambda g, x, y: g(
        "QLinearWhere", g.const([[True], [False], [True]]), x, *params(g), y, *params(g, 0.03), *params(g, 0.05, 100),
        domain=MS)),
    "concat": (2, lambda g, x, y: g("QLinearConcat", *params(g, 0.05), x, *params(g), y, *params(g, 0.03), domain=MS, axis=1)),
    "softmax": (1, lambda g, x: g("QLinearSoftmax", x, *params(g), *params(g, 1 / 256, 0), domain=MS, axis=1, opset=13)),
    "pool": (1, lambda g, x: g("QLinearAveragePool", x, *params(g), *params(g, 0.03), domain=MS, kernel_shape=[3])),
    "padded pool": (1, lambda g, x: g(
        "QLinearAveragePool", x, *params(g, zero=121), *params(g, 0.03), domain=MS, kernel_shape=[3], pads=[1, 2],
        count_include_pad=1)),
}  # fmt: skip


@pytest.mark.parametrize("name", POINTWISE)
@given(context=contexts, batch=batches, at=pulses())
@examples(4)
def test_frame_by_frame_and_pools(name: str, context: str, batch: Any, at: Any) -> None:
    inputs, op = POINTWISE[name]
    verify(op, [batch, 3, "S"], context, at, inputs=inputs, **BYTES)


def test_strided_pool_of_planes() -> None:
    def op(g: G, x: str) -> str:
        a = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [0, 1, 0, 0], "count_include_pad": 0}
        return g("QLinearAveragePool", x, *params(g), *params(g, 0.03), domain=MS, **a)

    verify(op, [1, 3, "S", 4], "late", axis=2, multiple=2, **BYTES)


def test_global_pool_over_other_axes() -> None:
    def op(g: G, x: str) -> str:
        return g("QLinearGlobalAveragePool", x, *params(g), *params(g, 0.03), domain=MS)

    verify(op, ["S", 3, 5], "late", axis=0, **BYTES)


@pytest.mark.parametrize(
    ("op", "why"),
    [
        (lambda g, x: g("QLinearGlobalAveragePool", x, *params(g), *params(g), domain=MS), "it averages over time"),
        (
            lambda g, x: g(
                "QLinearAveragePool", x, *params(g), *params(g), domain=MS, kernel_shape=[3], pads=[1, 1]
            ),
            "count_include_pad is 0",
        ),
        (
            lambda g, x: g(
                "QLinearAveragePool", x, *params(g), *params(g), domain=MS, kernel_shape=[3], strides=[2], ceil_mode=1
            ),
            "ceil_mode is 1",
        ),
        (lambda g, x: g("QLinearSoftmax", x, *params(g), *params(g), domain=MS, axis=2, opset=13), "normalises over time"),
        (lambda g, x: g("QLinearConcat", *params(g), x, *params(g), x, *params(g), domain=MS, axis=2), "joins tensors"),
    ],
)
def test_refused_over_time(op: Any, why: str) -> None:
    with pytest.raises(Refusal, match=rf"on axis 2\n  why:  .*{why}"):
        verify(op, [1, 3, "S"], **BYTES)


# -- scales taken from the data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DynamicQuantizeLinear", "DynamicQuantizeMatMul"])
def test_dynamic_scales_over_time_are_refused(name: str) -> None:
    def op(g: G, x: str) -> str:
        if name == "DynamicQuantizeLinear":
            return g("DequantizeLinear", *g(name, x, n=3))
        return g(name, x, weights(g, 4, 5), scale(g), domain=MS)

    with pytest.raises(Refusal, match=f"{name} node .* on axis 1\n  why:  its scale is taken from the extremes"):
        verify(op, [1, "S", 4], axis=1)


def test_dynamic_scales_of_static_tensors() -> None:
    g = G()
    x, w = g.input("x", [1, "S", 4]), g.input("w", [4, 5])
    q, s, z = g("DynamicQuantizeLinear", w, n=3)
    b = g("DequantizeLinear", q, s, z)
    check(g.model(g("MatMul", x, b)))


def test_parameters_over_time_are_refused() -> None:
    model = build(lambda g, x, s: g("QLinearSigmoid", x, s, g.const(7, U8), *params(g), domain=MS), [1, 3, "S"], inputs=2)
    with pytest.raises(Refusal, match="its scale or zero point changes with time"):
        check(model)
