"""Every pointwise operator of ONNX, with every broadcasting, both operands streaming or one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.errors import Refusal
from pulsify.ops.elementwise import UNARY
from tests.contexts import CONTEXTS, batches, contexts, pulses, verify, window
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

BOOL, INT = TensorProto.BOOL, TensorProto.INT64

#: Operators newer than the default opset, and the opset they need.
NEWER = {"Gelu": 20, "Swish": 24, "BitwiseNot": 18, "Mish": 18}
#: A domain: what to do to a standard normal number first.
DOMAINS = {
    "Acos": "Tanh", "Asin": "Tanh", "Atanh": "Tanh", "Acosh": "Exp", "Log": "Abs", "Sqrt": "Abs", "Reciprocal": "Exp",
}  # fmt: skip
STEPS = {"Ceil", "Floor", "Round", "Sign", "Not", "BitwiseNot", "Relu", "Shrink", "ThresholdedRelu", "HardSigmoid"}


@pytest.mark.parametrize("name", UNARY.split())
@given(context=contexts, batch=batches, at=pulses())
@examples(4)
def test_unary(name: str, context: str, batch: Any, at: Any) -> None:
    kind = BOOL if name == "Not" else INT if name == "BitwiseNot" else TensorProto.FLOAT

    def op(g: G, x: str) -> str:
        x = g(DOMAINS[name], x) if name in DOMAINS else x
        x = g("Add", x, g.const(1.5, np.float32)) if name == "Acosh" else x
        return g(name, x)

    context = "late" if kind == BOOL and context in ("early", "masked") else context
    infinite = name in ("Log", "Atanh", "Acosh")
    verify(
        op, [batch, 2, "S"], context, at, dtype=kind, result=kind, opset=NEWER.get(name, 18),
        fill=2.0 if infinite or kind == INT else 0.0, least=name not in STEPS and not infinite,
    )  # fmt: skip


BINARY = ["Add", "Sub", "Mul", "Div", "Pow", "Sum", "Mean", "Max", "Min", "PRelu", "Mod", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "And", "Or", "Xor"]
COMPARE = ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"]
#: The other operand of a [2, 3, S] stream.
SHAPES: list[list[int]] = [[], [1], [3, 1], [1, 3, 1], [2, 1, 1], [2, 3, 1], [1, 1, 1, 1], [2, 2, 3, 1]]


def operands(name: str) -> tuple[int, int, dict[str, Any]]:
    """Input type, output type and attributes."""
    if name in ("And", "Or", "Xor"):
        return BOOL, BOOL, {}
    if name == "BitShift":
        return TensorProto.UINT32, TensorProto.UINT32, {"direction": "LEFT"}
    if name.startswith("Bitwise"):
        return INT, INT, {}
    kind = TensorProto.FLOAT
    return kind, BOOL if name in COMPARE else kind, {"fmod": 1} if name == "Mod" else {}


def constant(g: G, kind: int, shape: list[int]) -> str:
    if kind == BOOL:
        return g.const(g.rng.random(shape) < 0.5)
    if kind == TensorProto.FLOAT:
        return g.const(np.asarray(g.rng.random(shape) + 0.5, np.float32))
    return g.const(np.asarray(g.rng.integers(1, 4, shape), np.uint32 if kind == TensorProto.UINT32 else np.int64))


@pytest.mark.parametrize("name", [*BINARY, *COMPARE])
@given(shape=st.sampled_from(SHAPES), swap=st.booleans(), context=contexts, at=pulses())
@examples(5)
def test_binary_with_a_constant(name: str, shape: list[int], swap: bool, context: str, at: Any) -> None:
    """A scalar, a row per channel, missing or extra leading axes; on either side."""
    kind, result, attrs = operands(name)
    if name == "PRelu":
        swap, shape = False, shape if len(shape) < 4 and shape[:1] != [2] else [3, 1]
    context = "late" if kind in (BOOL, TensorProto.UINT32) and context in ("early", "masked") else context

    def op(g: G, x: str) -> str:
        x = g("Exp", x) if name == "Pow" else x
        other = constant(g, kind, shape)
        return g(name, *((other, x) if swap else (x, other)), **attrs)

    rank = max(3, len(shape))
    verify(
        op, [2, 3, "S"], context, at, dtype=kind, result=result, rank=rank, out=rank - 1, fill=1.0,
        least=False,
    )  # fmt: skip


@pytest.mark.parametrize("name", [*BINARY, *COMPARE])
@given(context=contexts, at=pulses(), batch=batches)
@examples(5)
def test_binary_with_two_streams(name: str, context: str, at: Any, batch: Any) -> None:
    """Of different delay, one with channels to broadcast."""
    kind, result, attrs = operands(name)
    context = "late" if kind in (BOOL, TensorProto.UINT32) and context in ("early", "masked") else context

    def op(g: G, a: str, b: str) -> str:
        if kind == TensorProto.FLOAT:
            a, b = g("Exp", a), g("Mul", g("Exp", g("ReduceMean", b, g.ints(1))), g.const(1.1, np.float32))
        if kind in (INT, TensorProto.UINT32) and name == "BitShift":
            b = g("Cast", b, to=kind)
        return g(name, a, b, **attrs)

    verify(op, [batch, 3, "S"], context, at, inputs=2, dtype=kind, result=result, fill=1.0, least=False)


def test_streams_of_different_rank() -> None:
    """A stream of rank 1 against one of rank 3, each behind its own delay."""
    g = G()
    x, w = g.input("x", [2, 3, "S"]), g.input("w", ["S"])
    y = g("Slice", x, g.ints(2), g.ints(2**63 - 1), g.ints(2))
    v = g("Slice", w, g.ints(0), g.ints(-2), g.ints(0))
    c = check(g.model(g("Mul", y, v), g("Add", x, w)))
    assert [o["delay"] for o in c.manifest["outputs"]] == [2, 0]


@pytest.mark.parametrize("name", ["Sum", "Mean", "Max", "Min"])
def test_many_inputs(name: str) -> None:
    verify(lambda g, *xs: g(name, *xs, g.weight(2, 1)), ["N", 2, "S"], "late", inputs=3, least=False)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("bounds", [(True, True), (True, False), (False, True), (False, False)])
def test_clip(context: str, bounds: tuple[bool, bool]) -> None:
    """Either bound may be left out."""
    low, high = bounds

    def op(g: G, x: str) -> str:
        args = [g.const(-0.5, np.float32) if low else "", g.const(0.5, np.float32) if high else ""]
        while args and not args[-1]:
            args.pop()
        return g("Clip", x, *args)

    verify(op, ["N", 2, "S"], context, (3, "P"), least=False)


def test_clip_of_an_old_opset() -> None:
    verify(lambda g, x: g("Clip", x, min=-0.5, max=0.5), ["N", 2, "S"], opset=9, least=False)


@given(context=contexts, at=pulses(), batch=batches, static=st.sampled_from(["none", "condition", "then", "else"]))
@examples(12)
def test_where(context: str, at: Any, batch: Any, static: str) -> None:
    """Any one of the three constant."""

    def op(g: G, x: str, y: str) -> str:
        condition = g.const([[True], [False]]) if static == "condition" else g("Greater", x, y)
        args = [g.weight(2, 1) if static == "then" else x, g.const(1.5, np.float32) if static == "else" else y]
        return g("Where", condition, *args)

    verify(op, [batch, 2, "S"], context, at, inputs=2, least=False)


@pytest.mark.parametrize("to", [TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT32, BOOL, TensorProto.BFLOAT16])
@pytest.mark.parametrize("context", CONTEXTS)
def test_cast_there_and_back(to: int, context: str) -> None:
    verify(lambda g, x: g("Cast", g("Cast", x, to=to), to=TensorProto.FLOAT), ["N", 2, "S"], context, (2, "P"), least=False)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_whole_models_of_another_float(dtype: int) -> None:
    kind = np.float16 if dtype == TensorProto.FLOAT16 else np.float64

    def op(g: G, x: str) -> str:
        return window(g, g("MatMul", g("Tanh", x), g.weight(2, 2, dtype=kind)), 1)

    verify(op, ["N", "S", 2], "masked", dtype=dtype, result=dtype, axis=1, least=False, fill=np.asarray(0.5, kind))


def test_cast_like() -> None:
    def op(g: G, x: str) -> str:
        return g("CastLike", g("CastLike", x, g.const([1], np.int64)), x)

    verify(op, ["N", 2, "S"], "late", least=False)
    verify(lambda g, x, y: g("CastLike", g("Cast", x, to=INT), y), ["N", 2, "S"], "late", inputs=2, least=False)


@pytest.mark.parametrize("name", ["IsNaN", "IsInf"])
def test_tests_for_the_unusual(name: str) -> None:
    def op(g: G, x: str) -> str:
        y = g("Div", x, g("Sub", g("Round", x), g("Round", x))) if name == "IsInf" else g("Log", x)
        return g(name, y)

    verify(op, ["N", 2, "S"], "late", result=BOOL, least=False)


@pytest.mark.parametrize("mode", ["one output", "mask", "ratio"])
def test_dropout(mode: str) -> None:
    g = G()
    x = g("Conv", g.input("x", ["N", 2, "S"]), g.weight(2, 2, 3))
    if mode == "mask":
        y, mask = g("Dropout", x, n=2)
        check(g.model(g("Conv", y, g.weight(2, 2, 2)), mask, **{mask: BOOL}))
        return
    extra = [g.const(0.3, np.float32), g.const(False)] if mode == "ratio" else []
    c = check(g.model(g("Relu", g("Dropout", x, *extra))))
    assert "Dropout" not in {n.op_type for n in c.model.graph.node}


def test_dropout_of_an_old_opset() -> None:
    verify(lambda g, x: g("Dropout", x, ratio=0.5), ["N", 2, "S"], opset=9)


def test_dropout_in_training_is_refused() -> None:
    with pytest.raises(Refusal, match="training mode draws random numbers"):
        verify(lambda g, x: g("Dropout", x, g.const(0.5, np.float32), g.const(True)), [1, 2, "S"])


def test_a_baked_time_axis_is_named_with_numbers() -> None:
    with pytest.raises(Refusal, match="the time axis is baked in: one input is S long on axis 2, another has 16 fixed"):
        verify(lambda g, x: g("Add", x, g.weight(2, 16)), [1, 2, "S"])


def test_lengths_that_differ_are_refused() -> None:
    with pytest.raises(Refusal, match="its inputs are S - 1 and S frames long on axis 2"):
        verify(lambda g, x: g("Add", g("Slice", x, g.ints(1), g.ints(2**62), g.ints(2)), x), [1, 2, "S"])


def test_two_symbols_that_agree_only_by_chance() -> None:
    g = G()
    with pytest.raises(Refusal, match="they agree only by chance"):
        check(g.model(g("Add", g.input("x", [1, "S"]), g.input("y", [1, "T"]))))
