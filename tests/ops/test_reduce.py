"""Reductions over every axis but time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.errors import Refusal
from pulsify.ops.reduce import NAMES
from tests.contexts import batches, contexts, pulses, verify
from tests.graphs import G
from tests.profiles import examples


def moved(axes: list[int], keep: int, rank: int, time: int) -> dict[str, int]:
    """Where time goes."""
    gone = {a % rank for a in axes}
    return {} if keep else {"out": time - sum(a < time for a in gone), "rank": rank - len(gone)}


@pytest.mark.parametrize("name", NAMES.split())
@given(
    axes=st.lists(st.sampled_from([1, 3, -1]), min_size=1, max_size=2, unique_by=lambda a: a % 4), keep=st.integers(0, 1),
    context=contexts, at=pulses(), batch=batches, old=st.booleans(),
)  # fmt: skip
@examples(5)
def test_other_axes(name: str, axes: list[int], keep: int, context: str, at: Any, batch: Any, old: bool) -> None:
    """Axes as an input, or as the attribute of older opsets."""

    def op(g: G, x: str) -> str:
        x = g("Abs", x) if name.startswith("Log") else x
        if old:
            return g(f"Reduce{name}", x, axes=axes, keepdims=keep)
        return g(f"Reduce{name}", x, g.ints(*axes), keepdims=keep)

    kw = moved(axes, keep, 4, 2)
    if old and name == "Sum":
        kw["opset"] = 11
    elif old:
        kw["opset"] = 13
    verify(op, [batch, 2, "S", 3], context, at, axis=2, least=name not in ("Max", "Min", "LogSum", "LogSumExp"), **kw)


@pytest.mark.parametrize("op_type", ["ArgMax", "ArgMin"])
@given(axis=st.sampled_from([1, 3, -1]), keep=st.integers(0, 1), last=st.integers(0, 1), context=contexts, at=pulses())
@examples(6)
def test_arg(op_type: str, axis: int, keep: int, last: int, context: str, at: Any) -> None:
    verify(
        lambda g, x: g(op_type, x, axis=axis, keepdims=keep, select_last_index=last), ["N", 2, "S", 3], context, at,
        axis=2, result=TensorProto.INT64, least=False, **moved([axis], keep, 4, 2),
    )  # fmt: skip


def test_no_axes_and_noop() -> None:
    verify(lambda g, x: g("ReduceSum", x, noop_with_empty_axes=1), ["N", 2, "S"], "late")
    verify(lambda g, x: g("ReduceSum", x, g.const([], "int64"), noop_with_empty_axes=1), ["N", 2, "S"], "late")


@pytest.mark.parametrize("name", [*(f"Reduce{n}" for n in NAMES.split()), "ArgMax", "ArgMin"])
def test_over_time_fed_back_is_refused(name: str) -> None:
    """A summary of the whole stream may leave the model; no frame can wait for it."""

    def op(g: G, x: str) -> str:
        y = g(name, x, axis=2) if name.startswith("Arg") else g(name, x, g.ints(-1))
        return g("Add", x, g("Cast", y, to=TensorProto.FLOAT))

    with pytest.raises(Refusal) as e:
        verify(op, [1, 2, "S"])
    assert "on axis 2" in str(e.value) and f"{name} node" in str(e.value)
    assert "summarises the whole stream" in str(e.value)
    assert "try:  only an output may depend on such a summary" in str(e.value)
