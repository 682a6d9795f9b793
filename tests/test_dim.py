"""The algebra of dimensions against Python's integers."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.dim import Dim, evaluate, exact_div, floor, floor_div, law, parse, slope, substitute, sym, symbols_of
from tests.profiles import examples

#: A random expression as a pair: the Dim, and a Python function of (S, N) computing it directly.
Pair = tuple[Any, Any]


@st.composite
def expressions(draw: st.DrawFn, names: tuple[str, ...] = ("S", "N"), depth: int = 4) -> Pair:
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        if draw(st.booleans()):
            name = draw(st.sampled_from(names))
            return sym(name), lambda env: env[name]
        k = draw(st.integers(-7, 7))
        return k, lambda env: k
    a, fa = draw(expressions(names, depth - 1))
    op = draw(st.sampled_from(["+", "-", "*k", "//", "%", "neg"]))
    if op in "+-":
        b, fb = draw(expressions(names, depth - 1))
        return (a + b, lambda env: fa(env) + fb(env)) if op == "+" else (a - b, lambda env: fa(env) - fb(env))
    k = draw(st.integers(1, 6))
    if op == "*k":
        k = draw(st.integers(-3, 3))
        return a * k, lambda env: fa(env) * k
    if op == "//":
        return a // k, lambda env: fa(env) // k
    if op == "%":
        return a % k, lambda env: fa(env) % k
    return -a, lambda env: -fa(env)


one_symbol = expressions(("S",))
values = st.integers(0, 400)


@given(e=expressions(), s=values, n=st.integers(1, 9))
@examples(100)
def test_arithmetic_is_pythons(e: Pair, s: int, n: int) -> None:
    d, f = e
    assert evaluate(d, {"S": s, "N": n}) == f({"S": s, "N": n})


@given(a=one_symbol, b=one_symbol, s=values)
@examples(150)
def test_equal_forms_are_equal_and_hash_alike(a: Pair, b: Pair, s: int) -> None:
    if a[0] == b[0]:
        assert a[1]({"S": s}) == b[1]({"S": s})
        assert hash(a[0]) == hash(b[0])
    both = (a[0] + b[0], b[0] + a[0])
    assert both[0] == both[1] and str(both[0]) == str(both[1])


@given(e=expressions())
@examples(150)
def test_text_round_trips(e: Pair) -> None:
    assert parse(str(e[0])) == e[0]


@given(e=expressions(), s=values, n=st.integers(1, 9))
@examples(100)
def test_text_is_python(e: Pair, s: int, n: int) -> None:
    """Clients evaluate it as such."""
    assert eval(str(e[0]), {"S": s, "N": n}) == e[1]({"S": s, "N": n})


@given(e=one_symbol, by=st.tuples(st.integers(1, 4), st.integers(0, 5)), s=values)
@examples(100)
def test_substitution(e: Pair, by: tuple[int, int], s: int) -> None:
    inner = sym("S") * by[0] + by[1]
    assert evaluate(substitute(e[0], "S", inner), {"S": s}) == e[1]({"S": by[0] * s + by[1]})


@given(e=one_symbol, s=values)
@examples(150)
def test_law(e: Pair, s: int) -> None:
    """``f(m*k + r) = A*k + table[r]``, and the rate is the slope."""
    form = law(e[0], "S")
    assert form is not None
    k, r = divmod(s, form.m)
    assert form.A * k + form.table[r] == e[1]({"S": s})
    assert form.rate == slope(e[0], "S")
    low, high = form.offsets()
    assert low <= e[1]({"S": s}) - form.rate * s <= high


@given(a=one_symbol, b=one_symbol)
@examples(150)
def test_a_law_decides_equality(a: Pair, b: Pair) -> None:
    form = law(a[0] - b[0], "S")
    assert form is not None
    same = all(a[1]({"S": s}) == b[1]({"S": s}) for s in range(2 * form.m + 2))
    assert same == (form.A == 0 and not any(form.table))


@given(p=st.lists(st.integers(-4, 4), min_size=1, max_size=3), q=st.lists(st.integers(-4, 4), min_size=1, max_size=2))
@examples(100)
def test_exact_division(p: list[int], q: list[int]) -> None:
    """What is a product divides by either factor; what it returns multiplies back."""
    s, n = sym("S"), sym("N")
    a: Any = sum((c * m for c, m in zip(p, (1, s, s * n), strict=False)), 0)
    b: Any = sum((c * m for c, m in zip(q, (1, n), strict=False)), 0)
    if b == 0:
        return
    assert exact_div(a * b, b) == a
    back = exact_div(a * b + 1, b)
    assert back is None or back * b == a * b + 1


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("S", "S"),
        ("2*S + 3 - S", "S + 3"),
        ("(2*S)//2", "S"),
        ("(2*S + 1)//2", "S"),
        ("(6*S + 3)//4", "(S + 1)//2 + S"),
        ("((S//2) + 1)//3", "(S + 2)//6"),
        ("floor(S/2)", "S//2"),
        ("floor((S - 1)/2) + 1", "(S + 1)//2"),
        ("S % 4", "S - 4*(S//4)"),
        ("-S", "-S"),
        ("7", "7"),
    ],
)
def test_one_canonical_form(text: str, canonical: str) -> None:
    assert str(parse(text)) == canonical


@pytest.mark.parametrize("text", ["", "S +", "S//0", "S//S", "f(S)", "S**2", "'a'", "S/-2", "1.5", "floor(S, 2)", "batch size"])
def test_what_is_not_an_expression(text: str) -> None:
    with pytest.raises(ValueError, match="not a dimension expression"):
        parse(text)


def test_polynomials_have_no_law() -> None:
    s = sym("S")
    assert law(s * s, "S") is None and slope(s * s, "S") is None
    assert law(s + sym("N"), "S") is None
    assert symbols_of(s * s + sym("N") // 2) == {"S", "N"}


def test_rational_values_floor() -> None:
    s = sym("S")
    assert floor(s * Fraction(1, 2)) == s // 2
    assert floor(Fraction(-7, 2)) == -4
    assert isinstance(s * Fraction(1, 2) * 2, Dim)


@pytest.mark.parametrize("c", [1, 2, 3, 7])
def test_floor_div_is_the_floor_of_the_quotient(c: int) -> None:
    s = sym("S")
    for d in (s, 3 * s + 2, (s - 1) // 2, -s + 5, 7, Fraction(9, 2)):
        assert floor_div(d, c) == floor(d * Fraction(1, c))
    with pytest.raises(ZeroDivisionError):
        floor_div(s, 0)
