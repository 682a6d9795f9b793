"""The first frames of a stream joined in front of what was made of it: pre-emphasis, differences."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.contexts import batches, contexts, pulses, verify
from tests.graphs import G
from tests.profiles import examples


def part(g: G, x: str, start: int, end: int, axis: int) -> str:
    return g("Slice", x, g.ints(start), g.ints(end), g.ints(axis))


def differences(g: G, x: str, k: int, axis: int) -> str:
    """``y[i] = x[i]`` for i < k, ``x[i] - 0.97*x[i - k]`` after that."""
    rest = g("Sub", part(g, x, k, 2**63 - 1, axis), g("Mul", part(g, x, 0, -k, axis), g.const(0.97, np.float32)))
    return g("Concat", part(g, x, 0, k, axis), rest, axis=axis)


@given(k=st.integers(1, 3), context=contexts, batch=batches, at=pulses())
@examples(25)
def test_pre_emphasis(k: int, context: str, batch: Any, at: Any) -> None:
    verify(lambda g, x: differences(g, x, k, 2), [batch, 2, "S"], context, at, least=context != "masked")


@given(axis=st.integers(0, 2), context=contexts, at=pulses())
@examples(12)
def test_any_axis(axis: int, context: str, at: Any) -> None:
    shape: list[Any] = [2, 3, 4]
    shape[axis] = "S"
    verify(lambda g, x: differences(g, x, 1, axis), shape, context, at, axis=axis, least=False)


@given(at=pulses())
@examples(3)
def test_the_first_frames_alone_as_an_output_too(at: Any) -> None:
    """Causal: a delay of 0 whatever else reads the first frames."""

    def op(g: G, x: str) -> str:
        return g("Add", differences(g, x, 1, 1), g.weight(1))

    done = verify(op, ["N", "S"], "alone", at)
    assert [o["delay"] for o in done.manifest["outputs"]] == [0]
