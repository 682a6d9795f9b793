"""Write an expression of symbols as int64 arithmetic of a graph.

Canonical floors have numerators that are not negative (coefficients lie in [0, den), symbols are not negative), so
integer division, which truncates, is floor.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from pulsify.dim import Dim, DimLike, factors

__all__ = ["write_expression"]


def write_expression(
    d: DimLike,
    leaf: Callable[[str], ir.Value],
    const: Callable[[int], ir.Value],
    op: Callable[[str, list[ir.Value]], ir.Value],
    done: dict[DimLike, ir.Value],
) -> ir.Value:
    """A wire holding d. ``leaf`` gives the wire of a symbol, ``done`` remembers expressions already written.

    d must have integer coefficients.
    """
    if d in done:
        return done[d]
    if not isinstance(d, Dim):
        done[d] = const(int(d))
        return done[d]
    assert d.is_integer, d
    total: ir.Value | None = None
    for coef, atoms in factors(d):
        term = None if coef == 1 and atoms else const(int(coef))
        for atom in atoms:
            if isinstance(atom, str):
                wire = leaf(atom)
            else:
                num, den = atom
                wire = op("Div", [write_expression(num, leaf, const, op, done), const(den)])
            term = wire if term is None else op("Mul", [wire, term])
        assert term is not None
        total = term if total is None else op("Add", [total, term])
    assert total is not None
    done[d] = total
    return total
