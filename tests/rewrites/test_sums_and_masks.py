"""Sums of products, masks as products, equal nodes, masks computed together."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from pulsify.api import convert
from tests.contract_check import check
from tests.graphs import G
from tests.ops.test_unet import unet
from tests.profiles import examples
from tests.rewrites.test_frame_rows import forced
from tests.streams import on_frames


def kinds(c) -> Counter[str]:  # type: ignore[no-untyped-def]
    return Counter(n.op_type for n in c.model.graph.node)


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_skip_sum_is_one_product(batch: int | str) -> None:
    g = G()
    x = g.input("x", [batch, 4, "S"])
    y, skips = x, []
    for _ in range(5):
        y = g("Tanh", g("Conv", y, g.weight(4, 4, 3), g.weight(4), pads=[2, 0]))
        skips.append(g("Conv", y, g.weight(6, 4, 1), g.weight(6)))
    total = skips[0]
    for s in skips[1:]:
        total = g("Add", total, s)
    with forced(False):
        c = check(g.model(total), pulses=(1, 3))
    assert kinds(c)["Gemm"] + kinds(c)["MatMul"] == 6


@given(data=st.data())
@examples(25)
def test_sums_of_anything(data: st.DataObject) -> None:
    """Products with and without a bias, constants, other wires, in any tree."""
    g = G()
    x = g.input("x", [data.draw(st.sampled_from([1, "N"])), 4, "S"])
    terms = [x]
    for _ in range(data.draw(st.integers(2, 5), "terms")):
        kind = data.draw(st.sampled_from(["product", "bias", "tanh", "constant"]), "term")
        source = data.draw(st.sampled_from(terms), "source")
        if kind in ("product", "bias"):
            terms.append(g("Conv", source, g.weight(4, 4, 1), *([g.weight(4)] if kind == "bias" else [])))
        else:
            terms.append(g("Tanh", source) if kind == "tanh" else g("Add", source, g.weight(4, 1)))
    rest = list(terms[1:])
    while len(rest) > 1:
        a, b = rest.pop(data.draw(st.integers(0, len(rest) - 1))), rest.pop()
        rest.append(g("Add", a, b))
    more = [data.draw(st.sampled_from(terms[1:]), "output")] if data.draw(st.booleans()) else []
    with forced(False):
        check(g.model(*dict.fromkeys([*rest, *more])), pulses=(1, 4))


@pytest.mark.parametrize(("dtype", "shape"), [(np.int32, ["S", 4]), (np.int64, ["N", "S", 4])])
def test_products_of_integers_stay_apart(dtype: type, shape: list[int | str]) -> None:
    """No runtime has a Gemm of integers, and a sum of large ones is none in floating point."""
    g = G()
    x = g.input("x", shape, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    bias = 2**53 + 1 if dtype is np.int64 else 2**24 + 1
    terms = [g("Add", g("MatMul", x, g.const(np.arange(12).reshape(4, 3) - k, dtype)), g.const([bias, 2, 3 * bias], dtype)) for k in (3, 7)]
    y = g("Add", *terms)
    c = check(g.model(y, **{y: helper.np_dtype_to_tensor_dtype(np.dtype(dtype))}), pulses=(1, 3))
    assert kinds(c)["MatMul"] == 2


def test_inner_masks_are_products() -> None:
    """The first keeps out what is sent after the end; behind it all is finite."""
    g = G()
    y = g.input("x", [1, 2, "S"])
    for _ in range(4):
        y = g("Relu", g("Conv", y, g.weight(2, 2, 3), g.weight(2), pads=[1, 1]))
    c = check(g.model(y))
    assert kinds(c)["Where"] == 1 and kinds(c)["Mul"] >= 3
    assert kinds(convert(g.model(y), axis="S", pulse=4, optimize="none"))["Where"] == 4


@pytest.mark.parametrize("op", ["Exp", "Reciprocal", "Log"])
def test_what_may_not_be_finite_keeps_its_where(op: str) -> None:
    g = G()
    y = g("Conv", g.input("x", [1, 2, "S"]), g.weight(2, 2, 3), pads=[1, 1])
    y = g("Conv", g(op, g("Mul", y, y)), g.weight(2, 2, 3), pads=[1, 1])
    c = check(g.model(y))
    assert kinds(c)["Where"] == 2


@pytest.mark.parametrize("batch", [1, "N"])
def test_masks_of_one_rate_are_computed_together(batch: int | str) -> None:
    """Whatever the number of delays: one comparison with the start, one with the end."""
    g = G()
    y = g.input("x", [batch, 2, "S"])
    for k in range(6):
        y = g("Tanh", g("Conv", y, g.weight(2, 2, 3 + k % 2), g.weight(2), pads=[1, 1 + k % 2]))
    c = check(g.model(y))
    assert kinds(c)["GreaterOrEqual"] == 1 and kinds(c)["Greater"] <= 2


def test_equal_activations_share_mask_and_buffer() -> None:
    g = G()
    x = g("Conv", g.input("x", [1, 2, "S"]), g.weight(2, 2, 3), pads=[1, 1])
    branches = [g("Conv", g("Relu", x), g.weight(2, 2, 3), pads=[1, 1]) for _ in range(3)]
    c = check(g.model(g("Sum", *branches)))
    assert sum(s["kind"] == "buffer" for s in convert(g.model(*branches), axis="S", pulse=2, optimize="none").manifest["states"]) == 2
    assert kinds(c)["Relu"] == 1


def test_a_mask_of_the_end_keeps_what_was_before_the_start() -> None:
    """What a history holds before the start passes it, and reaches a mask of the start that is a product."""
    g = G()
    x = g.input("x", ["N", 3, "S"])
    check(g.model(unet(g, x, [3, 2], 3, False, "conv", "transposed", "add")), pulses=(6, 12))


def test_a_product_that_is_also_an_output_stays() -> None:
    g = G()
    x = g.input("x", ["N", "S", 4])
    product = g("MatMul", x, g.weight(4, 3))
    total = g("Add", g("Add", product, g.weight(3)), g("MatMul", x, g.weight(4, 3)))
    check(g.model(total, product), pulses=(2,))


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_bias_behind_a_projection_is_its_bias(batch: int | str) -> None:
    """Time-major layers as exporters write them: no Add is left without a batch, however large the bias constant."""
    g = G()
    y = g.input("x", [batch, "S", 6])
    for shape in ((8,), (1, 8), (1, 1, 8)):
        y = g("Relu", g("Add", g.weight(*shape), g("MatMul", y, g.weight(6 if shape == (8,) else 8, 8))))
    c = check(g.model(g("Tanh", y)), pulses=(1, 4))
    kinds = [n.op_type for n in c.model.graph.node]
    if batch == 1:
        assert "Add" not in kinds and kinds.count("Gemm") == 3 and kinds.count("Reshape") <= 2


def test_one_number_for_all() -> None:
    """A number added to a product is its bias: what keeps a logarithm from zero."""
    for batch in (1, "N"):
        g = G()
        y = g("MatMul", g("Abs", g.input("x", [batch, "S", 6])), g.const(np.abs(g.rng.standard_normal((6, 4))).astype(np.float32)))
        y = g("Conv", g("Transpose", g("Log", g("Add", y, g.const(np.float32(1e-3)))), perm=[0, 2, 1]), g.weight(64, 4, 3))
        c = check(g.model(y), pulses=(1, 4))
        assert kinds(c)["Add"] == (batch == "N")


def pooled_skip() -> onnx.ModelProto:
    g = G()
    x = g.input("x", [1, 3, "S"])
    y = g("Add", g("Sigmoid", g("MaxPool", x, kernel_shape=[3], pads=[1, 1])), x)
    return g.model(g("Conv", y, g.weight(3, 3, 3), pads=[1, 1]))


def test_what_is_filled_with_infinity_stays_no_product() -> None:
    """A pooling of the largest is filled with -inf, and the wire beside it with what it reads."""
    check(pooled_skip(), pulses=(1, 4))
    convert(pooled_skip(), axis="S", pulse=4, optimize="size").verify()


def test_an_infinite_constant_in_front_of_a_mask() -> None:
    g = G()
    y = g("Add", g("Conv", g.input("x", [1, 3, "S"]), g.weight(3, 3, 2)), g.const(np.float32([np.inf])))
    check(g.model(g("Conv", y, g.const(np.full((3, 3, 3), 0.5, np.float32)), pads=[2, 0])), pulses=(1, 4))


@pytest.mark.parametrize("pulse", [1, 4, 64])
def test_what_cancels_within_a_sum_stays_together(pulse: int) -> None:
    """Rows and convolutions: a sum without a product in it is one summand of the sum it is in."""
    g = G()
    x, n, z = (g.input(name, [1, 8, "S"]) for name in "xnz")
    plus = g("Add", x, g.const(np.full((1, 8, 1), -1e4, np.float32)))
    sums = [g("Sum", d, *(g("Conv", z, g.weight(8, 8, 1)) for _ in range(3))) for d in (plus, g("Add", g("Add", x, n), z))]
    near = {name: (mean + g.rng.standard_normal((1, 8, 80))).astype(np.float32) for name, mean in zip("xnz", (1e4, -1e4, 0))}
    on_frames(g.model(*sums), pulse, **near)
