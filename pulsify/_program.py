"""The retiming program in numbers: whole variables, rows of two, one maximum per wire; solved with HiGHS.

    minimise    sum over wires w of  cost_w * H_w,      H_w = max(0, max over reads r of w of r - x_w)
    subject to  later >= earlier    for every wait
                low <= e <= high    for every variable e, whole

where ``x_w``, ``r``, ``later`` and ``earlier`` are each ``coef*e + const``, ``coef >= 0``, of one variable.

**One answer.** Every row has at most two variables, with opposite signs, so componentwise minima and maxima of solutions
are solutions. ``max(.., r, ..)`` of increasing functions of one variable each is submodular, ``H_w`` is
``max(x_w, .., r, ..)`` less the modular ``x_w``, and sums of submodular functions are submodular. Minimisers of a
submodular function over a lattice are a lattice, so one optimal solution is least in every variable (Murota, *Discrete
Convex Analysis*, 2003). The second objective, ``sum of e``, picks it: no two runs, machines or solvers differ.

**Whole numbers.** Where every coefficient is 1 the rows are those of the dual of a network flow, totally unimodular, and
a vertex is whole. Elsewhere (strides) it need not be, and the variables are declared whole: HiGHS then branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import gcd, inf

import numpy as np

__all__ = ["Affine", "Problem", "Wire", "available", "solve"]

#: Seconds after which the schedule stays as it is.
TIME_LIMIT = 5.0


@dataclass(frozen=True, slots=True)
class Affine:
    """``coef*e[var] + const``; a constant where ``var`` is None."""

    var: int | None
    coef: int
    const: int

    def __add__(self, more: int) -> Affine:
        return Affine(self.var, self.coef, self.const + more)

    def at(self, e: Sequence[int]) -> int:
        """The value at a solution."""
        return self.const if self.var is None else self.coef * e[self.var] + self.const


@dataclass(slots=True)
class Wire:
    """Frames of ``cost`` bytes each, provided from ``x`` on; ``reads`` are how far back each reader reaches."""

    cost: int
    x: Affine
    reads: list[Affine] = field(default_factory=list)

    def frames(self, e: Sequence[int]) -> int:
        """H at a solution."""
        return max(0, max((r.at(e) for r in self.reads), default=0) - self.x.at(e)) if self.reads else 0


@dataclass(slots=True)
class Problem:
    """``low`` is a solution: as soon as possible. ``high`` is None where nothing bounds a variable."""

    low: list[int] = field(default_factory=list)
    high: list[int | None] = field(default_factory=list)
    waits: list[tuple[Affine, Affine]] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)

    def variable(self, low: int, high: int | None = None) -> int:
        """A new variable."""
        self.low.append(low)
        self.high.append(high)
        return len(self.low) - 1

    def cost(self, e: Sequence[int]) -> int:
        """The objective at a solution."""
        return sum(w.cost * w.frames(e) for w in self.wires)

    def feasible(self, e: Sequence[int]) -> bool:
        """Whether e keeps every bound and wait."""
        inside = all(low <= v and (high is None or v <= high) for low, v, high in zip(self.low, e, self.high, strict=True))
        return inside and all(later.at(e) >= earlier.at(e) for later, earlier in self.waits)

    def latest(self) -> list[int]:
        """As late as the bounds allow; as soon as possible where nothing bounds a variable.

        No variable of a solution is above it: ``coef_p*e_p + const_p <= coef_q*high_q + const_q`` for every wait of p for q.
        """
        high: list[int | None] = list(self.high)
        changed = True
        while changed:
            changed = False
            for later, earlier in reversed(self.waits):
                if earlier.var is None or not earlier.coef:
                    continue
                top: int | None = later.const
                if later.var is not None:
                    bound = high[later.var]
                    top = None if bound is None else later.coef * bound + later.const
                old = high[earlier.var]
                if top is not None:
                    most = (top - earlier.const) // earlier.coef
                    if old is None or most < old:
                        high[earlier.var], changed = most, True
        return [low if h is None else h for low, h in zip(self.low, high, strict=True)]


def available() -> bool:
    """Whether the solver is installed."""
    try:
        import highspy  # noqa: F401
    except ImportError:
        return False
    return True


def solve(p: Problem) -> list[int] | None:
    """The least optimal solution; None where the solver is not there, or has no answer in time."""
    high = p.latest()
    loose = [i for i, (a, b) in enumerate(zip(p.low, high, strict=True)) if a < b]
    column = {i: k for k, i in enumerate(loose)}
    wires = [w for w in p.wires if w.cost and any(a.var in column for a in (w.x, *w.reads))]
    if not wires:
        return p.low
    if not available():
        return None
    # Where each wire's history ends, y_w = x_w + H_w, is a variable: then every row has two.
    rows = _Rows(p.low, column)
    unit = gcd(*(w.cost for w in wires))
    ties = 1 + sum(high[i] - p.low[i] for i in loose)
    costs = [1] * len(loose)
    for k, w in enumerate(wires, len(loose)):
        costs.append(w.cost // unit * ties)
        if w.x.var in column:
            costs[column[w.x.var]] -= costs[k] * w.x.coef
        for r in dict.fromkeys((w.x, *w.reads)):
            rows.add((k, 1, 0), r)
    for later, earlier in p.waits:
        rows.add(rows.term(later), earlier)
    lower = [*(float(p.low[i]) for i in loose), *(-inf for _ in wires)]
    upper = [*(float(high[i]) for i in loose), *(inf for _ in wires)]
    values = _highs(rows, costs, lower, upper, 0 if rows.network else len(loose))
    if values is None:
        return None
    e = list(p.low)
    for i, k in column.items():
        e[i] = round(values[k])
    return e if p.feasible(e) and p.cost(e) <= p.cost(p.low) else None


class _Rows:
    """Rows ``left - right >= bound``, row by row, over the variables that may move."""

    def __init__(self, low: Sequence[int], column: dict[int, int]):
        self.low, self.column = low, column
        self.start, self.index, self.value, self.bound = [0], list[int](), list[int](), list[int]()
        self.network = True

    def term(self, a: Affine) -> tuple[int | None, int, int]:
        """Column, coefficient and constant."""
        if a.var is None or a.var not in self.column:
            return None, 0, a.at(self.low)
        self.network &= a.coef == 1
        return self.column[a.var], a.coef, a.const

    def add(self, left: tuple[int | None, int, int], right: Affine) -> None:
        (a, p, c), (b, q, d) = left, self.term(right)
        terms = {a: p - q} if a == b else {a: p, b: -q}
        kept = [(k, v) for k, v in terms.items() if k is not None and v]
        if kept:
            self.index += [k for k, _ in kept]
            self.value += [v for _, v in kept]
            self.start.append(len(self.index))
            self.bound.append(d - c)


def _highs(
    rows: _Rows, costs: Sequence[int], lower: Sequence[float], upper: Sequence[float], whole: int
) -> list[float] | None:
    """A solution, the first ``whole`` columns of it integers; None where none was found in time."""
    import highspy

    class Silent(highspy.Highs):  # type: ignore[misc]
        """It greets when callbacks are set, which the constructor does before any option can be."""

        def enableCallbacks(self) -> None:
            pass

    h = Silent()  # type: ignore[no-untyped-call]
    for option, value in {
        "output_flag": False, "threads": 1, "time_limit": TIME_LIMIT, "mip_rel_gap": 0.0, "mip_abs_gap": 0.5,
    }.items():  # fmt: skip
        h.setOptionValue(option, value)
    lp = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = len(costs), len(rows.bound)
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = (np.asarray(v, float) for v in (costs, lower, upper))
    lp.row_lower_, lp.row_upper_ = np.asarray(rows.bound, float), np.full(len(rows.bound), inf)
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = np.asarray(rows.start), np.asarray(rows.index)
    lp.a_matrix_.value_ = np.asarray(rows.value, float)
    if whole:
        kinds = (highspy.HighsVarType.kInteger, highspy.HighsVarType.kContinuous)
        lp.integrality_ = [kinds[k >= whole] for k in range(len(costs))]
    h.passModel(lp)
    h.run()
    if h.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    return list(h.getSolution().col_value)
