"""Depthwise convolutions in row form: a row per tap, weighed and summed; exact, and by default at one frame per pulse."""

from __future__ import annotations

from collections import Counter
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.api import convert
from pulsify.rewrites import _region, frame_rows, shared_memory
from pulsify.rewrites._memory import _past_windows
from pulsify.rewrites._region import Choice
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


def kinds(model: object) -> Counter[str]:
    return Counter(n.op_type for n in model.graph.node)  # type: ignore[attr-defined]


def separable(g: G, layers: int, channels: int, kernel: int, batch: str | int = 1) -> str:
    """Layers as those of a Conv-TasNet: wider, over time, narrower."""
    y = g("Conv", g.input("x", [batch, channels, "S"]), g.weight(channels, channels, 1))
    for k in range(layers):
        d = 2**k
        z = g("Relu", g("Conv", y, g.weight(channels, channels, 1), g.weight(channels)))
        z = g("Conv", z, g.weight(channels, 1, kernel), g.weight(channels), group=channels, dilations=[d], pads=[(kernel - 1) * d, 0])
        y = g("Add", y, g("Conv", g("Relu", z), g.weight(channels, channels, 1), g.weight(channels)))
    return y


@given(data=st.data())
@examples(60)
def test_in_rows_whatever_it_costs(data: st.DataObject) -> None:
    """Strides, dilations, pads on either side; alone and in a stack, with a residual connection and a second reader."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    y, least = g.input("x", [data.draw(st.sampled_from([1, "N"])), 4, "S"]), 1
    for _ in range(data.draw(st.integers(1, 3), "layers")):
        k, d = data.draw(st.integers(1, 5), "kernel"), data.draw(st.integers(1, 4), "dilation")
        s = data.draw(st.sampled_from([1, 1, 1, 2]), "stride")
        before = data.draw(st.integers(0, (k - 1) * d), "before")
        bias = [g.weight(4)] if data.draw(st.booleans(), "bias") else []
        x, least = g("Tanh", y), least * s
        y = g("Conv", x, g.weight(4, 1, k), *bias, group=4, dilations=[d], strides=[s], pads=[before, (k - 1) * d - before])
        if s == 1 and data.draw(st.booleans(), "residual"):
            y = g("Add", y, x)
        if data.draw(st.booleans(), "dense"):
            y = g("Conv", g("Relu", y), g.weight(4, 4, 2), pads=[1, 0])
    ring = data.draw(st.sampled_from([0, 1 << 18]), "bytes from which histories are rings")
    with (
        mock.patch.object(frame_rows, "choose", lambda g, forms: Choice(set(forms), set())),
        mock.patch.object(shared_memory, "_RING", ring),
    ):
        check(g.model(y), pulses=(least * data.draw(st.integers(1, 6), "pulse"),))


def test_one_frame_per_pulse() -> None:
    """Two nodes per layer beside what it remembers, and the activation fits into the second."""
    g = G()
    c = check(g.model(separable(g, 3, 32, 3)), pulses=(1,))
    counts = kinds(c.model)
    assert counts["Conv"] == 0 and counts["Mul"] == 3 and counts["Gemm"] == 1 + 3 * 3
    assert len(c.manifest["states"]) == 1
    g = G()
    with mock.patch.object(frame_rows, "choose", lambda g, forms: Choice(set(forms), set())):
        counts = kinds(check(g.model(separable(g, 3, 64, 3, "N")), pulses=(1,)).model)
    assert counts["Conv"] == 0 and counts["MatMul"] == 0 and counts["Gemm"] == 1 + 3 * 2, "with a batch, too"
    assert counts["Mul"] == 1 + 3, "one for all that is past (test_past_sums.py)"


def test_many_frames_and_batches_stay() -> None:
    g = G()
    assert kinds(convert(g.model(separable(g, 2, 32, 3)), axis="S", pulse=16).model)["Conv"]
    g = G()
    assert kinds(check(g.model(separable(g, 2, 8, 3, "N")), pulses=(4,)).model)["Conv"] >= 2, "those over time"


def test_a_few_that_cost_too_much_so_do_not_keep_the_rest_from_rows() -> None:
    """Depthwise convolutions of a long kernel between projections: each on the side that is cheaper."""
    g = G()
    model = g.model(separable(g, 3, 128, 20))

    def dear(p: object, readers: int = 1) -> float:
        return 1000.0 if p.op == "Depthwise" else 0.1  # type: ignore[attr-defined]

    with mock.patch.object(_region, "as_rows", dear):
        counts = kinds(check(model, "S", (4,)).model)
    assert counts["Conv"] == 3 and counts["Gemm"] == 7


@pytest.mark.parametrize(
    ("offsets", "want"),
    [
        ([[-4], [-2], [0]], 2),
        ([[-2], [-1], [0]], 0),
        ([[-4, -3], [-2, -1], [0, 1]], 2),
        ([[-2, -1], [-1, 0], [0, 1]], 0),
        ([[0], [3]], 0),
        ([[-4], [-2]], 0),
    ],
)
def test_windows_that_are_wholly_past(offsets: list[list[int]], want: int) -> None:
    """A stretch is none: it is read whole."""
    assert _past_windows(np.array(offsets)) == want
