"""Products with large weights as convolutions over pictures of one pixel per row, where onnxruntime runs natively."""

from __future__ import annotations

from collections import Counter
from unittest import mock

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.api import Conversion, convert
from pulsify.rewrites import blocked_products
from tests.contexts import pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

NATIVE = "onnxruntime-native"


def forced() -> mock._patch[int]:
    """However small the weights are."""
    return mock.patch.object(blocked_products, "_BYTES", 0)


def ops(c: Conversion) -> Counter[str]:
    return Counter(n.op_type for n in c.model.graph.node)


def layers(batch: int | str = 1, act: str = "Relu", inner: int = 8) -> onnx.ModelProto:
    """Two products, an activation between them."""
    g = G()
    x = g.input("x", [batch, "S", 4])
    y = g(act, g("Add", g("MatMul", x, g.weight(4, inner)), g.weight(inner)))
    return g.model(g("Add", g("MatMul", y, g.weight(inner, 4)), g.weight(4)))


@pytest.mark.parametrize("batch", [1, 2, "N"])
@pytest.mark.parametrize("act", ["Relu", "Erf"])
def test_products_in_a_row(batch: int | str, act: str) -> None:
    """Between two products there are no moves, if a convolution computes what lies there."""
    with forced():
        c = check(layers(batch, act), pulses=(3, 1, "P"), target=NATIVE)
    found = ops(c)
    assert found["Conv"] == 2 and not found["MatMul"] and not found["Gemm"] and not found["Add"]
    assert found["Transpose"] == (2 if act == "Relu" else 4) and c.manifest["needs"] is None


def test_where_it_pays() -> None:
    """From a megabyte and a half on, for this target alone, and not where a block of channels is not full."""
    large, small, odd = (1024, 385), (1024, 256), (1022, 400)
    for (inner, width), made in ((large, 1), (small, 0), (odd, 0)):
        g = G()
        y = g("MatMul", g.input("x", [1, "S", inner]), g.weight(inner, width))
        assert ops(convert(g.model(y), axis="S", pulse=4, target=NATIVE))["Conv"] == made
        assert not ops(convert(g.model(y), axis="S", pulse=4, target="onnxruntime"))["Conv"]
        assert not ops(convert(g.model(y), axis="S", pulse=4, target=NATIVE, optimize="none"))["Conv"]


def test_weights_of_several_products_are_there_once() -> None:
    g = G()
    x = g.input("x", ["N", "S", 8])
    w = g.weight(8, 8)
    y = g("Erf", g("MatMul", x, w))
    with forced():
        c = check(g.model(g("MatMul", y, w)), pulses=(2, 1), target=NATIVE)
    assert ops(c)["Conv"] == 2 and sum(len(t.dims) == 4 for t in c.model.graph.initializer) == 1


def test_what_stays() -> None:
    """Double precision; a bias with more axes than the rows, which the sum has then, is added behind."""
    g = G()
    y = g("MatMul", g.input("x", [1, "S", 8], onnx.TensorProto.DOUBLE), g.weight(8, 8, dtype=np.float64))
    with forced():
        assert not ops(convert(g.model(y, **{y: onnx.TensorProto.DOUBLE}), axis="S", pulse=2, target=NATIVE))["Conv"]
    g = G()
    y = g("Add", g("MatMul", g.input("x", [1, "S", 8]), g.weight(8, 8)), g.weight(1, 1, 1, 8))
    with forced():
        assert ops(check(g.model(y), pulses=(2, "P"), target=NATIVE))["Conv"] == 1


def test_tied_weights() -> None:
    """The same numbers one way and the other are two kernels."""
    g = G()
    x, w = g.input("x", ["S", 8]), g.weight(8, 8)
    with forced():
        c = check(g.model(g("Gemm", g("Erf", g("Gemm", x, w)), w, transB=1)), pulses=(2, 1), target=NATIVE)
    assert ops(c)["Conv"] == 2


@examples(60)
@given(st.data())
def test_any_products(data: st.DataObject) -> None:
    """Biases of any rank, residual connections, products read by others, weights the other way round."""
    g = G(data.draw(st.integers(0, 5), "seed"))
    batch = data.draw(st.sampled_from([None, 1, 2, "N"]), "batch")
    flat = batch is None
    y, outputs = g.input("x", ["S", 8] if flat else [batch, "S", 8]), []
    for _ in range(data.draw(st.integers(1, 4), "layers")):
        before = y
        kind = data.draw(st.sampled_from(["Gemm", "turned", "scaled", "columns"] if flat else ["MatMul"]), "kind")
        if kind == "MatMul":
            y = g("MatMul", y, g.weight(8, 8))
        else:
            bias = data.draw(st.sampled_from([[], [g.weight(8)], [g.weight(1, 8)], [before], [g.weight(1)]]), "third")
            y = g("Transpose", g("Erf", y), perm=[1, 0]) if kind == "columns" else y
            scale = data.draw(st.sampled_from(["alpha", "beta"]), "scale") if kind == "scaled" else ""
            scales = {scale: 0.5} if scale else {}
            y = g("Gemm", y, g.weight(8, 8), *bias, transB=int(kind == "turned"), transA=int(kind == "columns"), **scales)
        added = data.draw(st.sampled_from(["none", "bias", "wide bias", "scalar", "residual"]), "added")
        if added != "none":
            made = {"bias": [8], "wide bias": [1, 8] if flat else [1, 1, 8], "scalar": [1]}
            other = before if added == "residual" else g.weight(*made[added])
            y = g("Add", other, y) if data.draw(st.booleans(), "turned sum") else g("Add", y, other)
        act = data.draw(st.sampled_from(["", "Relu", "Sigmoid", "Tanh", "Erf"]), "act")
        y = g(act, y) if act else y
        if data.draw(st.booleans(), "seen"):
            outputs.append(y)
        if data.draw(st.booleans(), "convolved") and not flat:
            y = g("Transpose", y, perm=[0, 2, 1])
            y = g("Transpose", g("Conv", y, g.weight(8, 8, 2), pads=[1, 0]), perm=[0, 2, 1])
    with forced():
        check(g.model(*{*outputs, y}), pulses=data.draw(pulses()), target=NATIVE)
