"""The summands of a sum of sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import onnx_ir as ir

__all__ = ["summands"]

Term = TypeVar("Term")


def summands(
    top: ir.Node, term: Callable[[ir.Value], Term | None], within: Callable[[ir.Value], bool]
) -> tuple[list[Term], list[ir.Value], list[ir.Node]]:
    """The terms below a sum, what else is in it, left to right, and the sums between.

    ``term`` tells what a wire is as a term, ``within`` whether it belongs to the sum alone. A sum without a term in it stays
    one summand: what cancels there (``x - 4096``) would not in another order.
    """
    terms: list[Term] = []
    found: list[tuple[ir.Value, ir.Node]] = []
    above: dict[ir.Node, ir.Node] = {}
    holding = {top}
    todo: list[tuple[ir.Value | None, ir.Node]] = [(v, top) for v in reversed(top.inputs)]
    while todo:
        v, owner = todo.pop()
        if v is None:
            continue
        made = term(v) if within(v) else None
        producer = v.producer()
        if made is not None:
            terms.append(made)
            holding.add(owner)
        elif producer is not None and producer.op_type in ("Add", "Sum") and not producer.domain and within(v):
            above[producer] = owner
            todo.extend((w, producer) for w in reversed(producer.inputs))
        else:
            found.append((v, owner))
    for node in reversed(above):  # a sum is met before those below it
        if node in holding:
            holding.add(above[node])
    others: list[ir.Value] = []
    kept: set[ir.Node] = set()
    for v, owner in found:
        whole = None
        while owner not in holding:
            whole, owner = owner, above[owner]
        if whole is None:
            others.append(v)
        elif whole not in kept:
            kept.add(whole)
            others.append(whole.outputs[0])
    return terms, others, [node for node in above if node in holding]
