"""A scale and a shift per channel that are within no product (scaled_products.py, scales_ahead.py), as a batch normalisation.

``s*x + t`` over ``[N, C, ..]`` or rows ``[n, C]`` is ``BatchNormalization(x, s, t, 0, 1)`` with epsilon 0. A runtime's kernel for
it goes over the channels once; a Mul and an Add take 1.5 to 5 times as long. A scale or a shift alone does where several
numbers of each channel lie side by side: elementwise operators broadcast a number per channel to few of them at a time. A shift
in front of a scale stays: it may take away an offset much larger than what is left, exactly.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites._affine import AFFINE, affine, finite, known
from pulsify.rewrites._row_form import FLOATS, lone
from pulsify.rewrites._rows import Rows, each

__all__ = ["apply"]


def apply(g: Graph) -> int:
    return each(g, [op for op in AFFINE if op != "BatchNormalization"], _rewrite, backwards=True)


def _rewrite(rows: Rows, node: ir.Node) -> bool:
    g, out = rows.g, node.outputs[0]
    shape, dtype = g.chunks.get(out), g.facts[out].dtype
    last = None if shape is None or len(shape) < 2 or dtype not in FLOATS or not g.regions.get(out) else affine(node, len(shape))
    if shape is None or last is None or known(last.source):
        return False
    source, scale, shift, nodes = last.source, last.scale, last.shift, [node]
    inner = lone(source)
    first = None if inner is None or g.chunks.get(source) != shape else affine(inner, len(shape))
    both = first is not None and finite(dtype.numpy(), scale, first.scale)
    if inner is not None and first is not None and both and not first.shift.any() and inner.op_type != "BatchNormalization":
        source, scale, shift = first.source, scale * first.scale, shift
        nodes.append(inner)
    axes = {a.axis for a in (last, first if len(nodes) > 1 else None) if a is not None} - {None}
    side_by_side = prod(d for d in shape[2:] if isinstance(d, int))
    if axes != {1} or g.chunks.get(source) != shape or (len(nodes) == 1 and side_by_side == 1):
        return False
    channels = max(scale.size, shift.size)
    given = [(scale, "scale"), (shift, "shift"), (np.zeros(1), "mean"), (np.ones(1), "variance")]
    name = out.name or "scaled"
    parameters = [rows.weight(np.broadcast_to(a, channels).astype(dtype.numpy()), f"{name}.{what}") for a, what in given]
    (made,) = rows.node("BatchNormalization", [source, *parameters], name, epsilon=0.0)
    rows.replace(out, made)
    for gone in nodes:
        g.forget(gone.outputs[0])
        g.graph.remove(gone, safe=True)
    return True
