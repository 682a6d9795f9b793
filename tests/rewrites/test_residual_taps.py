"""A convolution and the wire beside it that it reads are one convolution."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.rewrites.residual_taps import _plus_one
from tests.contexts import pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(n.op_type for n in model.graph.node)


@given(data=st.data())
@examples(40)
def test_residuals(data: st.DataObject) -> None:
    """Depthwise, in groups and dense; causal, looking ahead and out of step; time in front of channels or behind them."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    k, d = data.draw(st.integers(1, 4), "kernel"), data.draw(st.integers(1, 3), "dilation")
    before = data.draw(st.integers(0, (k - 1) * d), "before")
    group, picture, last = data.draw(st.sampled_from([1, 2, 4])), data.draw(st.booleans(), "picture"), data.draw(st.booleans(), "channels last")
    x = g("Tanh", g.input("x", [data.draw(st.sampled_from([1, "N"])), *(["S", 4] if last else [4, "S"])]))
    h = g("Transpose", x, perm=[0, 2, 1]) if last else x
    h = g("Unsqueeze", h, g.ints(3)) if picture else h
    pads = [before, *([0] if picture else []), (k - 1) * d - before, *([0] if picture else [])]
    kernel, dilations = ([k, 1], [d, 1]) if picture else ([k], [d])
    h = g("Conv", h, g.weight(4, 4 // group, *kernel), g.weight(4), group=group, dilations=dilations, pads=pads)
    h = g("Squeeze", h, g.ints(3)) if picture else h
    h = g("Transpose", h, perm=[0, 2, 1]) if last else h
    y = g("Add", *((x, h) if data.draw(st.booleans(), "first") else (h, x)))
    outputs = [y, h] if data.draw(st.booleans(), "read by others") else [y]
    check(g.model(*outputs), pulses=data.draw(pulses()))


@pytest.mark.parametrize("pads", [[4, 0], [0, 0]])
def test_a_memory_block(pads: list[int]) -> None:
    """Zeros in front, or windows that are whole: the last tap is the frame itself."""
    g = G()
    x = g("Tanh", g.input("x", [1, 4, "S"]))
    beside = x if pads[0] else g("Slice", x, g.ints(4), g.ints(2**31), g.ints(2))
    y = g("Add", beside, g("Conv", x, g.weight(4, 1, 3), group=4, dilations=[2], pads=pads))
    c = check(g.model(y), pulses=(1, 2, 7))
    assert kinds(c.model)["Add"] == 0


def test_what_stays_a_sum() -> None:
    """A frame between the taps, another wire, channels in another order, a convolution that others read."""
    for case in range(4):
        g = G()
        x = g("Tanh", g.input("x", [1, 4, "S"]))
        h = g("Conv", x, g.weight(4, 1, 3), group=4, dilations=[2], pads=[4 if case else 3, 0 if case else 1])
        other = [x, g("Sigmoid", x), g("Gather", x, g.ints(3, 2, 1, 0), axis=1), x][case]
        outputs = [g("Add", other, h), *([h] if case == 3 else [])]
        c = check(g.model(*outputs), pulses=(1, 4))
        assert kinds(c.model)["Add"] == 1


def test_the_one() -> None:
    """``(W + 1)*x`` against ``x + W*x``, for every number of groups."""
    for groups in (1, 2, 4):
        width = 4 // groups
        made = _plus_one(np.zeros((4, width, 3)), 0, 2)
        for c in range(4):
            dense, first = np.zeros((4, 3)), c // width * width
            dense[first : first + width] = made[c]
            assert np.array_equal(dense, np.eye(4)[c][:, None] * [0, 0, 1])


def test_a_weight_of_two() -> None:
    """Only the convolution beside the wire gets the 1."""
    g = G()
    x, w = g.input("x", [1, 4, "S"]), g.weight(4, 1, 3)
    a = g("Conv", g("Sigmoid", x), w, group=4, pads=[2, 0])
    b = g("Tanh", x)
    c = check(g.model(g("Mul", a, g("Add", b, g("Conv", b, w, group=4, pads=[2, 0])))), pulses=(1, 3))
    assert kinds(c.model)["Add"] == 0


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("same", [True, False])
def test_histories_that_begin_with_something(cached: bool, same: bool) -> None:
    """In front of the wire that waits is something else than in front of the one in the window."""
    g = G()
    x = g("Tanh", g.input("x", [1, 4, "S"]))
    first, other = (g.input(n, [1, 4, 3]) if cached else g.weight(1, 4, 3) for n in ("cache", "other"))
    beside = g("Concat", g("Slice", first if same else other, g.ints(2), g.ints(3), g.ints(2)), x, axis=2)
    beside = g("Slice", beside, g.ints(0), g.ints(-1), g.ints(2))
    h = g("Conv", g("Concat", first, x, axis=2), g.weight(4, 1, 4), group=4)
    check(g.model(g("Add", beside, h)), pulses=(1, 2, 7))
