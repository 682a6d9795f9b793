"""Decisions about lengths, and the interval of S each holds on, against plain evaluation."""

from __future__ import annotations

import pytest
from hypothesis import given

from pulsify.assume import Assumptions
from pulsify.dim import Dim, evaluate, parse, sym
from pulsify.errors import Refusal
from tests.profiles import examples
from tests.test_dim import Pair, one_symbol

LENGTHS = range(1, 200)


@given(a=one_symbol, b=one_symbol)
@examples(150)
def test_ge_holds_wherever_it_is_allowed(a: Pair, b: Pair) -> None:
    assume = Assumptions("S")
    try:
        answer = assume.ge(a[0], b[0], "node")
    except Refusal as e:
        assert "modulo" in str(e)
        return
    for s in LENGTHS:
        if assume.allows(s):
            assert (a[1]({"S": s}) >= b[1]({"S": s})) == answer, s
    least = assume.least
    if least > 1:  # and not a frame longer than that
        assert (a[1]({"S": least - 1}) >= b[1]({"S": least - 1})) != answer


@given(a=one_symbol, b=one_symbol)
@examples(150)
def test_eq_holds_wherever_it_is_allowed(a: Pair, b: Pair) -> None:
    assume = Assumptions("S")
    try:
        answer = assume.eq(a[0], b[0], "node")
    except Refusal as e:
        assert "only where S %" in str(e)
        return
    for s in LENGTHS:
        if assume.allows(s):
            assert (a[1]({"S": s}) == b[1]({"S": s})) == answer, s


@given(a=one_symbol, b=one_symbol)
@examples(100)
def test_the_greater_and_the_lesser(a: Pair, b: Pair) -> None:
    assume = Assumptions("S")
    try:
        high, low = assume.max(a[0], b[0], "node"), assume.min(a[0], b[0], "node")
    except Refusal:
        return
    for s in LENGTHS:
        if assume.allows(s):
            pair = [a[1]({"S": s}), b[1]({"S": s})]
            assert [evaluate(d, {"S": s}) for d in (low, high)] == sorted(pair), s


@given(d=one_symbol)
@pytest.mark.parametrize("c", [2, 3, 4, 6])
@examples(100)
def test_divides_holds_wherever_it_is_allowed(d: Pair, c: int) -> None:
    if not isinstance(d[0], Dim):
        return
    assume = Assumptions("S")
    if assume.divides(c, d[0], "node"):
        assert all((d[1]({"S": s}) % c == 0) == assume.allows(s) for s in LENGTHS)
        assume.settle()
        assert any(assume.allows(s) for s in range(1500))
        for s in LENGTHS:
            if assume.allows(s):
                assert d[1]({"S": s}) % c == 0, s


def test_a_condition_names_who_asked() -> None:
    assume = Assumptions("S")
    assert assume.ge(sym("S"), 7, "enc/slice")
    (c,) = assume.conditions
    assert (c.node, c.text, c.least) == ("enc/slice", "S >= 7", 7)
    assert assume.least == 7 and not assume.allows(6) and assume.allows(7)


def test_conditions_that_agree_are_one() -> None:
    assume = Assumptions("S")
    for _ in range(2):
        assert assume.divides(4, sym("S"), "reshape")
    assert len(assume.conditions) == 1 and assume.modulus == 4
    assert [s for s in range(9) if assume.allows(s)] == [0, 4, 8]


def test_conditions_that_exclude_each_other_are_not_recorded() -> None:
    """S even, then S odd: no stream would be left."""
    assume = Assumptions("S")
    assert assume.divides(2, sym("S"), "a")
    odd = parse("S + 1")
    assert isinstance(odd, Dim)
    assert not assume.divides(2, odd, "b")


def test_several_classes_settle_on_one() -> None:
    """``(S + 1)//2`` is even for S % 4 in (0, 3); one congruence is enough to be exact."""
    assume = Assumptions("S")
    d = parse("(S + 1)//2")
    assert isinstance(d, Dim)
    assert assume.divides(2, d, "pool")
    assert [s for s in range(9) if assume.allows(s)] == [0, 3, 4, 7, 8]
    assume.settle()
    assert [s for s in range(9) if assume.allows(s)] == [0, 4, 8]


def test_a_decision_on_the_batch_is_refused() -> None:
    with pytest.raises(Refusal, match="depends on N"):
        Assumptions("S").ge(sym("N"), 3, "clip")


def test_opaque_dimensions_are_at_least_one() -> None:
    assert Assumptions("S").ge(sym("N"), 1, "clip")
    assert Assumptions("S").ge(sym("N") * sym("S"), 0, "clip")


def test_open_classes_are_narrowed_by_later_conditions() -> None:
    """A U-Net of two levels: S % 4 in (0, 1), then S even, is S a multiple of 4; with S odd it would be S % 4 == 1."""
    for later, remainder in (("2*(S//2)", 0), ("2*(S//2) + 1", 1)):
        assume = Assumptions("S")
        assert assume.eq(parse("2*(S//4)"), parse("S//2"), "inner", must=True)
        assert assume.eq(parse(later), sym("S"), "outer", must=True)
        assume.settle()
        assert assume.modulus == 4 and [s for s in range(9) if assume.allows(s)] == list(range(remainder, 9, 4))


@pytest.mark.parametrize(("text", "least"), [("S*S - 50", 8), ("S*S*N - 50", 8), ("S*S - 10000000", 3163), ("7 - S*S", 3)])
def test_products_of_lengths_are_decided_from_where_it_holds(text: str, least: int) -> None:
    """What is not linear in S has no law; its last change of sign is searched."""
    assume = Assumptions("S")
    assert assume.ge(parse(text), 0, "node") == (not text.startswith("7"))
    assert assume.least == least


def test_products_of_lengths_that_are_equal_once() -> None:
    assume = Assumptions("S")
    assert not assume.eq(parse("S*S"), parse("4*S"), "node")
    assert not assume.allows(4) and assume.allows(5)
