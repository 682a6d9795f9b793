"""Which nodes work on rows, whatever axes are in front of their last one, and how they are written over a matrix.

A wire ``[a, b, .., C]`` holds the rows of a matrix ``[a*b*.., C]``. A node has a flat form if each row of what it makes depends on
the same row of what it reads alone, and constants are the same for all rows: products, elementwise operators, whatever joins,
cuts, sums up or normalises the last axis. A Split into single rows, ``[N, n, C]`` into n of ``[N, 1, C]``, cuts a matrix ``[N, n*C]``;
a mask of a single frame lets recordings through, or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pulsify.dim import sym
from pulsify.facts import WireFact
from pulsify.graph import DOMAIN, Graph, tensor
from pulsify.rewrites._held import Shape, axis_of, parts_of, sizes
from pulsify.rewrites._row_form import FLOATS, array, attributes
from pulsify.rewrites._row_ops import POINTWISE, REDUCE
from pulsify.rewrites._rows import Rows

__all__ = ["Flat", "flat_forms"]


@dataclass(frozen=True, slots=True)
class Flat:
    """A node over matrices: which wires it reads so, and how it is built of them. It makes all its outputs."""

    reads: tuple[ir.Value, ...]
    build: Callable[[Rows, list[ir.Value]], list[ir.Value]]
    #: Whether it cuts a wire that is read as it is into single rows.
    unstacks: bool = False


def flat_forms(g: Graph, shapes: dict[ir.Value, Shape]) -> dict[ir.Node, Flat]:
    """The nodes that have a flat form, in graph order."""
    forms: dict[ir.Node, Flat] = {}
    for node in g.graph:
        made = [shapes.get(v) for v in node.outputs if v.uses() or v.is_graph_output()]
        if made and all(s is not None and sizes(s[:-1]) is not None for s in made):
            form = _form(g, node, shapes)
            if form is not None:
                forms[node] = form
    return {n: f for n, f in forms.items() if not f.unstacks or all(user in forms for v in n.outputs for user, _ in v.uses())}


def _form(g: Graph, node: ir.Node, shapes: dict[ir.Value, Shape]) -> Flat | None:
    if node.domain:
        return _mask(g, node, shapes) if (node.domain, node.op_type) == (DOMAIN, "Mask") else None
    if node.op_type == "MatMul":
        return _product(g, node, shapes)
    if node.op_type in POINTWISE:
        return _pointwise(node, shapes)
    x = node.inputs[0] if node.inputs else None
    shape = None if x is None else shapes.get(x)
    if shape is None:
        return None
    rank = len(shape)
    if node.op_type in ("Softmax", "LogSoftmax", "LayerNormalization"):
        if axis_of(node, rank, -1) != rank - 1 or any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
            return None
        if any(v is not None and len(g.facts[v].shape or (0, 0)) > 1 for v in node.inputs[1:]):
            return None  # scale and bias line up with all axes
        return _same(node, (x,), axis=-1)
    if node.op_type in REDUCE:
        axes = array(node.inputs[1]) if len(node.inputs) > 1 else None
        if axes is None or axes.size != 1 or int(axes.reshape(-1)[0]) % rank != rank - 1 or not node.attributes.get_int("keepdims", 1):
            return None
        return _same(node, (x,), {1: [1]})
    if node.op_type == "Concat":
        shaped = [shapes.get(v) for v in node.inputs if v is not None]
        if axis_of(node, rank) != rank - 1 or any(s is None or len(s) != rank for s in shaped):
            return None
        return _same(node, tuple(node.inputs), axis=1)
    if node.op_type == "Split" and parts_of(node, shape[axis_of(node, rank)]) is not None:
        return _same(node, (x,), axis=1) if axis_of(node, rank) == rank - 1 else _unstack(node, shape)
    if node.op_type == "Slice":
        given = [array(v) for v in node.inputs[1:]]
        if any(a is None for a in given) or len(given) < 3 or [int(a) % rank for a in given[2].reshape(-1)] != [rank - 1]:  # type: ignore[union-attr]
            return None
        return _same(node, (x,), {3: [1]})
    return None


def _same(node: ir.Node, reads: tuple[ir.Value | None, ...], constants: dict[int, list[int]] | None = None, **changed: int) -> Flat:
    """The same operator, some of its constants and attributes others; ``reads`` are its first inputs."""
    wires = tuple(v for v in reads if v is not None)

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        rest = [rows.const((constants or {})[k]) if k in (constants or {}) else v for k, v in enumerate(node.inputs)]
        given = {**attributes(node), **changed}
        return rows.node(node.op_type, [*ins, *rest[len(ins) :]], f"{node.outputs[0].name}.flat", len(node.outputs), **given)

    return Flat(wires, build)


def _product(g: Graph, node: ir.Node, shapes: dict[ir.Value, Shape]) -> Flat | None:
    x, weight = node.inputs[0], array(node.inputs[1])
    if x is None or x not in shapes or weight is None or weight.ndim != 2 or g.facts[x].dtype not in FLOATS:
        return None
    return Flat((x,), lambda rows, ins: rows.node("Gemm", [ins[0], node.inputs[1]], f"{node.outputs[0].name}.flat"))


def _pointwise(node: ir.Node, shapes: dict[ir.Value, Shape]) -> Flat | None:
    """Operands have the same rows, or are one number or one per column."""
    shape = shapes[node.outputs[0]]
    wires = [v for v in node.inputs if v is not None and v.const_value is None]
    if not wires or len(node.outputs) != 1:
        return None
    for wire in wires:
        s = shapes.get(wire)
        if s is None or len(s) != len(shape) or s[-1] not in (1, shape[-1]):
            return None
        if len(set(wires)) > 1 and (None in s or s[:-1] != shape[:-1]):
            return None
    fixed: dict[int, np.ndarray] = {}
    for k, v in enumerate(node.inputs):
        if v is not None and v.const_value is not None:
            a = array(v)
            if a is None or a.ndim > len(shape) or (a.size > 1 and (a.shape[-1] != a.size or a.size != shape[-1])):
                return None
            fixed[k] = a.reshape(()) if a.size == 1 else a.reshape(-1)

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        given = iter(ins)
        operands: list[ir.Value | None] = []
        for k, v in enumerate(node.inputs):
            if v is None or k not in fixed:
                operands.append(None if v is None else next(given))
            elif fixed[k].shape == tuple(v.const_value.shape):  # type: ignore[union-attr]
                operands.append(v)
            else:
                operands.append(rows.const(fixed[k], fixed[k].dtype, "factor"))
        return rows.node(node.op_type, operands, f"{node.outputs[0].name}.flat", **attributes(node))

    return Flat(tuple(wires), build)


def _unstack(node: ir.Node, shape: Shape) -> Flat | None:
    if len(shape) != 3 or axis_of(node, 3) != 1 or shape[1] != len(node.outputs) or set(parts_of(node, shape[1]) or ()) != {1}:
        return None
    count, width = len(node.outputs), shape[2]
    assert isinstance(width, int)

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        x = node.inputs[0]
        assert x is not None
        (row,) = rows.node("Reshape", [x, rows.const([-1, width * count])], f"{x.name}.row")
        rows._loose(row, x)
        each = rows.const([width] * count, stem="columns")
        return rows.node("Split", [row, each], f"{node.outputs[0].name}.flat", count, axis=1)

    return Flat((), build, unstacks=True)


def _mask(g: Graph, node: ir.Node, shapes: dict[ir.Value, Shape]) -> Flat | None:
    x = node.inputs[0]
    if x is None or g.batch is None or len(node.inputs) != 1 or node.attributes.get_int("axis") != 1 or tensor(node, "value").size != 1:
        return None
    shape = shapes.get(x)
    if shape is None or len(shape) != 3 or shape[0] != sym(g.batch) or shape[1] != 1:
        return None
    dtype, width = g.facts[x].dtype, shape[2]
    assert isinstance(width, int)

    def build(rows: Rows, ins: list[ir.Value]) -> list[ir.Value]:
        g.facts[ins[0]] = WireFact(dtype, (sym(g.batch or ""), width))
        out = rows.pseudo("Mask", ins, f"{node.outputs[0].name}.flat", **attributes(node))
        g.facts[out[0]] = g.facts[ins[0]]
        return out

    return Flat((x,), build)
