"""Trilu and EyeLike: on other axes, and with time on one of their own, where an entry knows the place of its frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.api import convert
from pulsify.errors import Refusal
from tests.contract_check import check, check_least_delay
from tests.graphs import G
from tests.profiles import examples

SHAPES = [["N", "S", 6], ["N", 6, "S"], ["N", 2, "S", 5], [1, "S", 4], ["S", 7], [4, "S"], ["S", 3, 4], ["N", "S", 4, 4]]


@given(
    shape=st.sampled_from(SHAPES),
    upper=st.integers(0, 1),
    diagonal=st.integers(-4, 4),
    late=st.booleans(),
    pulse=st.sampled_from([1, 2, 5, "P"]),
)
@examples(40)
def test_trilu(shape: list, upper: int, diagonal: int, late: bool, pulse: int | str) -> None:
    g = G()
    x = g.input("x", shape)
    axis = shape.index("S")
    y = g("Slice", x, g.ints(2), g.ints(2**63 - 1), g.ints(axis)) if late else x
    z = g("Trilu", y, g.const(diagonal, np.int64), upper=upper)
    check(g.model(g("Add", z, y)), pulses=(pulse,))


@pytest.mark.parametrize("shape", [["S", 5], [5, "S"]])
@pytest.mark.parametrize("k", [-2, 0, 3])
def test_eye_like(shape: list, k: int) -> None:
    g = G()
    x = g.input("x", shape)
    model = g.model(g("Mul", x, g("EyeLike", x, k=k)))
    check(model, pulses=(1, 3, "P"))


def test_least_delay() -> None:
    g = G()
    x = g.input("x", ["N", "S", 6])
    y = g("Conv", g("Transpose", x, perm=[0, 2, 1]), g.weight(6, 6, 3), pads=[1, 1])
    check_least_delay(g.model(g("Trilu", g("Transpose", y, perm=[0, 2, 1]))))


def test_two_time_axes_are_refused() -> None:
    g = G()
    x = g.input("x", [1, "S", 4])
    scores = g("MatMul", x, g("Transpose", x, perm=[0, 2, 1]))
    with pytest.raises(Refusal, match="compares the places of frames on two time axes"):
        convert(g.model(g("Trilu", scores)), axis="S", pulse=4)
