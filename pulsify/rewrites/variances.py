"""The mean of ``(x - mean(x))^2`` over time is one running value, not a mean fed back into the stream.

Written by exporters as ReduceMean, Sub, Mul or Pow, then ReduceMean, ReduceSum, ReduceSumSquare or ReduceL2 over the
same axes. It becomes one node of x; the means and differences are dead unless something else reads them.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.graph import DOMAIN, Graph
from pulsify.ops._infer import infer_node, view
from pulsify.ops.reduce import Reduce

__all__ = ["apply"]

#: The last operator -> whether it squares by itself, and what becomes of the sum of squares.
_LAST = {
    "ReduceMean": (False, "mean"),
    "ReduceSum": (False, ""),
    "ReduceSumSquare": (True, ""),
    "ReduceL2": (True, "Sqrt"),
}
_REDUCE = Reduce()


def apply(g: Graph) -> int:
    count = 0
    for node in list(g.graph):
        if node.domain or node.op_type not in _LAST or not g.time_axes(node.inputs[0]):
            continue
        squares, last = _LAST[node.op_type]
        axes = _REDUCE.reduced(view(g, node))
        centred = node.inputs[0] if squares else _square(node.inputs[0])
        x = None if centred is None else _centred(g, centred, axes)
        if x is None or not set(axes) & set(g.time_axes(x)):
            continue
        keep = node.attributes.get_int("keepdims", 1)
        node.op_type, node.domain = "CentredSquares", DOMAIN
        node.attributes.clear()
        for a in (ir.AttrInt64s("axes", list(axes)), ir.AttrInt64("keepdims", keep), ir.AttrString("last", last)):
            node.attributes.add(a)
        node.resize_inputs(1)
        node.replace_input_with(0, x)
        infer_node(g, node)
        count += 1
    return count


def _square(v: ir.Value | None) -> ir.Value | None:
    """d where v is d*d or d^2."""
    node = None if v is None else v.producer()
    if node is None or node.domain or len(node.inputs) != 2:
        return None
    d, by = node.inputs
    if node.op_type == "Mul" and d is by:
        return d
    if node.op_type == "Pow" and by is not None and by.const_value is not None and by.const_value.size == 1:
        return d if float(by.const_value.numpy().reshape(-1)[0]) == 2 else None
    return None


def _centred(g: Graph, v: ir.Value, axes: tuple[int, ...]) -> ir.Value | None:
    """x where v is x minus its mean over the axes, or the other way round."""
    node = v.producer()
    if node is None or node.domain or node.op_type != "Sub":
        return None
    a, b = node.inputs
    for x, mean in ((a, b), (b, a)):
        maker = None if mean is None else mean.producer()
        if x is None or maker is None or maker.domain or maker.inputs[0] is not x:
            continue
        if maker.op_type == "GlobalAveragePool" and axes == tuple(range(2, g.facts[x].rank)):
            return x
        kept = maker.op_type == "ReduceMean" and bool(maker.attributes.get_int("keepdims", 1))
        if kept and _REDUCE.reduced(view(g, maker)) == axes:
            return x
    return None
