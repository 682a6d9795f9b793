"""A grouped projection written as an Einsum becomes a batched MatMul, which runtimes do several times faster.

``out[x.., g, o] = sum_i data[x.., g, i] * weight[g, i, o]`` for the letters in any order: ``weight`` is constant, g (the groups)
may be missing, the x are the data's own. The data are brought to ``[g, x.., i]`` and multiplied by ``[g, i, o]``; where there is
one row of x (a pulse of one frame) that only reshapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites._rows import Rows, each

__all__ = ["apply"]


def apply(g: Graph) -> int:
    return each(g, ("Einsum",), _rewrite)


def _rewrite(rows: Rows, node: ir.Node) -> bool:
    g = rows.g
    given, arrow, made = node.attributes.get_string("equation").replace(" ", "").partition("->")
    terms = given.split(",")
    data, weight = (node.inputs[0], node.inputs[1]) if len(node.inputs) == 2 else (None, None)
    if not arrow or len(terms) != 2 or data is None or weight is None or weight.const_value is None or "." in given:
        return False
    left, right = terms
    shape, out = g.chunks.get(data), node.outputs[0]
    if shape is None or g.facts[data].dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        return False
    lengths = [d for d in shape if isinstance(d, int)]
    if len(lengths) != len(shape) or any(len(set(t)) != len(t) for t in (left, right, made)):
        return False
    size, other = dict(zip(left, lengths, strict=True)), dict(zip(right, weight.const_value.shape.numpy(), strict=True))
    if any(size[c] != other[c] for c in left if c in right):
        return False  # an axis of length 1 stands for all of the other's
    size |= other
    inner = [c for c in left if c in right and c not in made]
    groups = [c for c in left if c in right and c in made]
    own = [c for c in left if c not in right]
    wide = [c for c in right if c not in left]
    if len(inner) != 1 or len(groups) > 1 or len(wide) != 1 or sorted(made) != sorted([*groups, *own, *wide]):
        return False
    order = [*groups, *own, *inner]
    array = np.asarray(weight.const_value.numpy()).transpose([right.index(c) for c in (*groups, *inner, *wide)])
    x = _ordered(rows, data, left, order, size)
    count = prod(int(size[c]) for c in own)
    x = _reshaped(rows, x, data, [*(size[c] for c in groups), count, size[inner[0]]])
    (y,) = rows.node("MatMul", [x, rows.weight(array, f"{out.name}.weight")], f"{out.name}.product")
    rows._loose(y, data)
    have = [*groups, *own, *wide]
    if [c for c in have if size[c] != 1] == [c for c in made if size[c] != 1]:
        y = _reshaped(rows, y, data, [size[c] for c in made])
    else:
        y = _reshaped(rows, y, data, [size[c] for c in have])
        y = _ordered(rows, y, have, list(made), size)
    rows.replace(out, y)
    g.graph.remove(node, safe=True)
    return True


def _ordered(rows: Rows, v: ir.Value, have: Sequence[str], want: Sequence[str], size: dict[str, int]) -> ir.Value:
    """The wire with its axes in another order; the same where only axes of length 1 move (its shape is then not the one
    wanted, and follows)."""
    if [c for c in have if size[c] != 1] == [c for c in want if size[c] != 1]:
        return v if list(have) == list(want) else _reshaped(rows, v, v, [size[c] for c in want])
    (out,) = rows.node("Transpose", [v], f"{v.name}.order", perm=[list(have).index(c) for c in want])
    rows._loose(out, v)
    return out


def _reshaped(rows: Rows, v: ir.Value, like: ir.Value, shape: Sequence[int]) -> ir.Value:
    (out,) = rows.node("Reshape", [v, rows.const([int(d) for d in shape])], f"{v.name}.as")
    rows._loose(out, like)
    return out
