"""A convolution and the wire beside it that it reads, as one convolution: ``x + W*x = (W + 1)*x``.

The 1 is added at the tap that reads the frame itself: with a window that begins f frames before, taps d apart, that is tap
``f/d``; a wire that waits is a tap further back. The memory blocks of FSMNs are such sums, with depthwise kernels. What moves
axes on the way to the sum is passed over where both hold the same frames and channels in the same order (_rows.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np
import onnx_ir as ir

from pulsify.graph import DOMAIN, Graph
from pulsify.rewrites._row_ops import is_mover
from pulsify.rewrites._rows import Rows, RowView, each, row_view

__all__ = ["apply"]


def apply(g: Graph) -> int:
    return each(g, ("Add",), _rewrite)


def _rewrite(rows: Rows, node: ir.Node) -> bool:
    g, out = rows.g, node.outputs[0]
    for beside, summed in (node.inputs, node.inputs[::-1]):
        if beside is None or summed is None or g.chunks.get(summed) is None or g.chunks[summed] != g.chunks.get(out):
            continue
        conv = _conv(g, summed)
        weight = None if conv is None else _with_tap(g, conv, beside)
        if conv is None or weight is None:
            continue
        conv.replace_input_with(1, rows.weight(weight, f"{conv.outputs[0].name}.weight"))
        rows.replace(out, summed)
        g.graph.remove(node, safe=True)
        return True
    return False


def _conv(g: Graph, v: ir.Value) -> ir.Node | None:
    """The convolution that a wire is, but for the place of its axes, and that nobody else reads."""
    while len(v.uses()) == 1 and not v.is_graph_output():
        node = v.producer()
        if node is not None and node.op_type == "Conv" and not node.domain:
            return node
        if node is None or not is_mover(g, node) or node.inputs[0] is None:
            return None
        v = node.inputs[0]
    return None


def _with_tap(g: Graph, conv: ir.Node, beside: ir.Value) -> np.ndarray | None:
    """The weight with a 1 where it reads that wire; None if it does not."""
    source, constant, a = conv.inputs[0], conv.inputs[1], conv.attributes
    x, y, other = row_view(g, source), row_view(g, conv.outputs[0]), row_view(g, beside)
    if x is None or y is None or other is None or source is None or constant is None or constant.const_value is None:
        return None
    weight = constant.const_value.numpy()
    at, fixed = x.time - 2, weight.dtype in (np.float32, np.float64) and constant.const_value.size < 1 << 24
    if not fixed or at < 0 or x.channel != 1 or y.channels != x.channels or (other.frames, other.channels) != (y.frames, y.channels):
        return None
    if any(a.get_ints("pads", ())) or any(s != 1 for s in a.get_ints("strides", ())) or prod(weight.shape[2:]) != weight.shape[2 + at]:
        return None
    if a.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    dilation = a.get_ints("dilations", (1,) * (weight.ndim - 2))[at]
    behind = {wire: (offset, begun) for wire, offset, begun in _sources(g, source, x)}
    for wire, offset, begun in _sources(g, beside, other):
        first, also = behind.get(wire, (offset + 1, False))
        if offset and (begun or also):
            continue  # what is in front of the wire may differ
        tap, rest = divmod(offset - first, dilation)
        if not rest and 0 <= tap < weight.shape[2 + at]:
            return _plus_one(weight, at, tap)
    return None


def _plus_one(weight: np.ndarray, at: int, tap: int) -> np.ndarray:
    """``weight [C, C/groups, ..]`` with a 1 at a tap of every channel's own."""
    made = weight.copy()
    channel = np.arange(weight.shape[0])
    taps: list[int] = [0] * (weight.ndim - 2)
    taps[at] = tap
    made[(channel, channel % weight.shape[1], *taps)] += 1
    return made


def _sources(g: Graph, v: ir.Value, view: RowView) -> Iterator[tuple[ir.Value, int, bool]]:
    """The wires whose frames this one holds: with the same frames and channels, frame 0 of it being frame ``offset`` of them;
    and whether a history in between begins with something."""
    offset, begun = 0, False
    while True:
        yield v, offset, begun
        node = v.producer()
        if node is None or not node.inputs or node.inputs[0] is None:
            return
        if node.domain == DOMAIN and node.op_type == "Delay" and node.attributes.get_int("axis") == view.time:
            k, a = node.outputs.index(v), node.attributes
            delays, overlaps = a.get_ints("delay"), a.get_ints("overlap")
            if k >= len(delays):
                return
            offset -= delays[k] + overlaps[k]
            begun |= len(node.inputs) > 1 or "init" in a
        elif not is_mover(g, node):
            return
        v = node.inputs[0]
        before = row_view(g, v)
        if before is None or before.channels != view.channels:
            return
        view = before
