"""How each operator is written in row form (see _rows.py). One function per family; None where there is no such form.

With x in row form and K taps at distance d: ``Conv: out[p] = concat_k x[s*p + d*k] @ W[k]``, one product of
``[n, K*C]`` and ``[K*C, C']``. A transposed convolution in block form (ops/conv_transpose.py) makes u frames of each window:
``out[u*q + r] = concat_j x[q + j] @ W[u*(span - 1 - j) + r]``, one product of ``[n, span*C]`` and ``[span*C, u*C']``,
whose rows are then cut into u.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.graph import DOMAIN, Graph
from pulsify.ops._infer import view as node_view
from pulsify.ops.conv_transpose import transposed
from pulsify.ops.elementwise import BINARY, COMPARE, UNARY
from pulsify.rewrites._costs import NODE
from pulsify.rewrites._rows import Rows, RowView, row_view

__all__ = ["POINTWISE", "Form", "Product", "is_mover", "row_form"]

POINTWISE = {*UNARY.split(), *BINARY.split(), *COMPARE.split(), "Cast", "Clip", "Div", "Where"} - {"Identity", "SwiGLU"}
_MOVERS = {"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Flatten"}
_FLOATS = {ir.DataType.FLOAT, ir.DataType.DOUBLE}


@dataclass(frozen=True, slots=True)
class Product:
    """A product over windows: ``frames`` windows of ``taps`` frames and ``into`` channels give ``out`` channels each.

    The windows are ``step`` frames apart, their taps ``dilation``; ``up`` frames come of each (of ``out/up`` channels).
    """

    op: str
    frames: int
    taps: int
    into: int
    out: int
    step: int = 1
    dilation: int = 1
    up: int = 1


@dataclass(frozen=True, slots=True)
class Form:
    """A node in row form: which wires it reads so, which it makes, and how. ``product`` where that is worth something,
    ``saves`` the microseconds any other costs more as it is."""

    reads: tuple[ir.Value, ...]
    makes: tuple[tuple[ir.Value, RowView], ...]
    build: Callable[[Rows, list[ir.Value]], list[ir.Value]]
    product: Product | None = None
    saves: float = 0.0


def row_form(g: Graph, node: ir.Node) -> Form | None:
    """The row form of a node, or None."""
    if node.domain == DOMAIN:
        return {"Delay": _delay, "Mask": _mask}.get(node.op_type, _none)(g, node)
    if node.domain:
        return None
    if node.op_type in POINTWISE:
        return _pointwise(g, node)
    if node.op_type in _MOVERS:
        return _mover(g, node)
    return {
        "Conv": _conv, "ConvTranspose": _conv_transpose, "MatMul": _matmul, "Concat": _concat, "Split": _split, "Slice": _slice,
        "Softmax": _along_channels, "LogSoftmax": _along_channels, "LayerNormalization": _along_channels,
    }.get(node.op_type, _none)(g, node)  # fmt: skip


def _none(g: Graph, node: ir.Node) -> None:
    return None


def _array(v: ir.Value | None) -> np.ndarray | None:
    return None if v is None or v.const_value is None else np.asarray(v.const_value.numpy())


def _one(g: Graph, node: ir.Node) -> tuple[RowView, RowView] | None:
    """Views of the first input and the only output."""
    x, y = row_view(g, node.inputs[0]), row_view(g, node.outputs[0])
    if x is None or y is None or any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        return None
    return x, y


def _same_frames(x: RowView, y: RowView) -> bool:
    return x.frames == y.frames and (x.batch is None) == (y.batch is None)


def _attributes(node: ir.Node) -> dict[str, Any]:
    return {a.name: a for a in node.attributes.values()}


def _mover(g: Graph, node: ir.Node) -> Form | None:
    """Axes that move or appear: nothing at all in row form."""
    views = _one(g, node)
    if views is None:
        return None
    x, y = views
    if not _same_frames(x, y) or x.channels != y.channels:
        return None
    if node.op_type in ("Reshape", "Flatten") and x.layout != y.layout:
        return None  # it reads the data in another order
    source = node.inputs[0]
    assert source is not None
    return Form((source,), ((node.outputs[0], y),), lambda rows, ins: ins)


def is_mover(g: Graph, node: ir.Node) -> bool:
    """Whether a node does nothing but place the axes of a wire otherwise."""
    return node.op_type in _MOVERS and not node.domain and _mover(g, node) is not None


def _pointwise(g: Graph, node: ir.Node) -> Form | None:
    """Operands line up from the right; in row form there are time and channels alone."""
    y = row_view(g, node.outputs[0])
    if y is None or len(node.outputs) != 1:
        return None
    reads: list[ir.Value] = []
    fixed: dict[int, np.ndarray] = {}
    for k, v in enumerate(node.inputs):
        if v is None:
            continue
        constant = _array(v)
        if constant is not None:
            made = _broadcast(constant, y, node.op_type == "Clip")
            if made is None:
                return None
            fixed[k] = made
            continue
        x = row_view(g, v)
        if x is None or not _same_frames(x, y):
            return None
        shift = y.rank - x.rank
        if x.time + shift != y.time or (x.batch is not None and x.batch + shift != y.batch):
            return None
        if x.channels > 1 and (x.channel is None or y.channel is None or x.channel + shift != y.channel):
            return None
        reads.append(v)
    if not reads:
        return None

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        given = iter(ins)
        operands: list[ir.Value | None] = []
        for k, v in enumerate(node.inputs):
            if k in fixed:
                dtype = g.facts[v].dtype.numpy()  # type: ignore[index]
                operands.append(rows.const(fixed[k], dtype, "factor") if fixed[k].size < 64 else rows.weight(fixed[k], f"{node.outputs[0].name}.factor"))
            else:
                operands.append(None if v is None else next(given))
        return rows.node(node.op_type, operands, node.outputs[0].name or "", **_attributes(node))

    return Form(tuple(reads), ((node.outputs[0], y),), build)


def _broadcast(a: np.ndarray, y: RowView, scalar: bool) -> np.ndarray | None:
    """A constant operand in row form; None if it differs along time or batch."""
    if a.size == 1:
        return a.reshape(())
    if scalar or y.channel is None or a.ndim > y.rank:
        return None
    at = y.channel - (y.rank - a.ndim)
    if at < 0 or a.shape[at] != a.size:
        return None
    return a.reshape(-1)


def _delay(g: Graph, node: ir.Node) -> Form | None:
    source, lasts = node.inputs[0], node.attributes.get_ints("last", ())
    x, streams = row_view(g, source), node.outputs[: len(node.outputs) - len(lasts)]
    views = [row_view(g, v) for v in streams]
    if x is None or source is None or not views or any(v is None for v in views) or node.attributes.get_int("axis") != x.time:
        return None
    first = node.inputs[1] if len(node.inputs) > 1 else None
    if first is not None and not _static_rows(g, first, x):
        return None

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        init = node.attributes.get("init")
        changed: dict[str, Any] = {"axis": x.axis}
        if init is not None:
            changed["init"] = ir.AttrTensor("init", ir.tensor(_rows_of(np.asarray(init.as_tensor().numpy()), x)))
        if first is not None:
            ins = [*ins, rows.static(first, x)]
        made = rows.pseudo("Delay", ins, f"{source.name}.rows.delay", len(node.outputs), **{**_attributes(node), **changed})
        for count, old, wire in zip(lasts, node.outputs[len(views) :], made[len(views) :], strict=True):
            rows.leave(wire, old, replace(x, frames=count))
        slot = rows.slots[node.name or ""]
        new = made[0].producer()
        assert new is not None
        new.name = node.name
        history = slot.state.shape[x.time]
        shape: tuple[int | str, ...] = (history, x.channels)
        if x.batch is not None:
            shape = (g.batch or "", *shape)
        slot.state = replace(slot.state, shape=shape, axis=x.axis, batch_axis=None if x.batch is None else 0)
        return made[: len(views)]

    return Form((source,), tuple(zip(streams, views)), build)  # type: ignore[arg-type]


def _static_rows(g: Graph, v: ir.Value, x: RowView) -> bool:
    """Whether static frames lie like those of a stream."""
    shape = g.facts[v].shape
    return shape is not None and len(shape) == x.rank and all(
        a in (x.time, x.batch) or d == (x.channels if a == x.channel else 1) for a, d in enumerate(shape)
    )


def _rows_of(a: np.ndarray, x: RowView) -> np.ndarray:
    """An array with the axes of a wire, in row form."""
    rest = [k for k in range(x.rank) if k not in x.order]
    a = a.transpose([*x.order, *rest])
    return a.reshape(*(() if x.batch is None else (a.shape[0],)), -1, x.channels)


def _mask(g: Graph, node: ir.Node) -> Form | None:
    views = _one(g, node)
    value = node.attributes.get_tensor("value")
    if views is None or value.size != 1 or node.attributes.get_int("axis") != views[0].time:
        return None
    x, y = views

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        return rows.pseudo("Mask", ins, node.outputs[0].name or "", **{**_attributes(node), "axis": x.axis})

    return Form((node.inputs[0],), ((node.outputs[0], y),), build)  # type: ignore[arg-type]


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
    """Views, constant weight and bias of a convolution that mixes all channels, and which of its axes is time."""
    views = _one(g, node)
    weight, bias = _array(node.inputs[1]), _array(node.inputs[2]) if len(node.inputs) > 2 else None
    if views is None or weight is None or g.facts[node.outputs[0]].dtype not in _FLOATS:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and bias is None:
        return None
    x, y = views
    at = x.time - 2
    if at < 0 or node.attributes.get_int("group", 1) != 1 or x.channel not in (None, 1) or y.channel not in (None, 1):
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
    if prod(weight.shape[2:]) != weight.shape[2 + at] or weight.shape[:2] != (y.channels, x.channels):
        return None
    taps = weight.shape[2 + at]
    step = (a.get_ints("strides", None) or (1,) * (weight.ndim - 2))[at]
    dilation = (a.get_ints("dilations", None) or (1,) * (weight.ndim - 2))[at]
    matrix = np.ascontiguousarray(weight.reshape(y.channels, x.channels, taps).transpose(2, 1, 0).reshape(taps * x.channels, -1))
    source, name = node.inputs[0], node.outputs[0].name or ""
    assert source is not None

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        windows = _taps(rows, ins[0], x, y.frames, taps, step, dilation, f"{name}.taps")
        return [_times(rows, windows, matrix, bias, x.batch is not None, name)]

    return Form((source,), ((node.outputs[0], y),), build, Product("Conv", y.frames, taps, x.channels, y.channels, step, dilation))


def _conv_transpose(g: Graph, node: ir.Node) -> Form | None:
    found = _along_time(g, node)
    if found is None:
        return None
    x, y, weight, bias, at = found
    a = node.attributes
    if prod(weight.shape[2:]) != weight.shape[2 + at] or weight.shape[:2] != (x.channels, y.channels):
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
    source, name = node.inputs[0], node.outputs[0].name or ""
    assert source is not None

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        windows = _taps(rows, ins[0], x, blocks, span, 1, 1, f"{name}.taps")
        wide = _times(rows, windows, flat, None if bias is None else np.tile(bias, up), x.batch is not None, f"{name}.blocks")
        rows._loose(wide, source)
        shape = [*([] if x.batch is None else [-1]), y.frames, y.channels]
        return rows.node("Reshape", [wide, rows.const(shape)], name)

    return Form((source,), ((node.outputs[0], y),), build, Product("ConvTranspose", blocks, span, x.channels, up * y.channels, up=up))


def _matmul(g: Graph, node: ir.Node) -> Form | None:
    """Frames times a matrix."""
    views = _one(g, node)
    weight = _array(node.inputs[1])
    if views is None or weight is None or weight.ndim != 2 or g.facts[node.outputs[0]].dtype not in _FLOATS:
        return None
    x, y = views
    if x.rank < 2 or not _same_frames(x, y) or x.time == x.rank - 1 or x.channel not in (None, x.rank - 1) or y.channel not in (None, y.rank - 1):
        return None
    if weight.shape != (x.channels, y.channels):
        return None
    source, matrix, name = node.inputs[0], node.inputs[1], node.outputs[0].name or ""
    assert source is not None and matrix is not None
    op = "Gemm" if x.batch is None else "MatMul"
    # A runtime brings the frames of a product with a bias into rows, and back, by itself: two nodes.
    saves = 2 * NODE if x.batch is None and x.rank > 2 else 0.0
    return Form((source,), ((node.outputs[0], y),), lambda rows, ins: rows.node(op, [ins[0], matrix], name), saves=saves)


def _concat(g: Graph, node: ir.Node) -> Form | None:
    """Channels beside channels."""
    y = row_view(g, node.outputs[0])
    views = [row_view(g, v) for v in node.inputs]
    if y is None or y.channel is None or node.attributes.get_int("axis") % y.rank != y.channel:
        return None
    if any(x is None or not _same_frames(x, y) or x.rank != y.rank or x.time != y.time or x.batch != y.batch for x in views):
        return None
    name = node.outputs[0].name or ""
    return Form(
        tuple(v for v in node.inputs if v is not None), ((node.outputs[0], y),),
        lambda rows, ins: rows.node("Concat", ins, name, axis=y.axis + 1),
    )  # fmt: skip


def _split(g: Graph, node: ir.Node) -> Form | None:
    """Channels apart."""
    x = row_view(g, node.inputs[0])
    views = [row_view(g, v) for v in node.outputs]
    if x is None or x.channel is None or node.attributes.get_int("axis", 0) % x.rank != x.channel:
        return None
    if any(y is None or not _same_frames(x, y) for y in views) or (len(node.inputs) > 1 and _array(node.inputs[1]) is None):
        return None
    rest, name = list(node.inputs[1:]), node.outputs[0].name or ""

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        return rows.node("Split", [ins[0], *rest], name, len(node.outputs), **{**_attributes(node), "axis": x.axis + 1})

    return Form((node.inputs[0],), tuple(zip(node.outputs, views)), build)  # type: ignore[arg-type]


def _slice(g: Graph, node: ir.Node) -> Form | None:
    """Some of the channels."""
    views = _one(g, node)
    bounds = [_array(v) for v in node.inputs[1:]]
    if views is None or len(bounds) < 3 or any(b is None or b.size != 1 for b in bounds):
        return None
    x, y = views
    if x.channel is None or not _same_frames(x, y) or bounds[2].item() % x.rank != x.channel:  # type: ignore[union-attr]
        return None
    source, name = node.inputs[0], node.outputs[0].name or ""
    assert source is not None

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        first, last, _, *step = node.inputs[1:]
        return rows.node("Slice", [ins[0], first, last, rows.const([x.axis + 1]), *step], name)

    return Form((source,), ((node.outputs[0], y),), build)


def _along_channels(g: Graph, node: ir.Node) -> Form | None:
    """What works along the channels of one frame."""
    views = _one(g, node)
    if views is None or not _same_frames(*views):
        return None
    x, y = views
    axis = node.attributes.get_int("axis", -1) % x.rank
    if x.channel != axis or y.channel != axis or (node.op_type == "LayerNormalization" and axis != x.rank - 1):
        return None
    rest: Sequence[ir.Value | None] = node.inputs[1:]
    if any(v is not None and (_array(v) is None or v.const_value.size not in (1, x.channels)) for v in rest):  # type: ignore[union-attr]
        return None
    name = node.outputs[0].name or ""
    return Form(
        (node.inputs[0],), ((node.outputs[0], y),),  # type: ignore[arg-type]
        lambda rows, ins: rows.node(node.op_type, [ins[0], *rest], name, **{**_attributes(node), "axis": -1}),
    )  # fmt: skip
