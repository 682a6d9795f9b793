"""Gather: lookups on other axes, embeddings over time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.errors import Refusal
from tests.contexts import batches, contexts, pulses, verify
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


@given(
    indices=st.sampled_from([0, -1, [2, 0], [-1, 1, 1], [[0, 1], [2, 2]]]), axis=st.sampled_from([1, 3, -1, -3]),
    context=contexts, batch=batches, at=pulses(),
)  # fmt: skip
@examples(30)
def test_on_another_axis(indices: Any, axis: int, context: str, batch: Any, at: Any) -> None:
    """Scalar, vector and matrix indices move the time axis."""
    width = np.ndim(indices)
    out = 2 + (width - 1 if axis % 4 < 2 else 0)

    def op(g: G, x: str) -> str:
        return g("Gather", x, g.const(indices, np.int64), axis=axis)

    verify(op, [batch, 3, "S", 3], context, at, axis=2, out=out, rank=3 + width)


@given(context=st.sampled_from(["alone", "late", "merged", "padded", "causal"]), batch=batches, at=pulses())
@examples(10)
def test_embedding(context: str, batch: Any, at: Any) -> None:
    """Time runs through the indices."""
    verify(
        lambda g, x: g("Gather", g.weight(3, 4), x), [batch, "S"], context, at, axis=1, rank=3,
        dtype=TensorProto.INT64, least=False,
    )  # fmt: skip


@pytest.mark.parametrize("axis", [0, 1])
def test_embedding_between_axes(axis: int) -> None:
    g = G()
    x = g.input("x", ["S"], TensorProto.INT64)
    check(g.model(g("Tanh", g("Gather", g.weight(3, 3, 2), x, axis=axis))))


def test_indices_known_when_running() -> None:
    g = G()
    x, k = g.input("x", ["N", 300, "S"]), g.input("k", [2], TensorProto.INT64)
    c = check(g.model(g("Gather", x, k, axis=1)), lengths=(100,))
    assert [i["axis"] for i in c.manifest["inputs"]] == [2, None]


@pytest.mark.parametrize("index", [0, -1, [0, 1, 2]])
def test_frames_by_index_are_refused(index: Any) -> None:
    with pytest.raises(Refusal, match="Gather node .* on axis 2\n  why:  it looks frames up by index along time"):
        verify(lambda g, x: g("Gather", x, g.const(index, np.int64), axis=2), [1, 2, "S"])
