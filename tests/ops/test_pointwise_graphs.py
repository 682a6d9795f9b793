"""Random graphs with residual connections, grown from every pointwise operator on floats, whole numbers and booleans.

An operator is *exact* where it gives the same bits however many frames come at once; what follows a vectorised
approximation (Exp, Tanh) may differ in the last bit, so no step function is put behind one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.ops._rule import registry
from pulsify.ops.elementwise import Pointwise
from tests.contexts import batches, cut, pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import NIGHTLY, examples

OPSET = 24
FLOAT, INT, BOOL, UINT = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.UINT8

#: Floats to floats: name -> (lowest input, highest input, exact).
UNARY: dict[str, tuple[float, float, bool]] = {
    "Acos": (-0.9, 0.9, False), "Acosh": (1.1, 9.0, False), "Asin": (-0.9, 0.9, False), "Asinh": (-9.0, 9.0, False),
    "Atan": (-9.0, 9.0, False), "Atanh": (-0.9, 0.9, False), "Celu": (-3.0, 3.0, False), "Cos": (-3.0, 3.0, False),
    "Cosh": (-2.0, 2.0, False), "Elu": (-3.0, 3.0, False), "Erf": (-2.0, 2.0, False), "Exp": (-3.0, 2.0, False),
    "Gelu": (-3.0, 3.0, False), "HardSigmoid": (-3.0, 3.0, True), "HardSwish": (-9.0, 9.0, True),
    "LeakyRelu": (-9.0, 9.0, True), "Log": (0.1, 9.0, False), "Mish": (-3.0, 3.0, False),
    "Reciprocal": (0.1, 9.0, False), "Relu": (-9.0, 9.0, True), "Selu": (-3.0, 3.0, False),
    "Shrink": (-9.0, 9.0, True), "Sigmoid": (-5.0, 5.0, False), "Sin": (-3.0, 3.0, False), "Sinh": (-2.0, 2.0, False),
    "Softplus": (-3.0, 3.0, False), "Softsign": (-3.0, 3.0, False), "Sqrt": (0.0, 9.0, True),
    "Swish": (-5.0, 5.0, False), "Tan": (-1.0, 1.0, False), "Tanh": (-3.0, 3.0, False),
    "ThresholdedRelu": (-9.0, 9.0, True),
}  # fmt: skip
#: Floats to floats by steps: behind exact wires only.
STEPS = ("Ceil", "Floor", "Round", "Sign")
#: Numbers of any type to the same type.
NUMERIC = ("Abs", "Neg", "Identity")
#: Two numbers of one type; integer results stay small behind a Mod.
BINARY = ("Add", "Sub", "Mul", "Max", "Min")
FLOAT_BINARY = {"Div": (0.5, 9.0), "PRelu": (-1.0, 1.0), "Pow": (0.5, 2.0), "Mean": (-9.0, 9.0), "Sum": (-9.0, 9.0)}
BITWISE = ("BitwiseAnd", "BitwiseOr", "BitwiseXor")
COMPARE = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")
LOGIC = ("And", "Or", "Xor")
TESTS = ("IsNaN", "IsInf")
#: Each with a step of its own.
OTHERS = ("BitShift", "BitwiseNot", "Cast", "CastLike", "Clip", "Dropout", "Div", "Mod", "Not", "Where")

COVERED = {*UNARY, *STEPS, *NUMERIC, *BINARY, *FLOAT_BINARY, *BITWISE, *COMPARE, *LOGIC, *TESTS, *OTHERS}
SINCE = {s.name: s.since_version for s in onnx.defs.get_all_schemas() if s.domain == ""}


def test_all_are_covered() -> None:
    """A new pointwise operator joins the growth."""
    known = {op for (domain, op), rule in registry().items() if domain == "" and isinstance(rule, Pointwise)}
    assert {op for op in known if SINCE[op] <= 26 or op in COVERED} == COVERED


def f32(g: G, v: Any) -> str:
    return g.const(v, np.float32)


def clip(g: G, x: str, low: float, high: float) -> str:
    return g("Clip", x, f32(g, low), f32(g, high))


def to(g: G, x: str, kind: int) -> str:
    return g("Cast", x, to=kind)


def whole(g: G, x: str, kind: int = INT) -> str:
    """Small whole numbers (also where x is NaN, on frames outside the stream)."""
    return to(g, g("Round", clip(g, g("Mul", x, f32(g, 3)), 0 if kind == UINT else -9, 9)), kind)


def yes(g: G, x: str) -> str:
    return g("Greater", x, f32(g, 0.1))


# -- random graphs -----------------------------------------------------------------------------------------------------


@dataclass
class Wire:
    """A wire ``short`` frames shorter than the stream (longer where negative)."""

    name: str
    kind: int
    short: int
    exact: bool


class Grow:
    """Adds random nodes to a graph of wires [N, 3, S]."""

    def __init__(self, g: G, draw: Callable[..., Any], wires: list[Wire]):
        self.g, self.draw, self.wires = g, draw, wires

    def any(self, kind: int, exact: bool = False) -> Wire:
        """A wire of the kind, made where there is none; recent ones rather than old."""
        fit = [w for w in self.wires if w.kind == kind and (w.exact or not exact)][-4:]
        if fit:
            return self.draw(st.sampled_from(fit))
        source = next(w for w in self.wires if w.kind == FLOAT and w.exact)
        name = whole(self.g, source.name, kind) if kind in (INT, UINT) else yes(self.g, source.name)
        return self.add(name, kind, source.short, True)

    def add(self, name: str, kind: int, short: int, exact: bool) -> Wire:
        self.wires.append(Wire(name, kind, short, exact))
        return self.wires[-1]

    def pair(self, kind: int, exact: bool = False) -> tuple[str, str, int, bool]:
        """Two wires of one length: a residual connection cuts what it has too much of, at either end."""
        a, b = self.any(kind, exact), self.any(kind, exact)
        short = max(a.short, b.short)
        names = []
        for w in (a, b):
            more = short - w.short
            start = self.draw(st.integers(0, more)) if more else 0
            names.append(cut(self.g, w.name, 2, start, more - start) if more else w.name)
        return names[0], names[1], short, a.exact and b.exact

    def step(self) -> None:
        getattr(self, "_" + self.draw(st.sampled_from(STEPS_OF_GROWTH)))()

    def _unary(self) -> None:
        name = self.draw(st.sampled_from(sorted(UNARY)))
        low, high, exact = UNARY[name]
        w = self.any(FLOAT)
        self.add(self.g(name, clip(self.g, w.name, low, high)), FLOAT, w.short, w.exact and exact)

    def _rounding(self) -> None:
        w = self.any(FLOAT, exact=True)
        self.add(self.g(self.draw(st.sampled_from(STEPS)), w.name), FLOAT, w.short, True)

    def _numeric(self) -> None:
        w = self.any(self.draw(st.sampled_from([FLOAT, INT])))
        self.add(self.g(self.draw(st.sampled_from(NUMERIC)), w.name), w.kind, w.short, w.exact)

    def _binary(self) -> None:
        kind = self.draw(st.sampled_from([FLOAT, FLOAT, INT]))
        a, b, short, exact = self.pair(kind)
        name = self.g(self.draw(st.sampled_from(BINARY)), a, b)
        if kind == INT:
            name = self.g("Mod", name, self.g.ints(17))
        else:
            name = clip(self.g, name, -9, 9)
        self.add(name, kind, short, exact)

    def _float_binary(self) -> None:
        name = self.draw(st.sampled_from(sorted(FLOAT_BINARY)))
        a, b, short, _ = self.pair(FLOAT)
        low, high = FLOAT_BINARY[name]
        base = clip(self.g, a, 0.1, 4) if name == "Pow" else a
        self.add(clip(self.g, self.g(name, base, clip(self.g, b, low, high)), -9, 9), FLOAT, short, False)

    def _inspect(self) -> None:
        """NaN and infinity: made by a logarithm of a negative number and a division by 0."""
        w = self.any(FLOAT, exact=True)
        bad = self.g("Div", self.g("Log", w.name), self.g("Floor", w.name))
        self.add(self.g(self.draw(st.sampled_from(TESTS)), bad), BOOL, w.short, True)

    def _identity(self) -> None:
        w = self.any(FLOAT)
        name = self.draw(st.sampled_from(["Dropout", "CastLike", "fmod"]))
        if name == "fmod":
            w = self.any(FLOAT, exact=True)
            y = self.g("Mod", w.name, f32(self.g, 0.75), fmod=1)
        else:
            y = self.g(name, w.name, *([f32(self.g, 0)] if name == "CastLike" else []))
        self.add(y, FLOAT, w.short, w.exact)

    def _shift(self) -> None:
        a, b, short, _ = self.pair(UINT)
        by = self.g("BitwiseAnd", self.g("BitwiseNot", b), self.g.const(3, np.uint8))
        name = self.g("BitShift", a, by, direction=self.draw(st.sampled_from(["LEFT", "RIGHT"])))
        self.add(name, UINT, short, True)

    def _bits(self) -> None:
        a, b, short, _ = self.pair(INT)
        self.add(self.g(self.draw(st.sampled_from(BITWISE)), a, b), INT, short, True)

    def _divide(self) -> None:
        a, b, short, _ = self.pair(INT)
        safe = self.g("Add", self.g("Mul", b, b), self.g.ints(1))
        self.add(self.g(self.draw(st.sampled_from(["Div", "Mod"])), a, safe), INT, short, True)

    def _compare(self) -> None:
        kind = self.draw(st.sampled_from([FLOAT, INT]))
        a, b, short, _ = self.pair(kind, exact=True)
        self.add(self.g(self.draw(st.sampled_from(COMPARE)), a, b), BOOL, short, True)

    def _logic(self) -> None:
        a, b, short, _ = self.pair(BOOL)
        self.add(self.g("Not", self.g(self.draw(st.sampled_from(LOGIC)), a, b)), BOOL, short, True)

    def _where(self) -> None:
        kind = self.draw(st.sampled_from([FLOAT, INT]))
        a, b, short, exact = self.pair(kind)
        c = self.any(BOOL)
        more = short - c.short
        if more >= 0:
            test = cut(self.g, c.name, 2, more) if more else c.name
            self.add(self.g("Where", test, a, b), kind, short, exact)

    def _cast(self) -> None:
        w = self.any(self.draw(st.sampled_from([FLOAT, INT, BOOL])), exact=True)
        kind = self.draw(st.sampled_from([FLOAT, INT, BOOL]))
        if w.kind == FLOAT and kind == INT:
            self.add(whole(self.g, w.name), INT, w.short, True)
        elif w.kind == FLOAT and kind == BOOL:
            self.add(yes(self.g, w.name), BOOL, w.short, True)
        else:
            self.add(to(self.g, w.name, kind), kind, w.short, True)

    def _cut(self) -> None:
        w = self.draw(st.sampled_from(self.wires[-4:]))
        start, end = self.draw(st.integers(0, 2)), self.draw(st.integers(0, 2))
        self.add(cut(self.g, w.name, 2, start, end), w.kind, w.short + start + end, w.exact)

    def _pad(self) -> None:
        w = self.draw(st.sampled_from(self.wires[-4:]))
        start, end = self.draw(st.integers(0, 2)), self.draw(st.integers(0, 2))
        value = self.draw(st.sampled_from([0, 1, 2]))
        fill = self.g.const(value, {FLOAT: np.float32, INT: np.int64, BOOL: np.bool_, UINT: np.uint8}[w.kind])
        name = self.g("Pad", w.name, self.g.ints(0, 0, start, 0, 0, end), fill)
        self.add(name, w.kind, w.short - start - end, w.exact)

    def _convolve(self) -> None:
        w = self.any(FLOAT)
        before, after = self.draw(st.integers(0, 2)), self.draw(st.integers(0, 2))
        name = self.g("Conv", w.name, self.g.weight(3, 3, 3), pads=[before, after])
        self.add(clip(self.g, name, -9, 9), FLOAT, w.short + 2 - before - after, False)


STEPS_OF_GROWTH = (
    "unary", "unary", "rounding", "numeric", "binary", "binary", "float_binary", "bits", "divide", "compare", "logic", "inspect",
    "identity", "shift",
    "where", "cast", "cut", "pad", "convolve",
)  # fmt: skip


@given(data=st.data(), batch=batches, at=pulses())
@examples(20)
def test_random_graphs(data: st.DataObject, batch: Any, at: Any) -> None:
    g = G(opset=OPSET)
    wires = [Wire(g.input(f"x{k}", [batch, 3, "S"]), FLOAT, 0, True) for k in range(2)]
    grow = Grow(g, data.draw, wires)
    for _ in range(data.draw(st.integers(2, 25 if NIGHTLY else 12))):
        grow.step()
    last = grow.wires[-1]
    outs = {last.name: last.kind}
    other = data.draw(st.sampled_from(grow.wires))
    outs[g("Identity", other.name)] = other.kind
    check(g.model(*outs, **outs), pulses=at)
