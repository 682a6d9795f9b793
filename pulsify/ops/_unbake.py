"""Nodes that are right at the lengths the file has alone, Reshapes that have the length of time baked in above all, and what
would cure them.

A repair is a guess at what the author meant, right at the length the file has; only ``--unbake`` asks for it, and
verification then compares with the repaired model.
"""

from __future__ import annotations

from typing import NoReturn

from pulsify.dim import Dim, DimLike, evaluate, exact_div, floor_div, substitute, symbols_of
from pulsify.errors import Refusal, Repair
from pulsify.facts import Shape
from pulsify.ops._rule import NodeView

__all__ = ["as_transpose", "free_constant", "refuse_with_repair", "reshape_target"]


def reshape_target(source: Shape, target: Shape) -> list[int] | None:
    """``target`` as constants: 0 where it copies the input's axis, at most one -1. None if that cannot say it."""
    out: list[int] = []
    for i, d in enumerate(target):
        if not isinstance(d, Dim):
            if d == 0:
                return None
            out.append(int(d))
        elif i < len(source) and source[i] == d:
            out.append(0)
        else:
            out.append(-1)
    return out if out.count(-1) <= 1 else None


def free_constant(n: NodeView, total: DimLike, known: DimLike, wanted: Shape) -> Repair | None:
    """A target with its one constant that is the baked length (or a multiple of it) let free, or None.

    ``total`` elements do not fit targets of ``known``. With S0 the length the file has, a constant c is to blame if
    ``c(S) = total / (known / c)`` depends on S and ``c(S0) = c``. Constants for which that is whole at every length
    come before those that only some lengths divide (typing the repaired node records which); of several, the one that
    has as many entries in front of it as time has is to blame.
    """
    baked, symbol = n.assume.baked, n.symbol
    if baked is None:
        return None
    hole = exact_div(substitute(total, symbol, baked), known) if -1 in wanted else 1
    if hole is None or hole == 0:
        return None
    front = _before_time(n)
    for divide in (_whole, _floored):
        found, ahead = [], []
        for i, c in enumerate(wanted):
            rest = None if isinstance(c, Dim) or c < 2 else exact_div(known, c)
            free = None if rest is None else divide(total, hole, rest)
            if isinstance(free, Dim) and symbols_of(free) == {symbol} and evaluate(free, {symbol: baked}) == c:
                filled = tuple(free if k == i else hole if d == -1 else d for k, d in enumerate(wanted))
                found.append(reshape_target(n.shape(0), filled))
                if _product(filled[:i]) == front:
                    ahead.append(found[-1])
        if len(found) > 1 and len(ahead) == 1:
            found = ahead  # time stays where it was, varying slower than what follows
        if found:
            return Repair(n.name, "Reshape", tuple(found[0])) if len(found) == 1 and found[0] is not None else None
    return None


def _before_time(n: NodeView) -> DimLike | None:
    """Entries in front of the only time axis of the input."""
    axes = n.streaming(0)
    return _product(n.shape(0)[: axes[0]]) if len(axes) == 1 else None


def _product(shape: Shape) -> DimLike:
    total: DimLike = 1
    for d in shape:
        total = total * d
    return total


def _whole(total: DimLike, hole: DimLike, rest: DimLike) -> DimLike | None:
    return exact_div(total, hole * rest)


def _floored(total: DimLike, hole: DimLike, rest: DimLike) -> DimLike | None:
    share = exact_div(total, hole)
    return floor_div(share, rest) if share is not None and isinstance(rest, int) else None


def as_transpose(n: NodeView, axis: int, out: Shape) -> Repair | None:
    """A Reshape of as many axes that, with time 1 frame long as in the file, only moves axes of length 1 about: the
    Transpose that does the same and lets time be longer. Axes of length 1 that can stay do; time goes to the first left."""
    baked, shape = n.assume.baked, n.shape(0)
    if baked is None or len(out) != len(shape) or symbols_of(shape[axis]) != {n.symbol}:
        return None
    if evaluate(shape[axis], {n.symbol: baked}) != 1:
        return None
    target = [substitute(d, n.symbol, baked) for d in out]
    kept = [a for a, d in enumerate(shape) if a != axis and d != 1]
    if [shape[a] for a in kept] != [d for d in target if d != 1]:
        return None
    idle = [a for a, d in enumerate(shape) if a != axis and d == 1]
    stay = {a for a in idle if target[a] == 1}
    sources, spare = iter(kept), iter([axis, *(a for a in idle if a not in stay)])
    perm = tuple(a if a in stay else next(spare) if d == 1 else next(sources) for a, d in enumerate(target))
    return Repair(n.name, "Transpose", perm)


def refuse_with_repair(n: NodeView, why: str, repair: Repair | None, hint: str, axis: int | None = None) -> NoReturn:
    """Refuse, telling of the repair there is."""
    hints = [hint]
    if repair is not None:
        way = "of axes" if repair.op == "Squeeze" else "to"
        hints.insert(0, f"--unbake, which makes it a {repair.op} {way} [{', '.join(map(str, repair.values))}]")
    try:
        n.refuse(why, axis=axis, hint=hints)
    except Refusal as e:
        e.repair = repair
        raise
