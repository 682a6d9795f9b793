"""What depthwise convolutions take of the past: one product and one sum for all of them."""

from __future__ import annotations

from collections import Counter
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.api import Conversion, convert
from pulsify.rewrites import frame_rows, past_sums
from pulsify.rewrites._region import Choice
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


def kinds(c: Conversion) -> Counter[str]:
    return Counter(n.op_type for n in c.model.graph.node)


def in_rows() -> mock._patch[object]:
    """All in row form, whatever it costs."""
    return mock.patch.object(frame_rows, "choose", lambda g, forms: Choice(set(forms), set()))


def depthwise(g: G, y: str, kernel: int, dilation: int = 1, bias: bool = True, after: int = 0, channels: int = 4) -> str:
    pads = [(kernel - 1) * dilation - after, after]
    b = [g.weight(channels)] if bias else []
    return str(g("Conv", y, g.weight(channels, 1, kernel), *b, group=channels, dilations=[dilation], pads=pads))


@given(data=st.data())
@examples(80)
def test_layers(data: st.DataObject) -> None:
    """Kernels alike and not, dilations, look-ahead, dense layers between whose past is read as well, other readers, two widths."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    draw = lambda kinds, label: data.draw(st.sampled_from(kinds), label)  # noqa: E731
    y = g.input("x", [draw([1, "N"], "batch"), 4, "S"])
    others = []
    for _ in range(data.draw(st.integers(2, 5), "layers")):
        k, d = draw([2, 2, 3, 3, 5], "kernel"), draw([1, 1, 2, 4], "dilation")
        before = draw(["Relu", "Tanh", "Sin", ""], "before")
        x = g(before, y) if before else y
        y = depthwise(g, x, k, d, data.draw(st.booleans(), "bias"), draw([0, 0, 0, d], "after"))
        kind = draw(["residual", "dense", "activated", "alone", "twice"], "behind")
        if kind == "residual":
            y = g("Add", y, x)
        elif kind == "dense":
            y = g("Conv", g("Relu", y), g.weight(4, 4, 2), g.weight(4), pads=[1, 0])
        elif kind == "activated":
            y = g("Relu", y)
        elif kind == "twice":
            y = g("Mul", y, depthwise(g, x, k, d))
        if draw([False, False, True], "read elsewhere"):
            others.append(g("Cos", x))
    with in_rows(), mock.patch.object(past_sums, "_pays", lambda layers: True):
        check(g.model(y, *others[:1]), pulses=(1, draw([1, 2, 4], "pulse")))


@pytest.mark.parametrize("batch", [1, "N"])
def test_one_sum_for_all(batch: int | str) -> None:
    """Six layers of one kernel: a Mul, a ReduceSum and an Add for what is past, a Mul and an Add for each; nothing is joined
    but what is remembered."""
    g = G()
    y = g.input("x", [batch, 4, "S"])
    for k in range(6):
        y = g("Relu", depthwise(g, y, 3, 2**k))
    with in_rows(), mock.patch.object(past_sums, "_pays", lambda layers: True):
        count = kinds(check(g.model(y), pulses=(1,)))
    assert (count["Mul"], count["ReduceSum"], count["Add"]) == (7, 1, 7)
    assert count["Concat"] == 1 and not count["Gemm"] + count["MatMul"]


@pytest.mark.parametrize("batch", [1, "N"])
def test_behind_each_other(batch: int | str) -> None:
    """What one layer makes is the frame of the next."""
    g = G()
    y = g("Tanh", g.input("x", [batch, 4, "S"]))
    for _ in range(3):
        y = depthwise(g, y, 3)
    with in_rows(), mock.patch.object(past_sums, "_pays", lambda layers: True):
        assert kinds(check(g.model(y), pulses=(1,)))["ReduceSum"] == 1


def test_kernels_apart() -> None:
    """Layers of other kernels are summed by themselves, and one alone keeps its window."""
    g = G()
    y = g.input("x", ["N", 4, "S"])
    for k in (3, 5, 3, 5, 7):
        y = g("Relu", depthwise(g, y, k))
    with in_rows():
        count = kinds(check(g.model(y), pulses=(1,)))
    assert count["ReduceSum"] == 2 and count["MatMul"] == 1


@pytest.mark.parametrize(("layers", "kernel", "channels", "sums"), [(3, 3, 8, 0), (8, 3, 8, 1), (3, 31, 128, 1)])
def test_where_it_pays_for_one_recording(layers: int, kernel: int, channels: int, sums: int) -> None:
    """A sum within a product is as fast, unless there are many layers, or long ones."""
    g = G()
    y = g.input("x", [1, channels, "S"])
    for _ in range(layers):
        y = g("Relu", depthwise(g, y, kernel, channels=channels))
    with in_rows():
        assert kinds(convert(g.model(y), axis="S", pulse=1))["ReduceSum"] == sums


def test_more_frames_stay() -> None:
    """In a pulse longer than the dilation a window reads what is before the pulse and several frames of it."""
    g = G()
    y = g.input("x", ["N", 4, "S"])
    for _ in range(3):
        y = g("Relu", depthwise(g, y, 3))
    with in_rows():
        assert not kinds(check(g.model(y), pulses=(2,)))["ReduceSum"]
