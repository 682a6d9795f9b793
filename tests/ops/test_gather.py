"""Gather: lookups on other axes, embeddings over time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.errors import Refusal
from tests.contexts import CONTEXTS, batches, contexts, cut, pulses, verify
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


def test_frames_by_unknown_index_are_refused() -> None:
    g = G()
    x, k = g.input("x", [1, 2, "S"]), g.input("k", [2], TensorProto.INT64)
    with pytest.raises(Refusal, match=r"Gather node .* on axis 2\n  why:  it looks frames up by index along time"):
        check(g.model(g("Gather", x, k, axis=2)))


# -- lookups whose data and indices share axes -------------------------------------------------------------------------


def garbage_index(g: G, x: str, n: int, to: int = TensorProto.INT64) -> str:
    """Indices into n entries from floats; frames of NaN become numbers far out of range."""
    y = g("Floor", g("Mul", g("Sigmoid", x), g.const(n - 0.001, np.float32)))
    return g("Cast", y, to=to)


@pytest.mark.parametrize("context", CONTEXTS)
def test_garbage_is_no_index(context: str) -> None:
    """What is cast from frames outside the stream would be out of range, and stop the program."""
    verify(lambda g, x: g("Gather", g.weight(5, 4), garbage_index(g, x, 5)), ["N", "S"], context, axis=1, rank=3, least=False)


@pytest.mark.parametrize("context", ["late", "padded"])
def test_garbage_is_no_divisor(context: str) -> None:
    def op(g: G, x: str) -> str:
        a = g("Cast", g("Mul", x, g.const(100, np.float32)), to=TensorProto.INT64)
        b = g("Add", g("Abs", g("Cast", x, to=TensorProto.INT64)), g.const(1, np.int64))
        a, b = cut(g, a, 1, 0, 2), cut(g, b, 1, 2)
        return g("Add", g("Div", a, b), g("Mod", a, b))

    verify(op, ["N", "S"], context, axis=1, result=TensorProto.INT64, least=False)


def test_an_extreme_is_a_safe_index() -> None:
    def op(g: G, x: str) -> str:
        return g("Gather", g.weight(3, 4), g("ArgMax", x, axis=1, keepdims=0))

    c = verify(op, ["N", 3, "S"], "late", out=1, least=False)
    assert "Clip" not in {n.op_type for n in c.model.graph.node}


@given(
    axis=st.sampled_from([1, -2]), to=st.sampled_from([TensorProto.INT64, TensorProto.INT32]), context=contexts,
    batch=batches, at=pulses(),
)  # fmt: skip
@examples(12)
def test_elements(axis: int, to: int, context: str, batch: Any, at: Any) -> None:
    def op(g: G, x: str) -> str:
        return g("GatherElements", x, garbage_index(g, x, 3, to), axis=axis)

    verify(op, [batch, 3, "S"], context, at, least=False)


def test_elements_of_a_table() -> None:
    def op(g: G, x: str) -> str:
        return g("GatherElements", g.weight(1, 3, 6), garbage_index(g, x, 6), axis=2)

    verify(op, [1, 3, "S"], "padded", least=False)


@given(negative=st.booleans(), context=contexts, at=pulses())
@examples(10)
def test_tuples_into_the_data(negative: bool, context: str, at: Any) -> None:
    """Constant tuples, possibly negative; time behind the axes looked up."""
    index = [[1, 0], [-1, -2] if negative else [2, 2], [0, 3]]
    verify(
        lambda g, x: g("GatherND", x, g.const(index, np.int64)), [3, 4, "S"], context, at, axis=2, out=1, rank=2
    )


@given(context=contexts, batch=batches, at=pulses())
@examples(10)
def test_tuples_over_time(context: str, batch: Any, at: Any) -> None:
    """A tuple of indices for every frame; each number has its own range."""

    def op(g: G, x: str) -> str:
        pair = [g("Unsqueeze", garbage_index(g, x, n), g.ints(2)) for n in (3, 4)]
        return g("GatherND", g.weight(3, 4, 2), g("Concat", *pair, axis=2))

    verify(op, [batch, "S"], context, at, axis=1, rank=3, least=False)


@given(context=contexts, batch=batches, at=pulses())
@examples(10)
def test_tuples_behind_shared_axes(context: str, batch: Any, at: Any) -> None:
    def op(g: G, x: str) -> str:
        return g("GatherND", x, garbage_index(g, cut(g, x, 2, 0, 2), 3), batch_dims=2)

    verify(op, [batch, "S", 3], context, at, axis=1, rank=2, least=False)


@pytest.mark.parametrize(
    ("op", "why"),
    [
        (lambda g, x: g("GatherElements", x, garbage_index(g, x, 1), axis=2), "it looks frames up by index along time"),
        (lambda g, x: g("GatherND", x, g.const([[0, 0, 1]], np.int64)), "it looks frames up by index along time"),
        (
            lambda g, x: g("GatherElements", x, g.const(np.zeros((1, 2, 4), np.int64)), axis=1),
            "it has S frames of data and looks up 4 of them",
        ),
        (
            lambda g, x: g("GatherElements", x, garbage_index(g, cut(g, x, 2, 2), 3), axis=1),
            "it has S frames of data and looks up S - 2 of them",
        ),
    ],
)
def test_other_lookups_along_time_are_refused(op: Any, why: str) -> None:
    with pytest.raises(Refusal, match=rf"on axis 2\n  why:  {why}"):
        verify(op, [1, 3, "S"], least=False)
