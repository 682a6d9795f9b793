"""A Transpose over axes of length 1 and over neighbours that stay together, as the move of one axis that it is, or as the Reshape
if it moves axes of length 1 alone: of a batch that is not known, too, where there is one frame per pulse.

Runtimes have a fast path for moving one axis and copy element by element otherwise, counting axes of length 1:
``[1, 1, 64, 128]`` with perm (0, 3, 2, 1) takes onnxruntime 27 us. With those axes left out by a Reshape, which moves no data,
it is ``[64, 128]`` with (1, 0) and takes 2.4. Adding them by the Transpose itself would not do: runtimes merge that again.

A Gemm without a bias, moved, is a MatMul: onnxruntime merges the two into ``W.T @ x.T``, whose inner loop runs over few frames
(four of 250 channels to 128: 34 us for 15).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import onnx_ir as ir

from pulsify.dim import DimLike
from pulsify.graph import Graph
from pulsify.rewrites._rows import Rows, each

__all__ = ["apply", "plain"]

#: From this many single copies on, a Transpose takes longer than two Reshapes.
_COPIES = 128

Perm = tuple[int, ...]


def apply(g: Graph) -> int:
    for node in g.graph:
        if node.op_type == "Transpose" and not node.domain:
            _unmerged(node.inputs[0].producer())  # type: ignore[union-attr]
    return each(g, ("Transpose",), _rewrite)


def _unmerged(product: ir.Node | None) -> None:
    """A product in a form that is not merged with the Transpose behind it."""
    if product is not None and (product.op_type, product.domain, len(product.inputs)) == ("Gemm", "", 2) and not product.attributes:
        product.op_type = "MatMul"


def plain(shape: Sequence[DimLike], perm: Perm) -> tuple[list[DimLike], Perm] | None:
    """The shape with axes left out and merged, and the permutation of those; None where that is not a move of one axis, or
    the Transpose is one already, moves nothing or is small."""
    order = [a for a in perm if shape[a] != 1]
    if _rising(order) or _moves_one(perm) or _copies(shape, perm) < _COPIES:
        return None
    blocks = _blocks(order)
    old = sorted(blocks)
    short = tuple(old.index(block) for block in blocks)
    return ([prod((shape[a] for a in block), start=1) for block in old], short) if _moves_one(short) else None


def _copies(shape: Sequence[DimLike], perm: Perm) -> int:
    """How many stretches a copy has: axes that stay at the end are copied whole."""
    tail = len(perm)
    while tail and perm[tail - 1] == tail - 1:
        tail -= 1
    return prod(d for d in shape[:tail] if isinstance(d, int))


def _rising(values: Sequence[int]) -> bool:
    return all(a < b for a, b in pairwise(values))


def _moves_one(perm: Perm) -> bool:
    return any(_rising([b for b in perm if b != a]) for a in perm)


def _blocks(order: Sequence[int]) -> list[tuple[int, ...]]:
    """The axes in their new order; neighbours that stay neighbours together."""
    old = sorted(order)
    blocks: list[list[int]] = []
    for a in order:
        if blocks and old.index(a) == old.index(blocks[-1][-1]) + 1:
            blocks[-1].append(a)
        else:
            blocks.append([a])
    return [tuple(b) for b in blocks]


def _rewrite(rows: Rows, node: ir.Node) -> bool:
    g, x, out = rows.g, node.inputs[0], node.outputs[0]
    assert x is not None
    fact = g.facts.get(x)
    shape = g.chunks.get(x) or (fact.shape if fact is not None else None)
    if shape is None or sum(not isinstance(d, int) for d in shape) > 1:
        return False
    perm = tuple(node.attributes.get_ints("perm", ()) or reversed(range(len(shape))))
    if _rising([a for a in perm if shape[a] != 1]):
        rows.replace(out, _shaped(rows, x, [shape[a] for a in perm], f"{out.name}.shaped"))
        g.graph.remove(node, safe=True)
        return True
    found = plain(shape, perm)
    if found is None:
        return False
    begin, short = found
    wire = _shaped(rows, x, begin, f"{out.name}.plain")
    (wire,) = rows.node("Transpose", [wire], f"{out.name}.moved", perm=list(short))
    rows._loose(wire, x)
    rows.replace(out, _shaped(rows, wire, [shape[a] for a in perm], f"{out.name}.shaped"))
    g.graph.remove(node, safe=True)
    return True


def _shaped(rows: Rows, wire: ir.Value, shape: Sequence[DimLike], stem: str) -> ir.Value:
    (out,) = rows.node("Reshape", [wire, rows.const([d if isinstance(d, int) else -1 for d in shape])], stem)
    rows._loose(out, wire)
    return out
