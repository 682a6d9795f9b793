"""DepthToSpace, SpaceToDepth: pixel shuffles with time in the batch or on an image axis, both modes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.api import convert
from pulsify.errors import Refusal
from tests.contexts import build, contexts, pulses
from tests.contract_check import check, check_least_delay
from tests.graphs import G
from tests.profiles import examples


@given(
    op=st.sampled_from(["DCR", "CRD", "SpaceToDepth"]), b=st.integers(1, 3), time=st.sampled_from([0, 2, 3]),
    batch=st.sampled_from(["N", 2]), context=contexts, at=pulses(),
)  # fmt: skip
@examples(15)
def test_shuffles(op: str, b: int, time: int, batch: Any, context: str, at: Any) -> None:
    shape: list[Any] = [batch if time else "S", 2 * b * b, 3 * b, 2 * b]
    shape[time] = "S"
    step = b if op == "SpaceToDepth" and time else 1

    def shuffle(g: G, x: str) -> str:
        if op == "SpaceToDepth":
            return g("SpaceToDepth", x, blocksize=b)
        return g("DepthToSpace", x, blocksize=b, mode=op)

    model = build(shuffle, shape, context, axis=time)
    c = check(model, "S", [p if isinstance(p, str) else p * step for p in at])
    assert c.manifest["pulse_multiple"] == c.batch.assume.modulus == step
    check_least_delay(model)


@given(k=st.integers(2, 4), context=contexts, at=pulses())
@examples(10)
def test_a_shuffle_along_time_alone(k: int, context: str, at: Any) -> None:
    """``[N, k*C, T] -> [N, C, T*k]`` as exporters write it: Reshape, Transpose, Reshape."""

    def op(g: G, x: str) -> str:
        y = g("Transpose", g("Reshape", x, g.ints(0, 2, k, -1)), perm=[0, 1, 3, 2])
        return g("Reshape", y, g.ints(0, 2, -1))

    model = build(op, ["N", 2 * k, "S"], context)
    check(model, "S", at)
    check_least_delay(model)


@given(k=st.integers(2, 4), context=contexts, at=pulses())
@examples(10)
def test_an_unshuffle_along_time_alone(k: int, context: str, at: Any) -> None:
    """``[N, C, T] -> [N, C*k, T/k]``, the sizes computed."""

    def op(g: G, x: str) -> str:
        frames = g("Div", g("Gather", g("Shape", x), g.ints(2)), g.ints(k))
        y = g("Reshape", x, g("Concat", g.ints(0, 2), frames, g.ints(k), axis=0))
        return g("Reshape", g("Transpose", y, perm=[0, 1, 3, 2]), g("Concat", g.ints(0, 2 * k), frames, axis=0))

    model = build(op, ["N", 2, "S"], context)
    check(model, "S", [p if isinstance(p, str) else p * k for p in at])
    check_least_delay(model)


def test_refusals() -> None:
    g = G()
    x = g.input("x", [1, "S", 4, 4])
    with pytest.raises(Refusal, match=r"on axis 1\n  why:  it mixes all channels, and time is the channel axis"):
        convert(g.model(g("SpaceToDepth", x, blocksize=2)), axis="S")
    g = G()
    x = g.input("x", [1, 4, "S", "W"])
    with pytest.raises(Refusal, match="more than one is not fixed"):
        convert(g.model(g("DepthToSpace", x, blocksize=2)), axis="S")
