"""Concat and Split on every axis but time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.errors import Refusal
from tests.contexts import CONTEXTS, batches, contexts, pulses, verify
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


@given(axis=st.sampled_from([1, 3, -1, -3]), count=st.integers(1, 3), context=contexts, batch=batches, at=pulses())
@examples(25)
def test_concat(axis: int, count: int, context: str, batch: Any, at: Any) -> None:
    """Inputs of different delay are aligned."""

    def op(g: G, *xs: str) -> str:
        return g("Concat", *xs, axis=axis)

    verify(op, [batch, 2, "S", 3], context, at, axis=2, inputs=count)


@given(time=st.integers(0, 2), at=pulses())
@examples(8)
def test_concat_with_one_wire_twice(time: int, at: Any) -> None:
    shape: list[Any] = [2, 2, 2]
    shape[time] = "S"
    verify(lambda g, x: g("Concat", x, x, axis=(time + 1) % 3), shape, "late", at, axis=time)


@pytest.mark.parametrize("context", CONTEXTS)
@given(
    sizes=st.lists(st.integers(1, 3), min_size=1, max_size=3), spelling=st.sampled_from(["sizes", "num_outputs", "even"]),
    batch=batches, at=pulses(),
)  # fmt: skip
@examples(6)
def test_split(context: str, sizes: list[int], spelling: str, batch: Any, at: Any) -> None:
    """All parts are read, at different delays."""
    n = len(sizes)
    total = sum(sizes) if spelling == "sizes" else 2 * n if spelling == "even" else 2 * n - (n > 1)

    def op(g: G, x: str) -> str:
        args = [x, g.ints(*sizes)] if spelling == "sizes" else [x]
        attrs = {"num_outputs": n} if spelling != "sizes" else {}
        parts = g("Split", *args, n=n, axis=1, **attrs)
        parts = [parts] if n == 1 else parts
        rows = [g("ReduceMean", p, g.ints(1)) for p in parts]
        return g("Concat", *(g("Conv", r, g.weight(1, 1, 1 + i), pads=[i, 0]) for i, r in enumerate(rows)), axis=1)

    verify(op, [batch, total, "S"], context, at)


def test_split_of_an_old_opset() -> None:
    g = G(opset=11)
    a, b = g("Split", g.input("x", [1, 5, "S"]), n=2, axis=1, split=[2, 3])
    check(g.model(b, a))


def test_an_unused_part_is_no_state() -> None:
    g = G()
    a, _ = g("Split", g.input("x", ["N", 6, "S"]), g.ints(2, 4), n=2, axis=1)
    c = check(g.model(g("Conv", a, g.weight(2, 2, 3))))
    assert [s["shape"] for s in c.manifest["states"]] == [["N", 2, 2]]


def test_concat_with_static_rows() -> None:
    """A row expanded to the stream's length is made from nothing, at any delay."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    y = g("Slice", x, g.ints(2), g.ints(2**63 - 1), g.ints(2))
    row = g("Expand", g.const([[[1.5]]], np.float32), g("Concat", g("Slice", g("Shape", y), g.ints(0), g.ints(1)), g.ints(1), g("Slice", g("Shape", y), g.ints(2), g.ints(3)), axis=0))
    check(g.model(g("Concat", y, row, axis=1)))


def test_concat_with_a_fixed_length_is_refused() -> None:
    with pytest.raises(Refusal, match="the time axis is baked in: one input is S long on axis 2, another has 7 fixed"):
        verify(lambda g, x: g("Concat", x, g.weight(1, 2, 7), axis=1), [1, 2, "S"])


def test_split_along_time_is_refused() -> None:
    with pytest.raises(Refusal, match="it splits an axis of S frames into 2 parts"):
        verify(lambda g, x: g("Split", x, n=2, axis=2, num_outputs=2)[0], [1, 2, "S"])
