"""What wires of three and more axes hold per pulse, those on the way included that no stage declares.

A wire is as long on each axis as it is declared, or as its maker tells from what it reads and from constants.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import onnx_ir as ir

from pulsify.dim import DimLike, sym
from pulsify.graph import DOMAIN, Graph
from pulsify.rewrites._row_form import array, depends_on_sizes
from pulsify.rewrites._row_ops import POINTWISE, REDUCE

__all__ = ["Shape", "axis_of", "held", "parts_of", "sizes"]

#: Numbers per axis; None for an axis nothing is known of. The last one is always known.
Shape = tuple[DimLike | None, ...]


def held(g: Graph) -> dict[ir.Value, Shape]:
    """The wires of three and more axes whose last one has a known size, but for those behind a Squeeze that may take any."""
    found: dict[ir.Value, Shape] = {}
    unsure: set[ir.Value | None] = set()

    def keep(v: ir.Value, shape: Shape | None) -> None:
        if shape is not None and len(shape) > 2 and isinstance(shape[-1], int):
            found[v] = shape

    for v in g.graph.inputs:
        keep(v, _declared(g, v))
    for node in g.graph:
        if depends_on_sizes(g, node) or not unsure.isdisjoint(node.inputs):
            unsure.update(node.outputs)
            continue
        told: list[Shape] | None = None
        for k, v in enumerate(node.outputs):
            shape = _declared(g, v)
            if shape is None:
                told = _told(node, found) if told is None else told
                shape = told[k] if k < len(told) else None
            keep(v, shape)
    return found


def sizes(shape: Shape) -> list[int] | None:
    """The shape as a Reshape tells it, -1 for one axis of unknown size; None if there are more of these."""
    if sum(not isinstance(d, int) for d in shape) > 1:
        return None
    return [d if isinstance(d, int) else -1 for d in shape]


def axis_of(node: ir.Node, rank: int, default: int = 0) -> int:
    """The axis an operator works along."""
    return node.attributes.get_int("axis", default) % rank


def parts_of(node: ir.Node, size: DimLike | None) -> list[int] | None:
    """The parts a Split makes of an axis of this size."""
    if len(node.inputs) > 1:
        told = array(node.inputs[1])
        return None if told is None else [int(n) for n in told]
    if not isinstance(size, int):
        return None
    part = -(-size // len(node.outputs))
    return [min(part, size - part * k) for k in range(len(node.outputs))]


def _declared(g: Graph, v: ir.Value) -> Shape | None:
    """What a stage said of a wire; wires within a rewrite tell less (_row_windows.py)."""
    fact, chunk = g.facts.get(v), g.chunks.get(v)
    if fact is None or fact.shape is None or chunk is None or len(chunk) != len(fact.shape):
        return None
    return tuple(chunk)


def _told(node: ir.Node, found: dict[ir.Value, Shape]) -> list[Shape]:
    """What the outputs of a node hold, as far as its inputs say so."""
    if node.domain:
        return _state(node) if (node.domain, node.op_type) == (DOMAIN, "State") else []
    if node.op_type == "Reshape":
        return _reshape(node, found)
    known = [found[v] for v in node.inputs if v is not None and v in found]
    if not known or len({len(s) for s in known}) > 1:
        return []
    if node.op_type in POINTWISE:
        return _pointwise(node, known)
    if node.op_type in ("Softmax", "LogSoftmax", "LayerNormalization"):
        return known[:1]
    tell = _TELL.get(node.op_type)
    return [] if tell is None else tell(node, known, [array(v) for v in node.inputs])


def _pointwise(node: ir.Node, known: list[Shape]) -> list[Shape]:
    rank = len(known[0])
    fixed = [tuple(a.shape) for a in map(array, node.inputs) if a is not None]
    if len(known) + len(fixed) < sum(v is not None for v in node.inputs) or any(len(s) > rank for s in fixed):
        return []
    made: list[DimLike | None] = []
    for axis in zip(*known, *((1,) * (rank - len(s)) + s for s in fixed), strict=True):
        longer = {d for d in axis if d is not None and d != 1}
        if len(longer) > 1:
            return []
        made.append(longer.pop() if longer else None if None in axis else 1)
    return [tuple(made)]


def _state(node: ir.Node) -> list[Shape]:
    return [tuple(int(d) if d.isdigit() else sym(d) if d.isidentifier() else None for d in node.attributes.get_strings("shape"))]


def _reshape(node: ir.Node, found: dict[ir.Value, Shape]) -> list[Shape]:
    """The axis left open is that of the input that is open, if all others hold as many numbers as before."""
    target, source = array(node.inputs[1]), found.get(node.inputs[0])  # type: ignore[arg-type]
    if target is None or 0 in target:
        return []
    open_axis = [d for d in source or () if not isinstance(d, int)]
    told = [int(d) for d in target if d > 0]
    same = len(open_axis) == 1 and prod(d for d in source or () if isinstance(d, int)) == prod(told)
    return [tuple(int(d) if d > 0 else open_axis[0] if same else None for d in target)]


def _with(shape: Shape, axis: int, *sizes: DimLike | None) -> Shape:
    return (*shape[:axis], *sizes, *shape[axis + 1 :])


def _product(node: ir.Node, known: list[Shape], constants: list[np.ndarray | None]) -> list[Shape]:
    weight = constants[1]
    return [] if weight is None or weight.ndim != 2 else [_with(known[0], len(known[0]) - 1, weight.shape[1])]


def _concat(node: ir.Node, known: list[Shape], constants: list[np.ndarray | None]) -> list[Shape]:
    if len(known) < len(node.inputs):
        return []
    at = axis_of(node, len(known[0]))
    parts = [s[at] for s in known if isinstance(s[at], int)]
    joined = sum(parts) if len(parts) == len(known) else None  # type: ignore[arg-type]
    return [_with(min(known, key=lambda s: s.count(None)), at, joined)]


def _split(node: ir.Node, known: list[Shape], constants: list[np.ndarray | None]) -> list[Shape]:
    at = axis_of(node, len(known[0]))
    return [_with(known[0], at, n) for n in parts_of(node, known[0][at]) or ()]


def _slice(node: ir.Node, known: list[Shape], constants: list[np.ndarray | None]) -> list[Shape]:
    bounds = [None if b is None or b.size != 1 else int(b.reshape(-1)[0]) for b in constants[1:]]
    if None in bounds or len(bounds) < 3:
        return []
    at = bounds[2] % len(known[0])  # type: ignore[operator]
    size = known[0][at]
    taken = slice(bounds[0], bounds[1], *bounds[3:])
    return [_with(known[0], at, len(range(size)[taken]) if isinstance(size, int) else None)]


def _gather(node: ir.Node, known: list[Shape], constants: list[np.ndarray | None]) -> list[Shape]:
    index = constants[1]
    return [] if index is None else [_with(known[0], axis_of(node, len(known[0])), *index.shape)]


def _reduce(node: ir.Node, known: list[Shape], constants: list[np.ndarray | None]) -> list[Shape]:
    axes = constants[1] if len(constants) > 1 else None
    if axes is None or axes.size != 1:
        return []
    at = int(axes.reshape(-1)[0]) % len(known[0])
    return [_with(known[0], at, *([1] if node.attributes.get_int("keepdims", 1) else []))]


_TELL: dict[str, Callable[[ir.Node, list[Shape], list[np.ndarray | None]], list[Shape]]] = {
    "MatMul": _product, "Concat": _concat, "Split": _split, "Slice": _slice, "Gather": _gather, **dict.fromkeys(REDUCE, _reduce),
}  # fmt: skip
