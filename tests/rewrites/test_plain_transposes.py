"""A Transpose over axes of length 1 becomes the move of one axis that it is."""

from __future__ import annotations

from itertools import permutations
from math import prod
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.api import convert
from pulsify.rewrites import plain_transposes
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


@given(data=st.data())
@examples(200)
def test_reshape_move_reshape(data: st.DataObject) -> None:
    """``Reshape(Transpose(Reshape(x)))`` holds what ``Transpose(x)`` does, in the same order."""
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=6), "shape")
    perm = tuple(data.draw(st.permutations(range(len(shape))), "perm"))
    with mock.patch.object(plain_transposes, "_COPIES", 0):
        found = plain_transposes.plain(shape, perm)
    x = np.arange(prod(shape)).reshape(shape)
    if found is None:
        return
    begin, short = found
    assert 1 not in begin and len(begin) < len(shape)
    y = x.reshape(begin).transpose(short).reshape([shape[a] for a in perm])
    assert np.array_equal(y, x.transpose(perm))


def test_what_it_leaves() -> None:
    plain = plain_transposes.plain
    assert plain([1, 1, 64, 128], (0, 3, 2, 1)) == ([64, 128], (1, 0))
    assert plain([2, 4, 64, 128], (2, 3, 0, 1)) == ([8, 8192], (1, 0))
    assert plain([1, 64, 128], (0, 2, 1)) is None, "one axis moves"
    assert plain([64, 1, 128], (1, 0, 2)) is None, "nothing moves"
    assert plain([1, 1, 4, 8], (0, 3, 2, 1)) is None, "small"
    assert plain([3, 16, 5, 64], (3, 2, 1, 0)) is None, "more than one move"


@pytest.mark.parametrize("perm", [p for p in permutations(range(4)) if p != (0, 1, 2, 3)])
@pytest.mark.parametrize("batch", [1, "N"])
def test_streams(batch: int | str, perm: tuple[int, ...]) -> None:
    """Time and channels in any order, back and forth; a dynamic pulse too."""
    with mock.patch.object(plain_transposes, "_COPIES", 0):
        g = G()
        y = g("Transpose", g("Tanh", g.input("x", [batch, 3, "S", 1])), perm=list(perm))
        check(g.model(g("Relu", y)), pulses=(2, "P"))


def test_it_is_done() -> None:
    g = G()
    y = g("Transpose", g("Tanh", g.input("x", [1, 1, "S", 64])), perm=[0, 3, 2, 1])
    (node,) = (n for n in convert(g.model(y), axis="S", pulse=8).model.graph.node if n.op_type == "Transpose")
    assert list(node.attribute[0].ints) == [1, 0]


def test_moved_products_stay_products() -> None:
    """A runtime would turn a Gemm and its Transpose round."""
    g = G()
    h = g("Relu", g("MatMul", g.input("x", [1, "S", 8]), g.weight(8, 16)))
    c = check(g.model(g("Transpose", g("MatMul", h, g.weight(16, 16)), perm=[0, 2, 1])), pulses=(1, 4))
    assert [n.op_type for n in c.model.graph.node if n.op_type in ("Gemm", "MatMul", "Transpose")] == ["Gemm", "MatMul", "Transpose"]


def test_one_frame_of_any_batch_does_not_move() -> None:
    """Between rows of recordings and frames of a recurrence there are Reshapes then, and those are one."""
    g = G()
    y = g("Transpose", g("MatMul", g.input("x", ["N", "S", 4]), g.weight(4, 8)), perm=[1, 0, 2])
    y = g("GRU", y, g.weight(1, 12, 8), g.weight(1, 12, 4), n=2, hidden_size=4)[0]
    y = g("MatMul", g("Transpose", g("Squeeze", y, g.ints(1)), perm=[1, 0, 2]), g.weight(4, 3))
    model = g.model(g("Relu", y))
    found = {pulse: [n.op_type for n in check(model, pulses=(pulse,)).model.graph.node] for pulse in (1, 2)}
    assert "Transpose" not in found[1] and found[2].count("Transpose") == 2
    assert "Squeeze" not in found[1] and found[1].count("Reshape") == 3
