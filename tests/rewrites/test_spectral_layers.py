"""Layers over frequency, rewritten for speed: grouped projections and depthwise transposed convolutions."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.api import convert
from pulsify.rewrites import spectra_as_products
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples
from tests.rewrites.test_frame_rows import forced


@pytest.mark.parametrize("equation", ["btgi,gio->btgo", "btgi,goi->btgo", "btgi,gio->bgto", "bgti,iog->otbg", "bti,io->bto", "ibt,io->obt"])
def test_grouped_projections(equation: str) -> None:
    g = G()
    given = equation.split("->")[0]
    data, weight = given.split(",")
    size = {"b": 1, "t": "S", "g": 3, "i": 4, "o": 2}
    x = g.input("x", [size[c] for c in data])
    y = g("Einsum", x, g.weight(*(size[c] for c in weight)), equation=equation)
    c = check(g.model(g("Tanh", y)), pulses=(1, 3, "P"))
    assert "Einsum" in [n.op_type for n in c.model.graph.node], "a dynamic pulse keeps it"
    fixed = convert(g.model(g("Tanh", y)), axis="S", pulse=3)
    assert "Einsum" not in [n.op_type for n in fixed.model.graph.node]


@pytest.mark.parametrize(("equation", "data", "weight"), [("btgi,gio->btgo", [1, "S", 3, 4], [1, 4, 5]), ("bti,io->bto", [1, "S", 1], [4, 5])])
def test_einsums_that_broadcast_stay(equation: str, data: list[int | str], weight: list[int]) -> None:
    g = G()
    c = check(g.model(g("Einsum", g.input("x", data), g.weight(*weight), equation=equation)), pulses=(1, 3))
    assert "Einsum" in [n.op_type for n in c.model.graph.node]


@pytest.mark.parametrize("equation", ["bti,bti->bti", "bti,io->to", "bti,bti->bt"])
def test_other_einsums_stay(equation: str) -> None:
    g = G()
    size = {"b": 1, "t": "S", "i": 4, "o": 2}
    right = equation.split("->")[0].split(",")[1]
    x = g.input("x", [1, "S", 4])
    other = g("Tanh", x) if right == "bti" else g.weight(*(size[c] for c in right))
    check(g.model(g("Einsum", x, other, equation=equation)), pulses=(1, 3))


@given(data=st.data())
@examples(25)
def test_depthwise_upsampling_of_frequency(data: st.DataObject) -> None:
    """Any kernel, stride, pads; with and without a kernel along time, a bias, a batch."""
    g = G()
    k, s, kt = data.draw(st.integers(1, 5), "kernel"), data.draw(st.integers(1, 3), "stride"), data.draw(st.integers(1, 3), "time")
    pads = [0, data.draw(st.integers(0, k - 1)), 0, data.draw(st.integers(0, k - 1))]
    x = g.input("x", [data.draw(st.sampled_from([1, "N"])), 3, "S", 6])
    bias = [g.weight(3)] if data.draw(st.booleans(), "bias") else []
    y = g(
        "ConvTranspose", x, g.weight(3, 1, kt, k), *bias, group=3, strides=[1, s], pads=pads,
        output_padding=[0, data.draw(st.integers(0, s - 1))],
    )  # fmt: skip
    check(g.model(g("Relu", y)), "S", (1, 2))


def test_it_is_a_convolution() -> None:
    g = G()
    y = g("ConvTranspose", g.input("x", [1, 4, "S", 8]), g.weight(4, 1, 1, 3), group=4, strides=[1, 2], pads=[0, 1, 0, 1], output_padding=[0, 1])
    kinds = [n.op_type for n in convert(g.model(y), axis="S", pulse=1).model.graph.node]
    assert "Conv" in kinds and "ConvTranspose" not in kinds


@pytest.mark.parametrize("op", ["ReduceSumSquare", "ReduceL2", "ReduceSum"])
@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("keep", [0, 1])
def test_powers_of_spectra(op: str, axis: int, keep: int) -> None:
    """A sum over the two parts of a complex number; only where there are many of them."""
    kinds = {}
    for bins in (1024, 3):
        g = G()
        x = g.input("x", [1, 2, "S", bins] if axis == 1 else ["N", "S", bins, 2])
        y = g(op, g("Tanh", x), g.ints(axis), keepdims=keep)
        kinds[bins] = {n.op_type for n in check(g.model(g("Sqrt", g("Abs", y))), pulses=(1, 2, "P")).model.graph.node}
    assert op not in kinds[1024] and op in kinds[3]


@given(data=st.data())
@examples(25)
def test_short_time_spectra(data: st.DataObject) -> None:
    """Any hop, with and without a window, one- and two-sided, over signals of two shapes. (onnxruntime's own transforms of
    lengths that are no power of two are too far from the truth to compare with.)"""
    g = G()
    size, hop = data.draw(st.sampled_from([2, 4, 8, 16, 32]), "size"), data.draw(st.integers(1, 12), "hop")
    x = g.input("x", [data.draw(st.sampled_from([1, "N"])), "S", *data.draw(st.sampled_from([[], [1]]), "rank")])
    window = data.draw(st.booleans(), "window")
    rest = [g.weight(size)] if window else ["", g.const(size, "int64")]
    y = g("STFT", x, g.const(hop, "int64"), *rest, onesided=data.draw(st.integers(0, 1), "onesided"))
    pulse = hop * data.draw(st.sampled_from([1, 3]), "frames")
    with mock.patch.object(spectra_as_products._Spectrum, "pays", True):
        c = check(g.model(g("ReduceSumSquare", y, g.ints(-1))), "S", (pulse,))
    assert "STFT" not in [n.op_type for n in c.model.graph.node]


@given(data=st.data())
@examples(25)
def test_spectra_of_frames(data: st.DataObject) -> None:
    """Transforms longer and shorter than the frames."""
    g = G(opset=data.draw(st.sampled_from([17, 20]), "opset"))
    taps = data.draw(st.integers(2, 12), "taps")
    x = g("Unsqueeze", g.input("x", [data.draw(st.sampled_from([1, "N"])), "S", taps]), g.ints(3))
    length = g.const(data.draw(st.sampled_from([2, 4, 8, 16]), "length"), "int64")
    axis = {"axis": 2} if g.opset < 20 else {}
    y = g("DFT", x, length, onesided=data.draw(st.integers(0, 1), "onesided"), **axis)
    with mock.patch.object(spectra_as_products._Spectrum, "pays", True):
        c = check(g.model(g("Tanh", y)), "S", (1, 3))
    assert "DFT" not in [n.op_type for n in c.model.graph.node]


@pytest.mark.parametrize(("size", "frames", "product"), [(64, 4, True), (512, 1, False), (2048, 8, False), (320, 8, False)])
def test_where_a_product_is_faster(size: int, frames: int, product: bool) -> None:
    """Short transforms of many windows."""
    g = G()
    y = g("STFT", g.input("x", [1, "S"]), g.const(size // 2, "int64"), g.weight(size))
    kinds = [n.op_type for n in convert(g.model(g("Tanh", y)), axis="S", pulse=frames * (size // 2)).model.graph.node]
    assert ("STFT" not in kinds) == product


def test_a_dynamic_pulse_keeps_its_transforms() -> None:
    g = G()
    y = g("STFT", g.input("x", [1, "S"]), g.const(32, "int64"), g.weight(64))
    assert "STFT" in [n.op_type for n in check(g.model(g("Tanh", y)), pulses=("P",)).model.graph.node]


@pytest.mark.parametrize("op", ["ReduceSumSquare", "ReduceL2", "ReduceSum"])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("batch", [1, "N"])
def test_powers_of_a_filter_bank(op: str, keep: int, batch: int | str) -> None:
    """A spectrum by convolution, its halves cut out by a Reshape: neither they nor the frames are moved."""
    g = G()
    x = g.input("x", [batch, 1, "S"])
    y = g("Conv", x, g.weight(322, 1, 8), strides=[4])
    y = g(op, g("Reshape", y, g.ints(0, 2, 161, -1)), g.ints(1), keepdims=keep)
    y = g("MatMul", g("Transpose", g("Squeeze", y, g.ints(1)) if keep else y, perm=[0, 2, 1]), g.weight(161, 7))
    c = check(g.model(g("Tanh", y)), pulses=(4, 32))
    assert not {op, "Transpose"} & {n.op_type for n in c.model.graph.node}


@pytest.mark.parametrize("batch", [1, "N"])
def test_halves_of_channels(batch: int | str) -> None:
    """A spectrum by convolution, its halves taken by Slices: in row form all the way."""
    g = G()
    y = g("Conv", g.input("x", [batch, 1, "S"]), g.weight(64, 1, 8), strides=[4])
    a, b = (g("Slice", y, g.ints(*at), g.ints(to), g.ints(1)) for at, to in (((0,), 32), ((-32,), 2**62)))
    y = g("Sqrt", g("Add", g("Mul", a, a), g("Mul", b, b)))
    y = g("MatMul", g("Transpose", y, perm=[0, 2, 1]), g.weight(32, 7))
    with forced(False):
        kinds = [n.op_type for n in check(g.model(g("Tanh", y)), pulses=(4, 32)).model.graph.node]
    assert not {"Transpose", "Conv"} & set(kinds)
