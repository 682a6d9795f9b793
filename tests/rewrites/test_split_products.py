"""Products whose channels are taken apart are products for each part."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.api import Conversion
from tests.contexts import pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


def kinds(c: Conversion) -> Counter[str]:
    return Counter(n.op_type for n in c.model.graph.node)


def gated(g: G, y: str, axis: int, sizes: list[int], slices: bool = False) -> list[str]:
    """The parts of a wire, one after the other."""
    if not slices:
        return list(g("Split", y, g.ints(*sizes), n=len(sizes), axis=axis))
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
    return [g("Slice", y, g.ints(end - size), g.ints(end if end < sum(sizes) else 2**62), g.ints(axis)) for size, end in zip(sizes, ends)]


@given(data=st.data())
@examples(60)
def test_gates(data: st.DataObject) -> None:
    """Convolutions in one dimension and two, products with a bias and without, channels last; by Split and by Slice."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    form = data.draw(st.sampled_from(["conv", "picture", "matmul", "biased"]), "form")
    batch, slices = data.draw(st.sampled_from([1, "N"])), data.draw(st.booleans(), "slices")
    first, second = data.draw(st.integers(1, 5), "first"), data.draw(st.integers(1, 5), "second")
    x = g("Tanh", g.input("x", {"conv": [batch, 4, "S"], "picture": [batch, 4, "S", 3]}.get(form, [batch, "S", 4])))
    if form == "conv":
        k, before = data.draw(st.integers(1, 3), "kernel"), data.draw(st.integers(0, 1), "before")
        y = g("Conv", x, g.weight(first + second, 4, k), *([g.weight(first + second)] if before else []), pads=[before * (k - 1), 0])
    elif form == "picture":
        y = g("Conv", x, g.weight(first + second, 4, 2, 3), g.weight(first + second), pads=[1, 1, 0, 1])
    else:
        y = g("MatMul", x, g.weight(4, first + second))
        y = g("Add", y, g.weight(first + second)) if form == "biased" else y
    axis = 1 if form in ("conv", "picture") else 2
    a, b = gated(g, y, axis, [first, second], slices)
    a = g(data.draw(st.sampled_from(["Tanh", "Sin", "Sigmoid"]), "active"), a)
    b = g("Sigmoid", b)
    outputs = [g("Mul", a, b)] if first == second else [a, b]
    if data.draw(st.booleans(), "another reader"):
        outputs.append(g("Cos", y))
    check(g.model(*outputs), pulses=data.draw(pulses()))


@pytest.mark.parametrize("slices", [False, True])
@pytest.mark.parametrize("form", ["conv", "picture", "matmul"])
def test_apart(slices: bool, form: str) -> None:
    """Nothing is split any more."""
    g = G()
    x = g.input("x", {"conv": [1, 4, "S"], "picture": [1, 4, "S", 3]}.get(form, [1, "S", 4]))
    if form == "matmul":
        y = g("Add", g("MatMul", x, g.weight(4, 6)), g.weight(6))
    else:
        y = g("Conv", x, g.weight(6, 4, *([3, 1] if form == "picture" else [3])), g.weight(6))
    a, b = gated(g, y, 2 if form == "matmul" else 1, [3, 3], slices)
    c = check(g.model(g("Mul", g("Tanh", a), g("Sigmoid", b))), pulses=(1, 4))
    assert not kinds(c)["Split"] and kinds(c)["Slice"] == (form != "matmul")  # that of the history
    assert sum(kinds(c)[op] for op in ("Conv", "Gemm", "MatMul")) == 2


@pytest.mark.parametrize("case", ["idle", "read", "windows", "frequencies"])
def test_together(case: str) -> None:
    """Without an activation, where the whole is read, too, over many windows, over another axis."""
    g = G()
    x = g.input("x", [1, 4, "S", 6] if case == "frequencies" else [1, 4, "S"])
    y = g("Conv", x, g.weight(6, 4, *([1, 1] if case == "frequencies" else [3])), g.weight(6))
    a, b = gated(g, y, 3 if case == "frequencies" else 1, [3, 3])
    out = g("Mul", g("Sin" if case == "idle" else "Tanh", a), g("Cos" if case == "idle" else "Sigmoid", b))
    c = check(g.model(out, *([g("Cos", y)] if case == "read" else [])), pulses=(64 if case == "windows" else 1,))
    assert kinds(c)["Split"] == 1


@pytest.mark.parametrize(("channels", "pulse", "left"), [(4, 1, 0), (16, 16, 0), (128, 64, 1)])
def test_residual_and_skip(channels: int, pulse: int, left: int) -> None:
    """What goes on and what goes to the output, computed together: each within its sum, unless there is much of it."""
    g = G()
    x = g("Tanh", g.input("x", [1, channels, "S"]))
    total = g("Sin", x)
    for _ in range(2):
        y = g("Conv", g("Cos", x), g.weight(2 * channels, channels, 1), g.weight(2 * channels))
        a, b = gated(g, y, 1, [channels, channels])
        x, total = g("Add", x, a), g("Add", total, b)
    c = check(g.model(g("Tanh", x), total), pulses=(pulse,))
    assert kinds(c)["Split"] == 2 * left


@pytest.mark.parametrize("opset", [11, 13])
def test_sizes_as_an_attribute(opset: int) -> None:
    """Up to opset 12 a Split tells its sizes so."""
    g = G(opset=opset)
    y = g("Conv", g.input("x", [1, 4, "S"]), g.weight(6, 4, 3), g.weight(6), pads=[2, 0])
    a, b = g("Split", y, n=2, axis=1, split=[2, 4]) if opset < 13 else g("Split", y, g.ints(2, 4), n=2, axis=1)
    c = check(g.model(g("Tanh", a), g("Sigmoid", b)), pulses=(1, 4))
    assert not kinds(c)["Split"]


def test_with_a_batch_and_many_frames() -> None:
    g = G()
    y = g("Conv", g.input("x", ["N", 16, "S"]), g.weight(32, 16, 1), g.weight(32))
    a, b = gated(g, y, 1, [16, 16])
    assert not kinds(check(g.model(g("Mul", g("Tanh", a), g("Sigmoid", b))), pulses=(32,)))["Split"]
