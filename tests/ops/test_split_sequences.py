"""Sequences that are a Split: values against onnxruntime, and what stays refused."""

from __future__ import annotations

import numpy as np
import pytest

from pulsify.api import convert
from pulsify.errors import Refusal
from tests.contract_check import check
from tests.graphs import G


@pytest.mark.parametrize(
    ("total", "split", "picks"),
    [(6, [2, 1, 3], (0, 2)), (6, [2, 1, 3], (-1, 1)), (6, 2, (0, 2)), (7, 3, (2, 0)), (3, None, (1, -3))],
)
def test_parts(total: int, split: object, picks: tuple[int, ...]) -> None:
    g = G()
    x = g.input("x", ["N", total, "S"])
    sequence = g("SplitToSequence", x, *(() if split is None else (g.const(split, np.int64),)), axis=-2)
    parts = [g("SequenceAt", sequence, g.const(k, np.int64)) for k in picks]
    check(g.model(*(g("Relu", p) for p in parts)), pulses=(1, 3))


def test_part_before_a_convolution() -> None:
    g = G()
    x = g.input("x", ["N", 4, "S"])
    sequence = g("SplitToSequence", g("Conv", x, g.weight(4, 4, 3)), g.const([1, 3], np.int64), axis=1)
    y = g("Conv", g("SequenceAt", sequence, g.const(1, np.int64)), g.weight(2, 3, 3), pads=[1, 1])
    check(g.model(y, g("Identity", g("SequenceAt", sequence, g.const(0, np.int64)))), pulses=(1, 2, "P"))


@pytest.mark.parametrize("axis", [1, 2])
def test_other_sequences_are_refused(axis: int) -> None:
    g = G()
    x = g.input("x", [1, 4, "S"])
    sequence = g("SplitToSequence", x, g.const(2, np.int64), axis=axis)
    y = g("ConcatFromSequence", sequence, axis=1)
    with pytest.raises(Refusal, match="sequences of tensors"):
        convert(g.model(y), axis="S", pulse=2)
