"""Sums of convolutions of kernel 1 as one: exact whatever is in the sum, and only where something is gained."""

from __future__ import annotations

from collections import Counter
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.api import convert
from pulsify.rewrites import frame_rows, sums_of_convs
from pulsify.rewrites._region import Choice
from tests.contexts import pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


def skips(g: G, y: str, terms: int, out: int, kernel: int = 1) -> list[str]:
    """A stack of causal layers, and a convolution of each."""
    found = []
    for k in range(terms):
        y = g("Tanh", g("Conv", y, g.weight(4, 4, 2), pads=[1, 0]))
        found.append(g("Conv", y, g.weight(out, 4, kernel), *([g.weight(out)] if k % 2 else []), pads=[kernel - 1, 0]))
    return found


def kinds(model: object) -> Counter[str]:
    return Counter(n.op_type for n in model.graph.node)  # type: ignore[attr-defined]


@pytest.mark.parametrize("pulse", [4, "P"])
@pytest.mark.parametrize("batch", ["N", 1])
def test_a_sum_is_one_convolution(pulse: int | str, batch: str | int) -> None:
    g = G()
    found = skips(g, g.input("x", [batch, 4, "S"]), 5, 3)
    total = found[0]
    for v in found[1:]:
        total = g("Add", total, v)
    total = g("Add", total, g.weight(3, 1))
    with mock.patch.object(frame_rows, "choose", lambda g, forms: Choice(set(), set())):
        c = check(g.model(g("Relu", total)), pulses=(pulse,))
    counts = kinds(c.model)
    assert counts["Conv"] == 6 and counts["Add"] <= 3, "what is left counts positions"


def test_a_sum_of_two_stays() -> None:
    g = G()
    a, b = skips(g, g.input("x", [1, 4, "S"]), 2, 3)
    with mock.patch.object(frame_rows, "choose", lambda g, forms: Choice(set(), set())):
        assert kinds(convert(g.model(g("Add", a, b)), axis="S", pulse=4).model)["Conv"] == 4


def test_convolutions_over_time_and_shared_ones_stay() -> None:
    g = G()
    found = skips(g, g.input("x", [1, 4, "S"]), 4, 3, kernel=2)
    with mock.patch.object(frame_rows, "choose", lambda g, forms: Choice(set(), set())):
        assert kinds(check(g.model(g("Sum", *found)), pulses=(4,)).model)["Conv"] == 8
    g = G()
    found = skips(g, g.input("x", [1, 4, "S"]), 4, 3)
    with mock.patch.object(frame_rows, "choose", lambda g, forms: Choice(set(), set())):
        assert kinds(check(g.model(g("Sum", *found), *found[:2]), pulses=(4,)).model)["Conv"] == 8


@given(data=st.data())
@examples(40)
def test_random_sums(data: st.DataObject) -> None:
    """Convolutions at pictures and signals, with and without bias; constants of every shape, wires, and other convolutions."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    batch, high = data.draw(st.sampled_from(["N", 1])), data.draw(st.sampled_from([0, 1, 2]), "height")
    middle = [high] if high else []
    ones = [1] * len(middle)
    y = g.input("x", [batch, 4, *middle, "S"])
    parts = []
    for _ in range(data.draw(st.integers(3, 6), "terms")):
        kind = data.draw(st.sampled_from(["conv", "conv", "conv", "conv", "conv", "ahead", "wire", "constant", "grouped"]))
        if kind == "wire":
            parts.append(g("Tanh", y))
        elif kind == "constant":
            shape = data.draw(st.sampled_from([(), (4, *ones, 1), (1, 4, *ones, 1), (1, 1)]))
            parts.append(g.const(np.full(shape, 0.5, np.float32)))
        else:
            group, k = (2 if kind == "grouped" else 1), (2 if kind == "ahead" else 1)
            bias = [g.weight(4)] if data.draw(st.booleans()) else []
            pads = [0] * len(ones) + [0] + [0] * len(ones) + [k - 1]
            parts.append(g("Conv", y, g.weight(4, 4 // group, *ones, k), *bias, group=group, pads=pads))
            if data.draw(st.booleans()):
                y = g("Tanh", parts[-1])
    total = y
    while parts:
        n = len(parts) if data.draw(st.booleans()) else data.draw(st.integers(1, len(parts)))
        total = g("Sum", total, *(parts.pop() for _ in range(n)))
    choice = st.sampled_from([lambda g, forms: Choice(set(), set()), frame_rows.choose])
    with mock.patch.object(frame_rows, "choose", data.draw(choice)), mock.patch.object(sums_of_convs, "_TERMS", data.draw(st.integers(2, 3))):
        check(g.model(total), "S", data.draw(pulses()))
