"""Global pools: over time a running value, over other axes frame by frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.api import convert
from pulsify.errors import Refusal
from tests.contexts import batches, contexts, pulses, verify
from tests.contract_check import check
from tests.graphs import G
from tests.ops.test_running import legal, positive, source, sources
from tests.profiles import examples

POOLS = ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")


@pytest.mark.parametrize("op", POOLS)
@given(kind=sources, at=pulses(), batch=batches, p=st.sampled_from([1, 2, 3]), wide=st.booleans())
@examples(8)
def test_over_time(op: str, kind: str, at: Any, batch: Any, p: int, wide: bool) -> None:
    """Alone, and with another axis; the classifier behind it."""
    g = G()
    y = source(g, kind, g.input("x", [batch, 3, "S", 2]))
    if not wide:
        y = g("ReduceSum", y, g.ints(3), keepdims=0)
    if op == "GlobalAveragePool":
        y = positive(g, y)
    pooled = g(op, y, **({"p": p} if op == "GlobalLpPool" else {}))
    logits = g("Gemm", g("Flatten", pooled), g.weight(3, 4), g.weight(4))
    check(g.model(pooled, g("Softmax", logits)), "S", legal(kind, at))


@pytest.mark.parametrize("op", POOLS)
@given(context=contexts, at=pulses())
@examples(5)
def test_time_is_the_batch(op: str, context: str, at: Any) -> None:
    verify(lambda g, x: g(op, x), ["S", 2, 3, 4], context, at, axis=0, least=op != "GlobalMaxPool")


@given(at=pulses(), batch=batches)
@examples(5)
def test_time_is_the_channels(at: Any, batch: Any) -> None:
    verify(lambda g, x: g("GlobalAveragePool", x), [batch, "S", 4], "alone", at, axis=1)


def test_half_precision() -> None:
    g = G()
    y = g("GlobalAveragePool", g.input("x", ["N", 3, "S"], TensorProto.FLOAT16))
    check(g.model(y, **{y: TensorProto.FLOAT16}), "S", (1, 3))


def test_feeding_back_is_refused() -> None:
    g = G()
    x = g.input("x", ["N", 3, "S"])
    gate = g("Sigmoid", g("Conv", g("GlobalAveragePool", x), g.weight(3, 3, 1)))
    with pytest.raises(Refusal) as e:
        convert(g.model(g("Mul", x, gate)), axis="S", pulse=2)
    assert "cannot pulsify Mul node" in str(e.value) and "on axis 2" in str(e.value)
    assert "(GlobalAveragePool node " in str(e.value)


def test_two_time_axes_are_refused() -> None:
    g = G()
    x = g.input("x", [1, 3, "S"])
    scores = g("MatMul", g("Unsqueeze", x, g.ints(3)), g("Unsqueeze", x, g.ints(2)))
    with pytest.raises(Refusal, match="time is on axes 2 and 3"):
        convert(g.model(g("GlobalMaxPool", scores)), axis="S", pulse=2)


def test_counts_frames_not_pulses() -> None:
    """A mean of ones is one after every pulse, filler or not."""
    g = G()
    x = g.input("x", ["N", 3, "S"])
    ones = g("Exp", g("Mul", x, g.const(0.0, np.float32)))
    check(g.model(g("GlobalAveragePool", ones)), "S", (1, 4, "P"), lengths=[1, 2, 3, 5, 9])
