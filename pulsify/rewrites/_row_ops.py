"""How each operator is written in row form (see _rows.py). One function per family, products in _row_products.py; None
where there is no such form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.graph import DOMAIN, Graph, tensor
from pulsify.ops.elementwise import BINARY, COMPARE, UNARY
from pulsify.rewrites._affine import affine
from pulsify.rewrites._row_form import FLOATS, Form, array, attributes, one, same_frames
from pulsify.rewrites._row_products import PRODUCTS
from pulsify.rewrites._rows import Rows, RowView, row_view

__all__ = ["POINTWISE", "REDUCE", "is_mover", "row_form"]

POINTWISE = {*UNARY.split(), *BINARY.split(), *COMPARE.split(), "Cast", "Clip", "Div", "Where"} - {"Identity", "SwiGLU"}
REDUCE = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2")
_MOVERS = {"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Flatten"}


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
    if node.op_type in PRODUCTS:
        return PRODUCTS[node.op_type](g, node)
    return {
        "Concat": _concat, "Split": _split, "Slice": _slice,
        "Softmax": _along_channels, "LogSoftmax": _along_channels, "LayerNormalization": _along_channels,
        "BatchNormalization": _batch_norm, **dict.fromkeys(REDUCE, _reduce),
    }.get(node.op_type, _none)(g, node)  # fmt: skip


def _none(g: Graph, node: ir.Node) -> None:
    return None


def _mover(g: Graph, node: ir.Node) -> Form | None:
    """Axes that move or appear: nothing at all in row form."""
    views = one(g, node)
    if views is None:
        return None
    x, y = views
    if not same_frames(x, y) or x.channels != y.channels:
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
        constant = array(v)
        if constant is not None:
            made = _broadcast(constant, y, node.op_type == "Clip")
            if made is None:
                return None
            fixed[k] = made
            continue
        x = row_view(g, v)
        if x is None or not same_frames(x, y):
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
        return rows.node(node.op_type, operands, node.outputs[0].name or "", **attributes(node))

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
        made = rows.pseudo("Delay", ins, f"{source.name}.rows.delay", len(node.outputs), **{**attributes(node), **changed})
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
    views = one(g, node)
    value = tensor(node, "value")
    if views is None or value.size != 1 or node.attributes.get_int("axis") != views[0].time:
        return None
    x, y = views

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        return rows.pseudo("Mask", ins, node.outputs[0].name or "", **{**attributes(node), "axis": x.axis})

    return Form((node.inputs[0],), ((node.outputs[0], y),), build)  # type: ignore[arg-type]


def _concat(g: Graph, node: ir.Node) -> Form | None:
    """Channels beside channels."""
    y = row_view(g, node.outputs[0])
    views = [row_view(g, v) for v in node.inputs]
    if y is None or y.channel is None or node.attributes.get_int("axis") % y.rank != y.channel:
        return None
    if any(x is None or not same_frames(x, y) or x.rank != y.rank or x.time != y.time or x.batch != y.batch for x in views):
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
    if any(y is None or not same_frames(x, y) for y in views) or (len(node.inputs) > 1 and array(node.inputs[1]) is None):
        return None
    rest, name = list(node.inputs[1:]), node.outputs[0].name or ""

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        return rows.node("Split", [ins[0], *rest], name, len(node.outputs), **{**attributes(node), "axis": x.axis + 1})

    return Form((node.inputs[0],), tuple(zip(node.outputs, views)), build)  # type: ignore[arg-type]


def _slice(g: Graph, node: ir.Node) -> Form | None:
    """Some of the channels."""
    views = one(g, node)
    bounds = [array(v) for v in node.inputs[1:]]
    if views is None or len(bounds) < 3 or any(b is None or b.size != 1 for b in bounds):
        return None
    x, y = views
    if x.channel is None or not same_frames(x, y) or bounds[2].item() % x.rank != x.channel:  # type: ignore[union-attr]
        return None
    source, name = node.inputs[0], node.outputs[0].name or ""
    assert source is not None

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        first, last, _, *step = node.inputs[1:]
        return rows.node("Slice", [ins[0], first, last, rows.const([x.axis + 1]), *step], name)

    return Form((source,), ((node.outputs[0], y),), build)


def _along_channels(g: Graph, node: ir.Node) -> Form | None:
    """What works along the channels of one frame."""
    views = one(g, node)
    if views is None or not same_frames(*views):
        return None
    x, y = views
    axis = node.attributes.get_int("axis", -1) % x.rank
    if x.channel != axis or y.channel != axis or (node.op_type == "LayerNormalization" and axis != x.rank - 1):
        return None
    rest: Sequence[ir.Value | None] = node.inputs[1:]
    if any(v is not None and (array(v) is None or v.const_value.size not in (1, x.channels)) for v in rest):  # type: ignore[union-attr]
        return None
    name = node.outputs[0].name or ""

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        # A row has fewer axes than a frame may have had: a number per channel has one.
        flat = [v if (a := array(v)) is None or a.ndim < 2 else rows.weight(a.reshape(-1), f"{v.name}.flat") for v in rest]  # type: ignore[union-attr]
        return rows.node(node.op_type, [ins[0], *flat], name, **{**attributes(node), "axis": -1})

    return Form((node.inputs[0],), ((node.outputs[0], y),), build)  # type: ignore[arg-type]


def _reduce(g: Graph, node: ir.Node) -> Form | None:
    """A number per frame of its channels."""
    views = one(g, node)
    if views is None or not same_frames(*views):
        return None
    x, y = views
    told = node.attributes.get_ints("axes", None) or (array(node.inputs[1]) if len(node.inputs) > 1 else None)
    if told is None or x.channel is None or not node.attributes.get_int("keepdims", 1):
        return None
    axes = {int(a) % x.rank for a in told}
    if x.channel not in axes or axes & {x.time, x.batch} or y.rank != x.rank:
        return None
    source, name = node.inputs[0], node.outputs[0].name or ""
    over: dict[str, Any] = {} if len(node.inputs) > 1 else {"axes": [x.axis + 1]}

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        return rows.node(node.op_type, [ins[0], *([] if over else [rows.const([x.axis + 1])])], name, **over)

    return Form((source,), ((node.outputs[0], y),), build)  # type: ignore[arg-type]


def _batch_norm(g: Graph, node: ir.Node) -> Form | None:
    """A scale and a shift per channel: with a frame a row, frames are its batch."""
    views = one(g, node)
    found = None if views is None else affine(node, views[0].rank)
    dtype = g.facts[node.outputs[0]].dtype
    if views is None or found is None or views[0].channel != 1 or found.scale.size != views[0].channels or dtype not in FLOATS:
        return None
    x, y = views
    name, scale, shift = node.outputs[0].name or "", found.scale.astype(dtype.numpy()), found.shift.astype(dtype.numpy())

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        if x.batch is None:
            return rows.node(node.op_type, [ins[0], *node.inputs[1:]], name, **attributes(node))
        (scaled,) = rows.node("Mul", [ins[0], rows.weight(scale, f"{name}.scale")], f"{name}.scaled")
        rows.declare(scaled, dtype, y, y.channels)
        return rows.node("Add", [scaled, rows.weight(shift, f"{name}.shift")], name)

    return Form((found.source,), ((node.outputs[0], y),), build)
