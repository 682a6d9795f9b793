"""Exact integer expressions of the stream symbol.

A ``Dim`` is a polynomial with rational coefficients over *atoms*: a symbol, or ``floor(P / c)`` with P a polynomial
with integer coefficients and c > 1 an integer. A constant is never a ``Dim``: it is an ``int`` (or a ``Fraction``
inside value arithmetic). Arithmetic is exact and canonical by three unconditional rules of floor division:

* integer part out:  ``floor((c*Q + R) / c) = Q + floor(R / c)``
* gcd reduction:     ``floor((g*Q + r) / (g*c)) = floor((Q + floor(r/g)) / c)``
* nested floors:     ``floor((floor(Q/a) + b) / c) = floor((Q + a*b) / (a*c))``

In one symbol every linear form is quasi-periodic: ``f(m*k + r) = A*k + table[r]``. Equality, sign and the rate
``A/m`` are decided from that (:func:`law`).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import gcd, lcm
from typing import Any, Union

__all__ = ["Dim", "DimLike", "Law", "evaluate", "exact_div", "factors", "floor", "floor_div", "law", "parse", "slope", "split_rows", "sym", "symbols_of"]

Number = int | Fraction
DimLike = Union[int, Fraction, "Dim"]

#: Longest period for which a residue table is built; nets beyond it are compared structurally only.
MAX_PERIOD = 1 << 16


class _Sym:
    """An opaque integer: the stream symbol (>= 0) or another dimension (>= 1)."""

    __slots__ = ("key", "name")

    def __init__(self, name: str):
        self.name = name
        self.key = name


class _Floor:
    """``floor(num / den)``, den > 1."""

    __slots__ = ("den", "key", "num")

    def __init__(self, num: Dim, den: int):
        self.num, self.den = num, den
        text = str(num)
        self.key = f"({text})//{den}" if not _is_atomic(num) else f"{text}//{den}"


_Atom = _Sym | _Floor
_Mono = tuple[str, ...]  # atom keys, sorted, repeated for powers; () is the constant
_ATOMS: dict[str, _Atom] = {}


def _is_atomic(d: Dim) -> bool:
    return len(d.terms) == 1 and next(iter(d.terms.values())) == 1 and len(next(iter(d.terms))) == 1


class Dim:
    """A non-constant expression. Immutable, hashable; ``==`` is equality of canonical forms."""

    __slots__ = ("_hash", "_text", "terms")

    def __init__(self, terms: dict[_Mono, Number]):
        self.terms = terms
        self._hash = hash(frozenset(terms.items()))
        self._text: str | None = None

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Dim) and self._hash == other._hash and self.terms == other.terms)

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: DimLike) -> DimLike:
        return _sum(self, other)

    __radd__ = __add__

    def __neg__(self) -> DimLike:
        return _product(self, -1)

    def __sub__(self, other: DimLike) -> DimLike:
        return self + (-other)

    def __rsub__(self, other: DimLike) -> DimLike:
        return (-self) + other

    def __mul__(self, other: DimLike) -> DimLike:
        return _product(self, other)

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> DimLike:
        return floor_div(self, other)

    def __mod__(self, other: int) -> DimLike:
        return self - (self // other) * other

    def __int__(self) -> int:
        raise TypeError(f"{self} is an expression, not a number")

    @property
    def is_integer(self) -> bool:
        """Whether every coefficient is an integer (the value then is one for all symbols)."""
        return all(isinstance(c, int) for c in self.terms.values())

    def __str__(self) -> str:
        if self._text is None:
            self._text = _format(self)
        return self._text

    def __repr__(self) -> str:
        return f"Dim({self})"


@lru_cache(maxsize=65536)
def _sum(a: Dim, b: DimLike) -> DimLike:
    terms = dict(a.terms)
    for mono, coef in _terms(b).items():
        terms[mono] = terms.get(mono, 0) + coef
    return _make(terms)


@lru_cache(maxsize=65536)
def _product(a: Dim, b: DimLike) -> DimLike:
    if not isinstance(b, Dim):
        return _make({m: c * b for m, c in a.terms.items()})
    terms: dict[_Mono, Number] = {}
    for m1, c1 in a.terms.items():
        for m2, c2 in b.terms.items():
            mono = tuple(sorted(m1 + m2))
            terms[mono] = terms.get(mono, 0) + c1 * c2
    return _make(terms)


def _terms(d: DimLike) -> Mapping[_Mono, Number]:
    if isinstance(d, Dim):
        return d.terms
    return {(): d} if d else {}


def _norm(c: Number) -> Number:
    return c.numerator if isinstance(c, Fraction) and c.denominator == 1 else c


def _make(terms: dict[_Mono, Number]) -> DimLike:
    terms = {m: _norm(c) for m, c in terms.items() if c}
    if not terms:
        return 0
    if len(terms) == 1 and () in terms:
        return terms[()]
    return Dim(terms)


def sym(name: str) -> Dim:
    """The symbol ``name`` as an expression."""
    _ATOMS.setdefault(name, _Sym(name))
    return Dim({(name,): 1})


@lru_cache(maxsize=65536)
def floor_div(d: DimLike, c: int) -> DimLike:
    """``floor(d / c)``, canonical. ZeroDivisionError where c is 0."""
    return floor(d if c == 1 else d * Fraction(1, c))


def floor(d: DimLike) -> DimLike:
    """``floor(d)``, canonical, for a rational-valued d."""
    if not isinstance(d, Dim):
        return d.numerator // d.denominator if isinstance(d, Fraction) else d
    if d.is_integer:
        return d
    den = lcm(*(c.denominator for c in d.terms.values() if isinstance(c, Fraction)))
    whole: dict[_Mono, Number] = {}
    rest: dict[_Mono, int] = {}
    for mono, coef in d.terms.items():
        q, r = divmod(int(coef * den), den)
        if q:
            whole[mono] = q
        if r:
            rest[mono] = r
    return _make(whole) + _floor_atom(rest, den)


def _floor_atom(rest: dict[_Mono, int], den: int) -> DimLike:
    """floor(rest / den) where every coefficient of rest lies in [0, den)."""
    const = rest.pop((), 0)
    if not rest:
        return const // den
    g = gcd(den, *rest.values())
    den, const = den // g, const // g
    rest = {m: c // g for m, c in rest.items()}
    if den == 1:
        return _make({**rest, (): const})
    if len(rest) == 1:
        (mono, coef), = rest.items()
        inner = _ATOMS[mono[0]] if len(mono) == 1 and coef == 1 else None
        if isinstance(inner, _Floor):
            return floor((inner.num + inner.den * const) * Fraction(1, inner.den * den))
    num = _make({**rest, (): const})
    assert isinstance(num, Dim)
    atom = _Floor(num, den)
    _ATOMS.setdefault(atom.key, atom)
    return Dim({(atom.key,): 1})


def _eval_atom(key: str, env: Mapping[str, int]) -> int:
    atom = _ATOMS[key]
    if isinstance(atom, _Sym):
        return env[atom.name]
    value = evaluate(atom.num, env)
    assert isinstance(value, int)
    return value // atom.den


def evaluate(d: DimLike, env: Mapping[str, int]) -> Number:
    """The value of d with every symbol given. KeyError on a missing symbol."""
    if not isinstance(d, Dim):
        return d
    total: Number = 0
    for mono, coef in d.terms.items():
        for key in mono:
            coef = coef * _eval_atom(key, env)
        total = total + coef
    return _norm(total)


def factors(d: Dim) -> list[tuple[Number, list[str | tuple[Dim, int]]]]:
    """The terms of d, of the highest degree first: a coefficient and its factors, each a symbol's name or (P, c) for
    ``floor(P / c)``."""
    out = []
    for mono, coef in sorted(d.terms.items(), key=lambda t: (-len(t[0]), t[0])):
        atoms = [_ATOMS[key] for key in mono]
        out.append((coef, [a.name if isinstance(a, _Sym) else (a.num, a.den) for a in atoms]))
    return out


def substitute(d: DimLike, name: str, by: DimLike) -> DimLike:
    """d with the symbol ``name`` replaced by an expression."""
    if not isinstance(d, Dim):
        return d
    total: DimLike = 0
    for mono, coef in d.terms.items():
        term: DimLike = coef
        for key in mono:
            atom = _ATOMS[key]
            if isinstance(atom, _Sym):
                term = term * (by if atom.name == name else Dim({(key,): 1}))
            else:
                term = term * floor(substitute(atom.num, name, by) * Fraction(1, atom.den))
        total = total + term
    return total


@lru_cache(maxsize=65536)
def symbols_of(d: DimLike) -> frozenset[str]:
    """Names of the symbols d depends on."""
    if not isinstance(d, Dim):
        return frozenset()
    names: set[str] = set()
    for mono in d.terms:
        for key in mono:
            atom = _ATOMS[key]
            names |= {atom.name} if isinstance(atom, _Sym) else symbols_of(atom.num)
    return frozenset(names)


@lru_cache(maxsize=65536)
def slope(d: DimLike, name: str) -> Fraction | None:
    """The rate of d in the symbol: ``lim d/S``. None where d is not linear in it, 0 where it does not occur.

    Other symbols are not allowed to multiply or share a term with it.
    """
    if not isinstance(d, Dim) or name not in symbols_of(d):
        return Fraction(0)
    total = Fraction(0)
    for mono, coef in d.terms.items():
        hits = [k for k in mono if _mentions(k, name)]
        if not hits:
            continue
        if len(mono) != 1:
            return None
        atom = _ATOMS[mono[0]]
        inner = Fraction(1) if isinstance(atom, _Sym) else slope(atom.num, name)
        if inner is None:
            return None
        total += Fraction(coef) * (inner if isinstance(atom, _Sym) else inner / atom.den)
    return total


def _mentions(key: str, name: str) -> bool:
    atom = _ATOMS[key]
    return atom.name == name if isinstance(atom, _Sym) else name in symbols_of(atom.num)


def _period(d: DimLike) -> int:
    m = 1
    if isinstance(d, Dim):
        m = lcm(m, *(c.denominator for c in d.terms.values() if isinstance(c, Fraction)))
        for mono in d.terms:
            for key in mono:
                atom = _ATOMS[key]
                if isinstance(atom, _Floor):
                    m = lcm(m, _period(atom.num) * atom.den)
    return m


@dataclass(frozen=True)
class Law:
    """``f(m*k + r) = A*k + table[r]`` for all k, 0 <= r < m; the rate is ``A/m``."""

    m: int
    A: Number
    table: tuple[Number, ...]

    @property
    def rate(self) -> Fraction:
        return Fraction(self.A) / self.m

    def offsets(self) -> tuple[Fraction, Fraction]:
        """Least and greatest of ``f(S) - rate*S`` over all S."""
        rest = [Fraction(t) - self.rate * r for r, t in enumerate(self.table)]
        return min(rest), max(rest)


@lru_cache(maxsize=16384)
def law(d: DimLike, name: str) -> Law | None:
    """The quasi-linear law of d in its only symbol ``name``; None if d has others, is not linear, or too irregular."""
    if not isinstance(d, Dim):
        return Law(1, 0, (d,))
    if symbols_of(d) != {name} or slope(d, name) is None:
        return None
    m = _period(d)
    if m > MAX_PERIOD:
        return None
    table = tuple(evaluate(d, {name: r}) for r in range(m))
    return Law(m, evaluate(d, {name: m}) - table[0], table)


def exact_div(p: DimLike, q: DimLike) -> DimLike | None:
    """The polynomial p/q if q divides p with integer coefficients, else None. q must not be 0."""
    if not isinstance(q, Dim):
        out = p * Fraction(1, int(q)) if isinstance(p, Dim) else _norm(Fraction(p, int(q)))
        whole = out.is_integer if isinstance(out, Dim) else isinstance(out, int)
        return out if whole else None
    lead_m, lead_c = max(q.terms.items(), key=lambda t: _rank(t[0]))
    quotient: DimLike = 0
    rest = p
    for _ in range(64):
        if rest == 0:
            return quotient
        if not isinstance(rest, Dim):
            return None
        for mono, coef in sorted(rest.terms.items(), key=lambda t: _rank(t[0]), reverse=True):  # noqa: B007 (read after)
            left = _mono_div(mono, lead_m)
            if left is not None:
                break
        else:
            return None
        ratio = Fraction(coef) / Fraction(lead_c)
        if ratio.denominator != 1:
            return None
        step = _make({left: ratio})
        quotient = quotient + step
        rest = rest - step * q
    return None


@lru_cache(maxsize=16384)
def split_rows(d: DimLike, name: str) -> tuple[DimLike, DimLike]:
    """``(rows, L)`` with ``d = rows * L``: L in the symbol alone, rows a product of the others.

    Time merged behind a batch of N streams is N*L long. (1, d) where d is no such product.
    """
    rows: DimLike = 1
    rest = d
    for other in sorted(symbols_of(d) - {name}):
        share = exact_div(rest, sym(other))
        if share is None:
            return 1, d
        rows, rest = rows * sym(other), share
    return rows, rest


def _rank(mono: _Mono) -> tuple[int, _Mono]:
    """Degree, then names: an order that multiplication keeps, as polynomial division needs."""
    return len(mono), mono


def _mono_div(a: _Mono, b: _Mono) -> _Mono | None:
    left = list(a)
    for key in b:
        if key not in left:
            return None
        left.remove(key)
    return tuple(left)


def _format(d: Dim) -> str:
    out = ""
    for mono, coef in sorted(d.terms.items(), key=lambda t: (-len(t[0]), t[0])):
        sign, size = ("-", -coef) if coef < 0 else ("+", coef)
        factors = [f"({k})" if "//" in k and (len(mono) > 1 or size != 1) else k for k in mono]
        if not mono or size != 1:
            factors.insert(0, str(size))
        text = "*".join(factors)
        if not out:
            out = f"-{text}" if sign == "-" and "//" not in text else (f"-({text})" if sign == "-" else text)
        else:
            out += f" {sign} {text}"
    return out


_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: floor(a * Fraction(1, b)),
    ast.Mod: lambda a, b: a - floor(a * Fraction(1, b)) * b,
    ast.Div: lambda a, b: a * Fraction(1, b),
}


def parse(text: str) -> DimLike:
    """An expression as exporters write it in dimension names: ``2*s0``, ``(S - 1)//2 + 1``, ``floor(S/2)``.

    ValueError if it is not one.
    """

    def walk(node: ast.expr) -> DimLike:
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.Name):
            return sym(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -walk(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            right = walk(node.right)
            if not isinstance(node.op, (ast.Add, ast.Sub, ast.Mult)) and (isinstance(right, Dim) or right <= 0):
                raise ValueError(text)
            return _BINARY[type(node.op)](walk(node.left), right)  # type: ignore[no-any-return]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "floor":
            (arg,) = node.args
            return floor(walk(arg))
        raise ValueError(f"not a dimension expression: {text!r}")

    try:
        return walk(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError) as e:
        raise ValueError(f"not a dimension expression: {text!r}") from e
