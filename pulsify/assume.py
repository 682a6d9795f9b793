"""Decisions about symbolic dimensions, each with the interval of S it holds on.

The compiler never carries ``min``/``max`` trees: a comparison is decided for large S, and what it assumed is recorded
with the node that asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from pulsify.dim import MAX_PERIOD, Dim, DimLike, evaluate, law, slope, symbols_of
from pulsify.errors import Refusal

__all__ = ["Assumptions", "Condition"]

#: The stream length decisions are made at where no exact law is available.
REFERENCE = 1 << 40


@dataclass(frozen=True, slots=True)
class Condition:
    """``text`` holds for every ``least <= S <= most`` with ``S % modulus == remainder``; ``node`` is who asked."""

    node: str
    text: str
    least: int = 0
    modulus: int = 1
    remainder: int = 0
    most: int | None = None


@lru_cache(maxsize=16384)
def _sign(diff: Dim, symbol: str) -> tuple[bool, int]:
    """Whether ``diff >= 0`` for all large S, for a law of a rate that is not 0, and the S from which that holds."""
    form = law(diff, symbol)
    assert form is not None and form.rate
    low, high = form.offsets()
    sign = form.rate > 0
    # Beyond this S the sign is the slope's; exact to the residue.
    bound = math.ceil(-low / form.rate) if sign else math.floor(high / -form.rate) + 1
    while bound > 0 and (evaluate(diff, {symbol: bound - 1}) >= 0) == sign:
        bound -= 1
    return sign, bound


class Assumptions:
    """Decides comparisons of dimensions for one stream symbol and remembers the conditions."""

    def __init__(self, symbol: str):
        self.symbol = symbol
        self.conditions: dict[Condition, None] = {}
        #: The smallest stream length from which every recorded decision holds.
        self.least = 0
        #: The greatest stream length up to which every recorded decision holds; None where there is none.
        self.most: int | None = None
        self._classes: set[tuple[int, int]] = set()
        #: Several classes of S where one will be settled on: (node, text, modulus, classes).
        self._open: list[tuple[str, str, int, frozenset[int]]] = []
        #: The number the file has on the axis that was declared as time, if it has one.
        self.baked: int | None = None

    @property
    def modulus(self) -> int:
        """Stream lengths must be congruent to the recorded remainders; their common modulus."""
        return math.lcm(1, *(m for m, _ in self._classes))

    def allows(self, length: int) -> bool:
        """Whether the batch model was understood for this stream length."""
        most = self.most
        if most is not None and length > most:
            return False
        return length >= self.least and self._congruent(length) and all(length % k in good for _, _, k, good in self._open)

    def binding(self) -> list[Condition]:
        """The conditions that bind: the greatest lower bound, the least upper one, and every congruence."""
        least, most = self.least, self.most
        ends: dict[str, Condition] = {}
        for c in self.conditions:
            if c.modulus > 1:
                ends.setdefault(f"{c.modulus} {c.remainder}", c)
            elif least and c.least == least:
                ends.setdefault("least", c)
            if most is not None and c.most == most:
                ends.setdefault("most", c)
        return list(ends.values())

    def residues(self, m: int) -> Sequence[int]:
        """The classes ``S % m`` that the recorded congruences leave."""
        if not self._classes and not self._open:
            return range(m)
        whole = math.lcm(m, *(k for k, _ in self._classes), *(o[2] for o in self._open))
        if whole > MAX_PERIOD:
            return range(m)
        return sorted({s % m for s in range(whole) if self._congruent(s) and all(s % k in good for _, _, k, good in self._open)})

    def _congruent(self, s: int) -> bool:
        return all(s % m == r for m, r in self._classes)

    def settle(self) -> None:
        """Leave one class of S: of several that the batch model is defined for, that of 0, or the least there is."""
        for node, text, modulus, good in self._open:
            whole = math.lcm(modulus, self.modulus)
            left = [s for s in range(whole) if self._congruent(s)] if whole <= MAX_PERIOD else []
            fine = [s for s in left if s % modulus in good]
            if len(fine) < len(left) or not left:
                first = min(fine, default=min(good))
                steps = (k for k in range(1, modulus + 1) if modulus % k == 0)
                step = next(k for k in steps if all(s in fine for s in left if s % k == first % k))
                self._record(node, text, modulus=step, remainder=first % step)
        self._open.clear()

    def same(self, a: DimLike, b: DimLike) -> bool:
        """Whether a == b for every S the recorded congruences allow. Records nothing."""
        diff = a - b
        if not isinstance(diff, Dim):
            return bool(diff == 0)
        form = law(diff, self.symbol)
        return form is not None and form.A == 0 and not any(form.table[r] for r in self.residues(form.m))

    def at_most(self, a: DimLike, b: DimLike) -> bool:
        """Whether a <= b for every S the recorded congruences allow. Records nothing."""
        diff = b - a
        if not isinstance(diff, Dim):
            return bool(diff >= 0)
        form = law(diff, self.symbol)
        return form is not None and form.A == 0 and all(form.table[r] >= 0 for r in self.residues(form.m))

    def _congruence(self, node: str, text: str, period: int, good: list[int]) -> None:
        """Record that S modulo ``period`` is one of ``good``; several classes stay open until settled."""
        good = sorted(set(good) & set(self.residues(period)))
        step = next((s for s in range(1, period + 1) if period % s == 0 and good == list(range(good[0] % s, period, s))), 0)
        if step > 1:
            self._record(node, text, modulus=step, remainder=good[0])
        elif not step:
            self._open.append((node, text, period, frozenset(good)))

    def _record(self, node: str, text: str, **kw: int) -> None:
        c = Condition(node, text, **kw)
        self.conditions.setdefault(c)
        self.least = max(self.least, c.least)
        if c.most is not None:
            self.most = c.most if self.most is None else min(self.most, c.most)
        if c.modulus > 1:
            self._classes.add((c.modulus, c.remainder))

    def ge(self, a: DimLike, b: DimLike, node: str = "") -> bool:
        """Whether ``a >= b`` for all large S."""
        diff = a - b
        if not isinstance(diff, Dim):
            return bool(diff >= 0)
        form = law(diff, self.symbol)
        if form is None:
            return self._ge_opaque(diff, f"{a} >= {b}", node)
        if form.A == 0:
            good = [form.table[r] >= 0 for r in self.residues(form.m)]
            if all(good) or not any(good):
                return good[0]
            raise Refusal(
                f"cannot type node {node!r}",
                why=f"{a} >= {b} depends on {self.symbol} modulo {form.m}",
                hint=f"export the model for {self.symbol} a multiple of {form.m}",
            )
        sign, bound = _sign(diff, self.symbol)
        if bound > 0:
            self._record(node, f"{a} {'>=' if sign else '<'} {b}", least=bound)
        return sign

    def _ge_opaque(self, diff: Dim, text: str, node: str) -> bool:
        answers = set()
        for other in (1, 2, 5, 64):
            env = dict.fromkeys(symbols_of(diff), other)
            if self.symbol in env:
                env[self.symbol] = REFERENCE
            answers.add(evaluate(diff, env) >= 0)
        if len(answers) > 1:
            raise Refusal(
                f"cannot type node {node!r}",
                why=f"whether {text} depends on {', '.join(sorted(symbols_of(diff) - {self.symbol}))}",
                hint="fix that dimension in the model (only the time axis may decide, being long)",
            )
        answer = answers.pop()
        if self.symbol in symbols_of(diff):
            least = max(self._settled(diff, answer, other) for other in (1, 2, 5, 64))
            if least > 1:
                self._record(node, text if answer else f"not {text}", least=least)
        return answer

    def _settled(self, diff: Dim, answer: bool, other: int) -> int:
        """The S from which ``diff >= 0`` is what it is for large S, every other symbol being ``other``.

        The last change of sign is looked for between powers of two, then frame by frame for a stretch behind it.
        """
        env = dict.fromkeys(symbols_of(diff), other)

        def holds(s: int) -> bool:
            return (evaluate(diff, {**env, self.symbol: s}) >= 0) == answer

        high = next((1 << k for k in range(REFERENCE.bit_length(), -1, -1) if not holds(1 << k)), 0)
        low, high = high, 2 * high + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if holds(middle) else (middle, high)
        return 1 + max((s for s in range(low, low + 64) if not holds(s)), default=low)

    def eq(self, a: DimLike, b: DimLike, node: str = "", *, must: bool = False) -> bool:
        """Whether ``a == b`` for all large S. Opaque dimensions are equal only where they are the same.

        With ``must`` the batch model is only defined where they are equal: if that is one class of S modulo
        something, it is recorded and the answer is True.
        """
        if a == b:
            return True
        diff = a - b
        if not isinstance(diff, Dim):
            return bool(diff == 0)
        form = law(diff, self.symbol)
        if form is None:
            if symbols_of(diff) == {self.symbol} and slope(diff, self.symbol) is None:
                last = max((s for s in range(257) if evaluate(diff, {self.symbol: s}) == 0), default=0)
                if last > 0:
                    self._record(node, f"{a} != {b}", least=last + 1)
            else:
                env = dict.fromkeys(symbols_of(diff), 1)
                if self.symbol not in env and evaluate(diff, env) <= 0:
                    self._record(node, f"{a} != {b}")
            return False
        if form.rate == 0:
            allowed = self.residues(form.m)
            good = [r for r in allowed if form.table[r] == 0]
            if len(good) == len(allowed):
                return True
            if good:
                if must:
                    self._congruence(node, f"{a} == {b}", form.m, good)
                    return True
                raise Refusal(
                    f"cannot type node {node!r}",
                    why=f"{a} == {b} only where {self.symbol} % {form.m} is {', '.join(map(str, good))}",
                    hint=f"export the model for {self.symbol} a multiple of {form.m}",
                )
            return False
        low, high = form.offsets()
        size = abs(form.rate)
        last = math.floor(max(-low, high, Fraction(0)) / size) + 1
        while last > 0 and evaluate(diff, {self.symbol: last - 1}) != 0:
            last -= 1
        if last > 0:
            self._record(node, f"{a} != {b}", least=last)
        return False

    def divides(self, c: int, d: Dim, node: str = "") -> bool:
        """Record that the batch model is only defined where c divides d; False where it never does.

        Where several classes of S would do, they stay open until settled.
        """
        form = law(d, self.symbol)
        if form is None or Fraction(form.A) % c or form.m > 4096:
            period = form.m * c if form else 0
        else:
            period = form.m
        if form is None or period > 4096:
            return False
        good = [r for r in self.residues(period) if evaluate(d, {self.symbol: r}) % c == 0]
        if good:
            self._congruence(node, f"{c} divides {d}", period, good)
        return bool(good)

    def limit(self, a: DimLike, limit: int, node: str = "") -> bool:
        """Record that the batch model is only understood while ``a <= limit``; False where a does not grow with S."""
        form = law(a, self.symbol)
        if form is None or form.rate <= 0:
            return False
        most = max(0, math.floor((limit - form.offsets()[1]) / form.rate))
        while evaluate(a, {self.symbol: most + 1}) <= limit:
            most += 1
        self._record(node, f"{a} <= {limit}", most=most)
        return True

    def max(self, a: DimLike, b: DimLike, node: str = "") -> DimLike:
        """The greater of two, decided at large S."""
        return a if self._above(a, b, node) else b

    def min(self, a: DimLike, b: DimLike, node: str = "") -> DimLike:
        """The lesser of two, decided at large S."""
        return b if self._above(a, b, node) else a

    def _above(self, a: DimLike, b: DimLike, node: str) -> bool:
        """a >= b, or else b >= a: where neither exceeds the other at every residue, the comparison is refused."""
        form = law(a - b, self.symbol)
        if form is not None and form.rate == 0 and all(t <= 0 for t in form.table):
            return False
        return self.ge(a, b, node)
