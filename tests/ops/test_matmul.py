"""MatMul, Gemm and Einsum where time is not contracted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.errors import Refusal
from tests.contexts import contexts, pulses, verify
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

#: shape of the stream, of the weight, time axis out and rank out; and which side the stream is on.
MATMULS: list[tuple[list[Any], list[int], int, int, str]] = [
    (["S", 3], [3, 2], 0, 2, "left"),
    (["S", 3], [3], 0, 1, "left"),
    ([2, "S", 3], [3, 2], 1, 3, "left"),
    ([2, "S", 3], [3], 1, 2, "left"),
    ([2, "S", 3], [2, 3, 4], 1, 3, "left"),
    (["S", 3], [4, 3, 2], 1, 3, "left"),
    (["S", 2, 3], [3, 4], 0, 3, "left"),
    (["S", 2, 3], [1, 3, 4], 0, 3, "left"),
    ([5, 1, "S", 3], [1, 4, 3, 2], 2, 4, "left"),
    ([3, "S"], [2, 3], 1, 2, "right"),
    ([3, "S"], [3], 0, 1, "right"),
    ([2, 3, "S"], [4, 3], 2, 3, "right"),
    ([3, "S"], [2, 4, 3], 2, 3, "right"),
    (["S", 3, 2], [4, 3], 0, 3, "right"),
    (["S", 2, 3, 2], [2, 4, 3], 0, 4, "right"),
]


@pytest.mark.parametrize("case", MATMULS, ids=str)
@given(context=contexts, at=pulses())
@examples(4)
def test_matmul_with_weights(case: Any, context: str, at: Any) -> None:
    shape, weight, out, rank, side = case

    def op(g: G, x: str) -> str:
        w = g.weight(*weight)
        return g("MatMul", x, w) if side == "left" else g("MatMul", w, x)

    verify(op, shape, context, at, axis=shape.index("S"), out=out, rank=rank)


@given(context=contexts, at=pulses(), batch=st.sampled_from(["N", 2]))
@examples(12)
def test_both_operands_stream_in_the_batch(context: str, at: Any, batch: Any) -> None:
    """Frame by frame products of two wires of different delay."""
    verify(
        lambda g, a, b: g("MatMul", a, g("Transpose", b, perm=[0, 1, 3, 2])), [batch, "S", 2, 3], context, at, axis=1,
        inputs=2,
    )  # fmt: skip


@pytest.mark.parametrize("swap", [False, True])
@given(context=contexts, at=pulses(), ta=st.integers(0, 1), tb=st.integers(0, 1), bias=st.sampled_from([None, (), (1,), (4,), (1, 4), (2, 1), (2, 4)]))
@examples(20)
def test_gemm(swap: bool, context: str, at: Any, ta: int, tb: int, bias: Any) -> None:
    """Either operand streams (rows of A or columns of B), either transposed, any bias."""
    if bias is not None and len(bias):
        # the streaming axis of the result takes length 1
        bias = tuple(1 if (len(bias) - i == (1 if swap else 2)) else d for i, d in enumerate(bias))
        bias = tuple(min(d, 4) for d in bias)

    def op(g: G, x: str) -> str:
        inner = 3
        if swap:
            a = g.weight(*((inner, 2) if ta else (2, inner)))
            args = [a, x]
            width = (2, 1)
        else:
            b = g.weight(*((4, inner) if tb else (inner, 4)))
            args = [x, b]
            width = (1, 4)
        if bias is not None:
            args.append(g.weight(*(min(d, w) for d, w in zip(bias, width[2 - len(bias) :], strict=True))))
        return g("Gemm", *args, transA=ta, transB=tb, alpha=0.5, beta=2.0)

    shape = ([("S"), 3] if tb else [3, "S"]) if swap else ([3, "S"] if ta else ["S", 3])
    verify(op, shape, context, at, axis=shape.index("S"), out=1 if swap else 0, rank=2)


EINSUMS: list[tuple[str, list[Any], list[int] | None, int, int]] = [
    ("tc,cd->td", ["S", 3], [3, 2], 0, 2),
    ("tc,cd", ["S", 3], [3, 2], 1, 2),  # implicit output: d, t
    ("...c,cd->...d", [2, "S", 3], [3, 2], 1, 3),
    ("...c,cd", [2, "S", 3], [3, 2], 1, 3),
    ("nct,dc->ndt", ["N", 3, "S"], [2, 3], 2, 3),
    ("nct,nct->nt", ["N", 3, "S"], None, 1, 2),
    ("n c t , n c t -> t n", [2, 3, "S"], None, 0, 2),
    ("t...->...t", ["S", 2, 3], [], 2, 3),
    ("nct", [2, 3, "S"], [], 2, 3),  # implicit: alphabetical, c n t
    ("ctn->nct", [2, "S", 3], [], 2, 3),
    ("b...t,...->b...t", [2, 3, "S"], [3], 2, 3),
    ("tii->ti", ["S", 3, 3], [], 0, 2),
]


@pytest.mark.parametrize("case", EINSUMS, ids=lambda c: c[0])
@given(context=contexts, at=pulses())
@examples(4)
def test_einsum(case: Any, context: str, at: Any) -> None:
    equation, shape, weight, out, rank = case

    def op(g: G, *xs: str) -> str:
        args = [*xs, g.weight(*weight)] if weight else list(xs)
        return g("Einsum", *args, equation=equation)

    verify(op, shape, context, at, axis=shape.index("S"), out=out, rank=rank, inputs=2 if weight is None else 1)


def test_a_letter_that_stands_first_on_one_element_is_refused() -> None:
    """Runtimes take its length from there."""
    g = G()
    y = g("Einsum", g.input("x", [1, "S", 1, 4]), g.weight(3, 4, 5), equation="btgi,gio->btgo")
    with pytest.raises(Refusal, match=r"why:  'g' in 'btgi,gio->btgo' has 1 element, and 3 of input"):
        check(g.model(y))


def test_time_on_two_axes_types_and_is_refused_at_the_output() -> None:
    g = G()
    x = g.input("x", [1, "S", 3])
    with pytest.raises(Refusal, match=r"on axes 1, 2\n  why:  it has time on two axes"):
        check(g.model(g("MatMul", x, g("Transpose", x, perm=[0, 2, 1]))))


@pytest.mark.parametrize("op", ["MatMul", "Gemm", "Einsum"])
def test_contracting_time_is_refused(op: str) -> None:
    g = G()
    x = g.input("x", ["S", 3])
    y = g("Transpose", x, perm=[1, 0])
    z = g("Einsum", y, x, equation="ct,td->cd") if op == "Einsum" else g(op, y, x)
    with pytest.raises(Refusal, match=f"{op} node .*on axis 1\n  why:  it sums over time, and its result needs the whole"):
        check(g.model(z))


def test_a_baked_weight_over_time_is_refused() -> None:
    """Contracting time with a fixed number of frames cannot be a stream of any length."""
    g = G()
    with pytest.raises(Refusal, match=r"MatMul node .* on axis 1"):
        check(g.model(g("MatMul", g.input("x", [3, "S"]), g.weight(9, 2))))
