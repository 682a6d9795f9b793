"""Normalisations and softmaxes over every axis but time, outputs of statistics included."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.errors import Refusal
from tests.contexts import CONTEXTS, batches, contexts, pulses, verify
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

ALONG = ["Softmax", "LogSoftmax", "Hardmax", "LpNormalization"]


@pytest.mark.parametrize("name", ALONG)
@given(axis=st.sampled_from([1, 3, -1, -3, None]), context=contexts, batch=batches, at=pulses(), p=st.integers(1, 2))
@examples(8)
def test_along_one_axis(name: str, axis: int | None, context: str, batch: Any, at: Any, p: int) -> None:
    attrs = {} if axis is None else {"axis": axis}
    if name == "LpNormalization":
        attrs["p"] = p
    verify(lambda g, x: g(name, x, **attrs), [batch, 2, "S", 3], context, at, axis=2, least=name != "Hardmax")


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize(("axis", "shape", "time"), [(1, ["S", 3, 2], 0), (2, [2, "S", 3], 1), (2, [2, "S", 3, 2], 1), (-1, [2, "S", 3], 1), (-2, [2, "S", 3, 2], 1), (None, ["S", 3, 2], 0)])
def test_before_opset_13_everything_from_axis_on(name: str, axis: int | None, shape: list[Any], time: int) -> None:
    """Softmax then flattened the tensor at ``axis``."""
    attrs = {} if axis is None else {"axis": axis}
    verify(lambda g, x: g(name, x, **attrs), shape, "late", axis=time, opset=11, least=False)


@pytest.mark.parametrize("name", ["Softmax", "LogSoftmax"])
def test_before_opset_13_time_behind_axis_is_refused(name: str) -> None:
    """``axis=1`` of the old operator takes time into the sum."""
    with pytest.raises(Refusal):
        verify(lambda g, x: g(name, x, axis=1), [1, 3, "S"], opset=11)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("axis", [2, 3, -1])
@pytest.mark.parametrize("bias", [False, True])
def test_layer_norm(context: str, axis: int, bias: bool) -> None:
    size = [4, 3][axis - 2 :] if axis > 0 else [3]

    def op(g: G, x: str) -> str:
        return g("LayerNormalization", x, g.weight(*size), *([g.weight(*size)] if bias else []), axis=axis)

    verify(op, ["N", "S", 4, 3], context, (2, "P"), axis=1, least=False)


def test_layer_norm_with_statistics() -> None:
    g = G()
    x = g("Conv", g.input("x", ["N", 3, "S"]), g.weight(3, 3, 2))
    y = g("Transpose", x, perm=[0, 2, 1])
    norm, mean, deviation = g("LayerNormalization", y, g.weight(3), n=3, axis=-1)
    c = check(g.model(norm, g("Conv", g("Transpose", mean, perm=[0, 2, 1]), g.weight(1, 1, 3)), deviation))
    assert [o["delay"] for o in c.manifest["outputs"]] == [1, 3, 1]


@given(context=contexts, at=pulses(), axis=st.sampled_from([-1, 2]))
@examples(6)
def test_rms_norm(context: str, at: Any, axis: int) -> None:
    verify(
        lambda g, x: g("RMSNormalization", x, g.weight(*([4, 3] if axis == 2 else [3])), axis=axis),
        [2, "S", 4, 3], context, at, axis=1, opset=23,
    )  # fmt: skip


@given(context=contexts, batch=batches, at=pulses(), time=st.sampled_from([2, 3]))
@examples(10)
def test_batch_norm(context: str, batch: Any, at: Any, time: int) -> None:
    shape = [batch, 3, 4, 4]
    shape[time] = "S"

    def op(g: G, x: str) -> str:
        scale, bias, mean = (g.weight(3) for _ in range(3))
        return g("BatchNormalization", x, scale, bias, mean, g.const([0.5, 1, 2], "float32"), epsilon=1e-3)

    verify(op, shape, context, at, axis=time)


def test_batch_norm_with_time_in_the_batch() -> None:
    def op(g: G, x: str) -> str:
        return g("BatchNormalization", x, *(g.const([1.0, 2, 3], "float32") for _ in range(4)))

    verify(op, ["S", 3], "late", axis=0)


@pytest.mark.parametrize("name", ["InstanceNormalization", "GroupNormalization"])
def test_statistics_per_frame_where_time_is_the_batch(name: str) -> None:
    """With frames as examples, everything behind axis 0 is one frame's own."""

    def op(g: G, x: str) -> str:
        attrs = {"num_groups": 2} if name == "GroupNormalization" else {}
        return g(name, x, g.weight(4), g.weight(4), **attrs)

    verify(op, ["S", 4, 5], "late", axis=0, opset=21)


@given(context=contexts, at=pulses())
@examples(6)
def test_mvn_and_lrn(context: str, at: Any) -> None:
    if context in ("alone", "late", "merged"):  # padding has no variance to divide by
        verify(lambda g, x: g("MeanVarianceNormalization", x, axes=[1, 3]), [2, 3, "S", 4], context, at, axis=2)
    verify(lambda g, x: g("LRN", x, size=3), [2, 3, "S", 4], context, at, axis=2)


REFUSED: dict[str, Any] = {
    "Softmax": lambda g, x: g("Softmax", x, axis=2),
    "LogSoftmax": lambda g, x: g("LogSoftmax", x),
    "Hardmax": lambda g, x: g("Hardmax", x),
    "LpNormalization": lambda g, x: g("LpNormalization", x),
    "LayerNormalization": lambda g, x: g("LayerNormalization", x, g.weight(1)),
    "InstanceNormalization": lambda g, x: g("InstanceNormalization", x, g.weight(3), g.weight(3)),
    "GroupNormalization": lambda g, x: g("GroupNormalization", x, g.weight(3), g.weight(3), num_groups=1),
    "MeanVarianceNormalization": lambda g, x: g("MeanVarianceNormalization", x, axes=[0, 2]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_over_time_is_refused(name: str) -> None:
    with pytest.raises(Refusal) as e:
        verify(REFUSED[name], [1, 3, "S"], opset=21)
    text = str(e.value)
    assert f"cannot pulsify {name} node" in text and "on axis 2" in text
    assert "it normalises over time, and every frame needs the statistics of the whole stream" in text
    assert "try:  normalise over channels" in text


def test_lrn_over_time_is_refused() -> None:
    """Across channels only; a window over channels where those are time mixes frames."""
    with pytest.raises(Refusal, match="on axis 1"):
        verify(lambda g, x: g("LRN", x, size=3), [1, "S", 4, 4], axis=1)


def test_batch_norm_in_training_mode_is_refused() -> None:
    def op(g: G, x: str) -> str:
        return g("BatchNormalization", x, *(g.const([1.0, 2, 3], "float32") for _ in range(4)), n=3, training_mode=1)[0]

    with pytest.raises(Refusal, match="it is in training mode"):
        verify(op, [1, 3, "S"])
