"""ScatterElements and ScatterND on axes other than time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.errors import Refusal
from tests.contexts import batches, contexts, cut, pulses, verify
from tests.graphs import G
from tests.profiles import examples

reductions = st.sampled_from(["none", "add", "mul", "max", "min"])


def index(g: G, x: str, n: int) -> str:
    """Indices into n entries that no two of a frame share, so that their order does not matter."""
    first = g("Cast", g("Floor", g("Sigmoid", cut(g, x, 1, 0, 2))), to=TensorProto.INT64)
    return g("Concat", first, g("Add", first, g.const(n - 1, np.int64)), axis=1)


@given(
    reduction=reductions, axis=st.sampled_from([1, -2]), context=contexts, batch=batches, at=pulses(),
)  # fmt: skip
@examples(12)
def test_elements(reduction: str, axis: int, context: str, batch: Any, at: Any) -> None:
    """Fewer entries are written than there are."""

    def op(g: G, x: str) -> str:
        return g("ScatterElements", x, index(g, x, 3), g("Neg", cut(g, x, 1, 1)), axis=axis, reduction=reduction)

    verify(op, [batch, 3, "S"], context, at, least=False)


@given(reduction=reductions, depth=st.sampled_from([1, 2]), context=contexts, at=pulses())
@examples(12)
def test_tuples(reduction: str, depth: int, context: str, at: Any) -> None:
    """Constant tuples, one of them negative; time in what each addresses."""

    def op(g: G, x: str) -> str:
        where = [[1], [-3]] if depth == 1 else [[1, 0], [-1, -1]]
        updates = g("GatherND", x, g.const([[2], [2]] if depth == 1 else [[2, 2], [0, 1]], np.int64))
        return g("ScatterND", x, g.const(where, np.int64), g("Neg", updates), reduction=reduction)

    verify(op, [3, 4, "S"], context, at)


def test_into_a_tensor_made_from_shapes() -> None:
    def op(g: G, x: str) -> str:
        shape = g("Concat", g.ints(4), g("Shape", x, start=1), axis=0)
        zeros = g("ConstantOfShape", shape)
        return g("ScatterND", zeros, g.const([[3], [0]], np.int64), x)

    verify(op, [2, 5, "S"], "padded")


@pytest.mark.parametrize(
    ("op", "axis", "why"),
    [
        (
            lambda g, x: g("ScatterND", x, g.const([[1], [0]], np.int64), g.weight(2, 4, 5)), 2,
            "it has S frames of data and writes 5 of them",
        ),
        (
            lambda g, x: g("ScatterND", x, g.const([[0, 1, 0]], np.int64), g.weight(1)), 2,
            "it writes frames by index along time",
        ),
        (
            lambda g, x: g("ScatterElements", g.weight(3, 4, 6), g("Cast", x, to=TensorProto.INT64), x, axis=2), 2,
            "it collects all frames of the stream in one tensor",
        ),
        (
            lambda g, x: g("ScatterElements", x, g.const(np.zeros((3, 1, 1), np.int64)), g.weight(3, 1, 1), axis=1), 2,
            "it has S frames of data and writes 1 of them",
        ),
    ],
)  # fmt: skip
def test_refused(op: Any, axis: int, why: str) -> None:
    with pytest.raises(Refusal, match=rf"on axis {axis}\n  why:  {why}"):
        verify(op, [3, 4, "S"], least=False)
