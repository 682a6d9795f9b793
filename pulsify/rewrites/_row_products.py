"""Products in row form: convolutions over time, transposed ones, depthwise ones, and frames times a matrix.

With x in row form and K taps at distance d: ``Conv: out[p] = concat_k x[s*p + d*k] @ W[k]``, one product of
``[n, K*C]`` and ``[K*C, C']``. A transposed convolution in block form (ops/conv_transpose.py) makes u frames of each window:
``out[u*q + r] = concat_j x[q + j] @ W[u*(span - 1 - j) + r]``, one product of ``[n, span*C]`` and ``[span*C, u*C']``,
whose rows are then cut into u. A depthwise one has a row per tap: ``out = 1 @ (w * X) + b``, where row k of X is all that tap
k reads in a pulse, ``concat_p x[s*p + d*k]``, and 1 a row of ones: a sum that has no zeros in it, so that each frame is made
of those alone that its window has.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.ops._infer import view as node_view
from pulsify.ops.conv_transpose import transposed
from pulsify.rewrites._costs import NODE
from pulsify.rewrites._row_form import FLOATS, Form, Product, array, one, same_frames
from pulsify.rewrites._rows import Rows, RowView

__all__ = ["PRODUCTS"]


def _taps(rows: Rows, x: ir.Value, view: RowView, frames: int, taps: int, step: int, dilation: int, stem: str) -> ir.Value:
    """``[frames, taps*C]``: row p holds frames ``step*p + dilation*k`` of x, k after k."""
    if taps == 1 and step == 1 and frames == view.frames:
        return x
    (out,) = rows.pseudo("Taps", [x], stem, frames=frames, taps=taps, step=step, dilation=dilation, axis=view.axis)
    rows.declare(out, rows.g.facts[x].dtype, view, taps * view.channels)
    rows.g.chunks[out] = tuple(frames if a == view.axis else d for a, d in enumerate(rows.g.chunks[out]))
    return out


def _times(rows: Rows, x: ir.Value, weight: np.ndarray, bias: np.ndarray | None, batched: bool, stem: str) -> ir.Value:
    """``x @ weight + bias``."""
    w = rows.weight(weight, f"{stem}.weight")
    if not batched:
        return rows.node("Gemm", [x, w, *([] if bias is None else [rows.weight(bias, f"{stem}.bias")])], stem)[0]
    (out,) = rows.node("MatMul", [x, w], stem)
    if bias is None or not bias.any():
        return out
    rows._loose(out, x)
    return rows.node("Add", [out, rows.weight(bias, f"{stem}.bias")], f"{stem}.biased")[0]


def _along_time(g: Graph, node: ir.Node) -> tuple[RowView, RowView, np.ndarray, np.ndarray | None, int] | None:
    """Views, constant weight and bias of a convolution over the channels of one axis, and which of its axes is time."""
    views = one(g, node)
    weight, bias = array(node.inputs[1]), array(node.inputs[2]) if len(node.inputs) > 2 else None
    if views is None or weight is None or g.facts[node.outputs[0]].dtype not in FLOATS:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and bias is None:
        return None
    x, y = views
    at = x.time - 2
    if at < 0 or x.channel not in (None, 1) or y.channel not in (None, 1):
        return None
    return x, y, weight, bias, at


def _conv(g: Graph, node: ir.Node) -> Form | None:
    found = _along_time(g, node)
    if found is None:
        return None
    x, y, weight, bias, at = found
    a = node.attributes
    if any(a.get_ints("pads", ())) or a.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    group, taps = a.get_int("group", 1), weight.shape[2 + at]
    if prod(weight.shape[2:]) != taps or weight.shape[:2] != (y.channels, x.channels // group) or x.channels % group:
        return None
    step = (a.get_ints("strides", None) or (1,) * (weight.ndim - 2))[at]
    dilation = (a.get_ints("dilations", None) or (1,) * (weight.ndim - 2))[at]
    op = "Conv" if group == 1 else "Depthwise"
    product = Product(op, y.frames, taps, x.channels, y.channels, step, dilation, batched=x.batch is not None)
    if group > 1:
        return _depthwise(node, x, y, weight, bias, product) if group == x.channels == y.channels else None
    matrix = np.ascontiguousarray(weight.reshape(y.channels, x.channels, taps).transpose(2, 1, 0).reshape(taps * x.channels, -1))
    source, name = node.inputs[0], node.outputs[0].name or ""
    assert source is not None

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        windows = _taps(rows, ins[0], x, y.frames, taps, step, dilation, f"{name}.taps")
        return [_times(rows, windows, matrix, bias, x.batch is not None, name)]

    return Form((source,), ((node.outputs[0], y),), build, product)


def _depthwise(node: ir.Node, x: RowView, y: RowView, weight: np.ndarray, bias: np.ndarray | None, p: Product) -> Form:
    """A sum over taps, each a row of all that it reads in a pulse."""
    by_tap = np.tile(weight.reshape(x.channels, p.taps).T, p.frames)
    source, name = node.inputs[0], node.outputs[0].name or ""
    assert source is not None

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        taps = _taps(rows, ins[0], x, p.taps, p.frames, p.dilation, p.step, f"{name}.taps")
        (weighed,) = rows.node("Mul", [taps, rows.weight(by_tap, f"{name}.weight")], f"{name}.weighed")
        rows._loose(weighed, source)
        ones = rows.const(np.ones((1, p.taps)), weight.dtype, "ones")
        addend = [] if bias is None else [rows.weight(np.tile(bias, p.frames), f"{name}.bias")]
        stem = name if p.frames == 1 else f"{name}.sums"
        if x.batch is None:
            (total,) = rows.node("Gemm", [ones, weighed, *addend], stem)
        else:
            (total,) = rows.node("MatMul", [ones, weighed], stem)
            if addend:
                rows._loose(total, source)
                (total,) = rows.node("Add", [total, *addend], stem)
        if p.frames == 1:
            return [total]
        rows._loose(total, source)
        return rows.node("Reshape", [total, rows.const([*([] if x.batch is None else [-1]), p.frames, x.channels])], name)

    return Form((source,), ((node.outputs[0], y),), build, p)


def _conv_transpose(g: Graph, node: ir.Node) -> Form | None:
    found = _along_time(g, node)
    if found is None:
        return None
    x, y, weight, bias, at = found
    a = node.attributes
    if a.get_int("group", 1) != 1 or prod(weight.shape[2:]) != weight.shape[2 + at] or weight.shape[:2] != (x.channels, y.channels):
        return None
    geometry = {t.axis: t for t in transposed(node_view(g, node, outputs=True))}
    t = geometry.pop(x.time)
    if not t.is_block or any(o.before or o.after or o.extra for o in geometry.values()):
        return None
    dilation = (a.get_ints("dilations", None) or (1,) * (weight.ndim - 2))[at]
    up, span, blocks = t.stride, t.span, y.frames // t.stride
    if y.frames != up * blocks or x.frames != blocks + span - 1:
        return None
    taps = weight.reshape(x.channels, y.channels, -1)
    matrix = np.zeros((span, x.channels, up, y.channels), weight.dtype)
    for j in range(span):
        for r in range(up):
            k, rest = divmod(up * (span - 1 - j) + r, dilation)
            if not rest and k < taps.shape[2]:
                matrix[j, :, r] = taps[:, :, k]
    flat = matrix.reshape(span * x.channels, up * y.channels)
    product = Product("ConvTranspose", blocks, span, x.channels, up * y.channels, up=up, batched=x.batch is not None)
    source, name = node.inputs[0], node.outputs[0].name or ""
    assert source is not None

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        windows = _taps(rows, ins[0], x, blocks, span, 1, 1, f"{name}.taps")
        wide = _times(rows, windows, flat, None if bias is None else np.tile(bias, up), x.batch is not None, f"{name}.blocks")
        rows._loose(wide, source)
        shape = [*([] if x.batch is None else [-1]), y.frames, y.channels]
        return rows.node("Reshape", [wide, rows.const(shape)], name)

    return Form((source,), ((node.outputs[0], y),), build, product)


def _matmul(g: Graph, node: ir.Node) -> Form | None:
    """Frames times a matrix."""
    views = one(g, node)
    weight = array(node.inputs[1])
    if views is None or weight is None or weight.ndim != 2 or g.facts[node.outputs[0]].dtype not in FLOATS:
        return None
    x, y = views
    if x.rank < 2 or not same_frames(x, y) or x.time == x.rank - 1 or x.channel not in (None, x.rank - 1) or y.channel not in (None, y.rank - 1):
        return None
    if weight.shape != (x.channels, y.channels):
        return None
    source, matrix, name = node.inputs[0], node.inputs[1], node.outputs[0].name or ""
    assert source is not None and matrix is not None
    op = "Gemm" if x.batch is None else "MatMul"
    # A runtime brings the frames of a product with a bias into rows, and back, by itself: two nodes.
    saves = 2 * NODE if x.batch is None and x.rank > 2 else 0.0
    return Form((source,), ((node.outputs[0], y),), lambda rows, ins: rows.node(op, [ins[0], matrix], name), saves=saves)


#: The row form of each operator that multiplies.
PRODUCTS: dict[str, Callable[[Graph, ir.Node], Form | None]] = {"Conv": _conv, "ConvTranspose": _conv_transpose, "MatMul": _matmul}
