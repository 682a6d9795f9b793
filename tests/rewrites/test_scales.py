"""Scales and shifts per channel go into the products behind which, or in front of which, they are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify import StreamSession
from pulsify.api import Conversion, convert
from tests.contexts import pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples
from tests.streams import on_frames

#: What scales or shifts, and what of it an affine map needs: every one of them is tried at every place.
KINDS = ("norm", "times", "times all", "over", "plus", "minus", "from", "negative")


def kinds(c: Conversion) -> Counter[str]:
    return Counter(n.op_type for n in c.model.graph.node)


def norm(g: G, x: str, channels: int) -> str:
    """Batch normalisation."""
    mean, variance = g.weight(channels), g.const(np.abs(g.rng.standard_normal(channels)).astype(np.float32) + 0.5)
    return g("BatchNormalization", x, g.weight(channels), g.weight(channels), mean, variance)


def affine(g: G, kind: str, x: str, channels: int, after: int, positive: bool = False) -> str:
    """A node of this kind over the channels, behind which the wire has ``after`` more axes."""
    shape = (channels, *[1] * after)
    value = g.rng.uniform(0.5, 2, shape) * (1 if positive else g.rng.choice([-1, 1], shape))
    c = g.const(value.astype(np.float32))
    return {
        "norm": lambda: norm(g, x, channels), "times": lambda: g("Mul", c, x), "over": lambda: g("Div", x, c),
        "times all": lambda: g("Mul", x, g.const(np.float32(0.5))), "plus": lambda: g("Add", x, c), "minus": lambda: g("Sub", x, c),
        "from": lambda: g("Sub", c, x), "negative": lambda: g("Neg", x),
    }[kind]()  # fmt: skip


@given(data=st.data())
@examples(80)
def test_anywhere(data: st.DataObject) -> None:
    """Behind and in front of products of every kind, with histories, masks, activations, axes that move and other readers."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    draw = lambda kinds, label: data.draw(st.sampled_from(kinds), label)  # noqa: E731
    y = g.input("x", [draw([1, "N"], "batch"), 4, "S"])
    others = []
    for _ in range(data.draw(st.integers(1, 3), "layers")):
        form = draw(["conv", "conv", "groups", "depthwise", "matmul", "biased", "picture", "transposed"], "product")
        k, bias = data.draw(st.integers(1, 3), "kernel"), [g.weight(4)] if data.draw(st.booleans(), "bias") else []
        before = draw([0, k - 1], "zeros in front")
        kind, place, active = draw(KINDS, "affine"), draw(["behind", "ahead", "both"], "place"), draw(["", "Relu", "LeakyRelu"], "active")
        last = form in ("matmul", "biased")
        if last:
            y = g("Transpose", y, perm=[0, 2, 1])
        if place != "behind":
            y = affine(g, draw([q for q in KINDS if q != "norm" or not last], "in front"), y, 4, 0 if last else 1, positive=draw([True, False], "positive"))
            y = g(active, y) if active else y
        if data.draw(st.booleans(), "another reader"):
            others.append(y)
        if last:
            y = g("MatMul", y, g.weight(4, 4))
            y = g("Add", y, g.weight(4)) if form == "biased" else y
        elif form == "picture":
            y = g("Unsqueeze", y, g.ints(2))
            y = g("Squeeze", g("Conv", y, g.weight(4, 4, 3, k), *bias, pads=[1, before, 1, k - 1 - before]), g.ints(2))
        elif form == "transposed":
            group = draw([1, 2], "groups")
            y = g("ConvTranspose", y, g.weight(4, 4 // group, 3), *bias, group=group, pads=[2, 0])
        else:
            group = {"conv": 1, "groups": 2, "depthwise": 4}[form]
            y = g("Conv", y, g.weight(4, 4 // group, k), *bias, group=group, pads=[before, k - 1 - before])
        if data.draw(st.booleans(), "moved before the scale"):
            y, last = g("Transpose", y, perm=[0, 2, 1]), not last
        if place != "ahead":
            y = affine(g, "times" if last and kind == "norm" else kind, y, 4, 0 if last else 1)
        y = g("Transpose", y, perm=[0, 2, 1]) if last else y
        y = g("Tanh", y) if data.draw(st.booleans(), "tanh") else y
    check(g.model(y, *[o for o in others if o != y]), pulses=data.draw(pulses()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, "N"])
def test_behind(kind: str, batch: Any) -> None:
    """Nothing is left of a scale behind a convolution, in one dimension, two, or transposed."""
    ops = {"norm": "BatchNormalization", "times": "Mul", "times all": "Mul", "over": "Div", "minus": "Sub", "from": "Sub", "negative": "Neg"}
    for form in ("conv", "groups", "picture", "transposed"):
        g = G()
        x = g.input("x", [batch, 4, "S", *([3] if form == "picture" else [])])
        if form == "transposed":
            y = g("ConvTranspose", x, g.weight(4, 3, 4), group=2, strides=[2], pads=[1, 1])
        else:
            y = g("Conv", x, g.weight(6, 4, 3, *([2] if form == "picture" else [])) if form != "groups" else g.weight(6, 2, 3), group=2 if form == "groups" else 1)
        c = check(g.model(g("Tanh", affine(g, kind, y, 6, 2 if form == "picture" else 1))), pulses=(1, 4))
        assert kind == "plus" or not kinds(c)[ops[kind]]
        assert kinds(c)["Add"] <= (batch == "N")  # the bias of a product with a batch


def test_a_factor_of_a_layer() -> None:
    """``x + 0.5*(h @ W + b)`` is one Gemm and the sum, the factor within it."""
    g = G()
    x = g.input("x", [1, "S", 4])
    h = g("Add", g("MatMul", g("Sigmoid", x), g.weight(4, 4)), g.weight(4))
    c = check(g.model(g("Add", x, g("Mul", h, g.const(np.float32(0.5))))), pulses=(1, 4))
    assert not kinds(c)["Mul"] and kinds(c)["Gemm"] == 1


def stack(g: G, padded: bool) -> str:
    """Layers as those of a TDNN: convolution, activation, batch normalisation."""
    y = g.input("x", [1, 4, "S"])
    for k in (3, 3, 1):
        y = norm(g, g("Relu", g("Conv", y, g.weight(4, 4, k), g.weight(4), pads=[k - 1 if padded else 0, 0])), 4)
    return g("Conv", y, g.weight(4, 4, 1))


def test_behind_an_activation() -> None:
    """A shift goes ahead where no zeros are read as padding: into whole windows, and where a window is one frame."""
    for padded, left in ((False, 0), (True, 1)):
        g = G()
        c = check(g.model(stack(g, padded)), pulses=(1, 4))
        assert kinds(c)["BatchNormalization"] == left


def test_a_third_ahead() -> None:
    """The mean of three branches in front of an activation and padded convolutions, one of them transposed."""
    g = G()
    x = g.input("x", [1, 4, "S"])
    y = g("Add", g("Add", g("Sigmoid", x), g("Tanh", x)), g("Sin", x))
    y = g("LeakyRelu", g("Div", y, g.const(np.float32(3))))
    up = g("ConvTranspose", y, g.weight(4, 4, 4), strides=[2], pads=[1, 1])
    c = check(g.model(up, g("Conv", y, g.weight(4, 4, 3), pads=[1, 1])), pulses=(1, 4))
    assert not kinds(c)["Div"]


@pytest.mark.parametrize("case", ["negative", "shifted", "read", "output", "weight", "active", "residual"])
def test_what_stays(case: str) -> None:
    """Negative factors in front of a Relu, shifts in front of one and of padding, other readers, an output, a weight of two."""
    g = G()
    x = g("Tanh", g.input("x", [1, 4, "S"]))
    kind, op = ("plus", "Add") if case in ("shifted", "active") else ("times", "Mul")
    y = affine(g, kind, x, 4, 1, positive=case != "negative")
    z = g("Relu" if case in ("negative", "active") else "Sin" if case == "read" else "LeakyRelu", y) if case not in ("shifted", "weight") else y
    w = g.weight(4, 4, 3)
    outputs = [g("Conv", z, w, pads=[2, 0])]
    if case == "output":
        outputs.append(y)
    if case == "weight":
        outputs.append(g("Conv", g("Cos", x), w, pads=[2, 0]))
    if case == "residual":
        outputs.append(g("Sin", y))
    c = check(g.model(*outputs), pulses=(4, 1))
    assert kinds(c)[op] == 1


def test_what_a_runtime_knows() -> None:
    """The half of a Gelu and the scale of a normalisation stay where a runtime looks for them."""
    g = G()
    x = g.input("x", [1, "S", 8])
    half, one, root = (g.const(np.float32(v)) for v in (0.5, 1, 2**0.5))
    y = g("Mul", g("Mul", x, g("Add", g("Erf", g("Div", x, root)), one)), half)
    y = g("MatMul", y, g.weight(8, 8))
    mean = g("ReduceMean", g("Pow", y, g.const(np.float32(2))), g.ints(-1))
    y = g("Mul", g("Div", y, g("Sqrt", g("Add", mean, g.const(np.float32(1e-5))))), g.weight(8))
    c = check(g.model(g("MatMul", y, g.weight(8, 8))), pulses=(1, 4))
    assert kinds(c)["Mul"] == 3


@pytest.mark.parametrize("kind", ["times", "plus"])
@pytest.mark.parametrize("behind", [True, False])
def test_another_axis(kind: str, behind: bool) -> None:
    """As many frequencies as channels: a scale over frequencies is not one over channels."""
    g = G()
    x = g.input("x", [1, 4, "S", 4])
    over = lambda y: affine(g, kind, y, 4, 0)  # noqa: E731
    y = g("Conv", x if behind else over(x), g.weight(4, 4, 2, 1))
    c = check(g.model(over(y) if behind else y), pulses=(1, 4))
    assert kinds(c)[{"times": "Mul", "plus": "Add"}[kind]] == 1


@pytest.mark.parametrize("kind", ["norm", "times"])
def test_padding_over_frequencies(kind: str) -> None:
    """Zeros beside a picture are zeros of what was shifted; a scale may go ahead of them."""
    g = G()
    y = affine(g, kind, g("Tanh", g.input("x", [1, 4, "S", 5])), 4, 2)
    c = check(g.model(g("Conv", y, g.weight(3, 4, 2, 3), pads=[0, 1, 0, 1])), pulses=(1, 4))
    assert kinds(c)["BatchNormalization"] == (kind == "norm") and not kinds(c)["Mul"]


@given(data=st.data())
@examples(40)
def test_left_alone(data: st.DataObject) -> None:
    """Scales and shifts with nothing but sines around them, one or two in a row, over channels or over another axis."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    batch, after = data.draw(st.sampled_from([1, "N"])), data.draw(st.sampled_from([1, 2]), "axes behind the channels")
    y = g("Sin", g.input("x", [batch, 4, "S", *([4] if after == 2 else [])]))
    for _ in range(data.draw(st.integers(1, 3), "nodes")):
        y = affine(g, data.draw(st.sampled_from(KINDS), "kind"), y, 4, data.draw(st.sampled_from([after, after, 0]) if after == 2 else st.just(after)))
    outputs = [y, g("Cos", y)] if data.draw(st.booleans(), "an output") else [g("Cos", y)]
    check(g.model(*outputs), pulses=data.draw(pulses()))


@pytest.mark.parametrize(("pulse", "nodes", "alone"), [(1, 1, 0), (8, 1, 1), (1, 2, 1), (8, 2, 1)])
def test_as_one_kernel(pulse: int, nodes: int, alone: int) -> None:
    """A scale and a shift always; one of them where several numbers of a channel lie side by side. One number for all never."""
    g = G()
    y = affine(g, "times", g("Sin", g.input("x", [1, 4, "S"])), 4, 1)
    y = affine(g, "plus", y, 4, 1) if nodes == 2 else y
    y = g("Add", g("Mul", g("Sin", y), g.const(np.float32(0.5))), g.const(np.float32(0.25)))
    c = check(g.model(g("Cos", y)), pulses=(pulse,))
    found = kinds(c)
    assert found["BatchNormalization"] == alone and found["Mul"] + found["Add"] == 2 + nodes * (not alone)


def test_a_lifted_one() -> None:
    """Between convolutions over pictures one pixel high a batch normalisation is one over such pictures, too."""
    g = G()
    y = g.input("x", [1, 16, "S"])
    for _ in range(2):
        y = norm(g, g("Sin", g("Conv", y, g.weight(16, 1, 3), group=16, pads=[2, 0])), 16)
    c = check(g.model(g("Conv", y, g.weight(16, 1, 3), group=16, pads=[2, 0])), pulses=(64,))
    assert kinds(c)["Unsqueeze"] == kinds(c)["Squeeze"] == 1


def test_a_constant_that_makes_a_wire_wider() -> None:
    """One channel times a constant of four is four channels: the product behind them needs them all."""
    for kind in ("times", "plus"):
        g = G()
        x = g("Conv", g.input("x", [1, 3, "S"]), g.weight(1, 3, 1))
        c = check(g.model(g("Conv", affine(g, kind, x, 4, 1), g.weight(2, 4, 1))), pulses=(1, 4))
        assert kinds(c)["Mul"] + kinds(c)["Add"] == 1


def test_an_offset_much_larger_than_what_is_left() -> None:
    """Taken away exactly, in front of a product or of a scale: digits would be lost within either."""
    g = G()
    x = g.input("x", [1, 4, "S"])
    y, z = (g("Sub", x, g.const(np.full((4, 1), offset, np.float32))) for offset in (4096, 4095))
    model = g.model(g("Conv", y, g.weight(2, 4, 1)), g("Mul", z, g.weight(4, 1)))
    on_frames(model, 4, x=(4096 + g.rng.uniform(-0.1, 0.1, (1, 4, 40))).astype(np.float32))


@pytest.mark.parametrize("case", ["behind", "ahead", "alone", "overflow behind", "overflow ahead", "overflow alone"])
def test_factors_no_float_holds(case: str) -> None:
    """``1/d`` of a denormal d, and products of two large factors, are infinite: ``x/d`` of a small x is not."""
    g = G()
    x = g.input("x", [1, 4, "S"])
    over, size, small = case.startswith("over"), (1e25 if case.startswith("over") else 1), np.array([1e-39, 1e-40, 1, 2])
    divisor = g.const(np.float32(1 / size if over else small).reshape(-1, 1) * np.ones((4, 1), np.float32))
    weight = g.const((np.eye(4) * size).astype(np.float32)[:, :, None])
    if case == "overflow behind":  # a runtime puts it within a Conv by itself
        rows = g("MatMul", g("Transpose", x, perm=[0, 2, 1]), g.const(np.eye(4, dtype=np.float32) * np.float32(size)))
        y = g("Transpose", g("Div", rows, g.const(np.float32([1 / size]))), perm=[0, 2, 1])
    elif case == "behind":
        y = g("Div", g("Conv", x, weight), divisor)
    elif case.endswith("ahead"):
        y = g("Conv", g("Div", x, divisor), weight)
    else:
        factor = g.const(np.full((4, 1), size, np.float32))
        y = g("Add", g("Div", g("Mul", x, factor) if over else g("Sin", x), divisor), g.const(np.ones((4, 1), np.float32)))
    model = g.model(y)
    fed = np.full((1, 4, 6), 1e-38, np.float32)
    fed[:, :, 3] = 0
    c = convert(model, axis="S", pulse=2)
    stream = StreamSession(c.model.SerializeToString())
    got = np.concatenate([stream.feed({"x": fed})[y], stream.finish()[y]], axis=2)
    (want,) = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, {"x": fed})
    assert np.isfinite(want).all()
    assert np.allclose(got, want, rtol=1e-5)
