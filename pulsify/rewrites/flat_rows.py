"""Rows of all recordings, of one pulse or several axes, as one matrix: ``[N, n, C]`` as ``[N*n, C]``.

Over three axes a product is a MatMul, its bias an Add and its activation a node of its own; over a matrix all of it is one Gemm.
Nodes that work row by row (_flat.py) are written over matrices, as far as they hang together and the biases and activations saved are
worth more than the Reshapes where wires enter and leave. With one frame per pulse a window is joined of columns, too.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.graph import Graph, sort
from pulsify.rewrites._costs import NODE
from pulsify.rewrites._flat import Flat, flat_forms
from pulsify.rewrites._held import Shape, held, sizes
from pulsify.rewrites._row_form import ACTIVATIONS, array, reader
from pulsify.rewrites._rows import Rows

__all__ = ["apply"]

#: What a bias, or an activation, by itself costs beside a Reshape.
_SAVED = 2 * NODE


def apply(g: Graph) -> int:
    shapes = held(g)
    forms = flat_forms(g, shapes)
    chosen = {n for part in _parts(forms) if _gain(part, forms, shapes) > 0 for n in part}
    if chosen:
        _Flatten(g, shapes, {n: f for n, f in forms.items() if n in chosen}).run()
        sort(g.graph)
    return len(chosen)


def _parts(forms: dict[ir.Node, Flat]) -> list[set[ir.Node]]:
    """Nodes connected by matrices."""
    part_of: dict[ir.Node, int] = {}
    parts: dict[int, set[ir.Node]] = {}
    for k, (node, form) in enumerate(forms.items()):
        part_of[node], parts[k] = k, {node}
        for v in form.reads:
            maker = v.producer()
            if maker in part_of and part_of[maker] != part_of[node]:
                small, large = sorted((part_of[maker], part_of[node]), key=lambda p: len(parts[p]))
                part_of.update(dict.fromkeys(parts[small], large))
                parts[large] |= parts.pop(small)
    return list(parts.values())


def _gain(part: set[ir.Node], forms: dict[ir.Node, Flat], shapes: dict[ir.Value, Shape]) -> float:
    """Microseconds that biases and activations cost by themselves, less what Reshapes at the border do."""
    gain = 0.0
    for node in part:
        if node.op_type == "MatMul":
            added = _addend(node, part, shapes)
            behind = reader(node.outputs[0] if added is None else added[0].outputs[0])
            gain += _SAVED * ((added is not None) + (behind in part and behind.op_type in ACTIVATIONS))  # type: ignore[union-attr]
    entering = {v for node in part for v in forms[node].reads if v.producer() not in part}
    gain -= NODE * sum(not _is_shaped(v) for v in entering)
    stacked: dict[ir.Node, int] = {}
    for node in part:
        gain -= NODE * (forms[node].unstacks and not _is_shaped(node.inputs[0]))
        for v in node.outputs:
            outside = [user for user, _ in v.uses() if user not in part or v not in forms[user].reads]
            if len(outside) == 1 and outside[0].op_type == "Concat" and not v.is_graph_output():
                stacked[outside[0]] = stacked.get(outside[0], 0) + 1
            elif v.is_graph_output() or any(user.op_type != "Reshape" for user in outside):
                gain -= NODE
    return gain - NODE * sum(min(n, 2) for n in stacked.values())


def _is_shaped(v: ir.Value | None) -> bool:
    """Whether a wire comes out of a Reshape, that might tell another shape."""
    maker = None if v is None else v.producer()
    return maker is not None and maker.op_type == "Reshape" and not maker.domain


def _addend(node: ir.Node, part: set[ir.Node] | dict[ir.Node, Flat], shapes: dict[ir.Value, Shape]) -> tuple[ir.Node, ir.Value] | None:
    """The Add behind a product, and what it adds: a number per column, or a wire of the same rows."""
    out, weight = node.outputs[0], array(node.inputs[1])
    add = reader(out)
    if add is None or add not in part or add.op_type != "Add" or weight is None:
        return None
    other = next((v for v in add.inputs if v is not None and v is not out), None)
    bias = array(other)
    if other is None or (bias is None and shapes.get(other) != shapes.get(out)):
        return None
    return (add, other) if bias is None or (bias.ndim and bias.shape[-1] == bias.size == weight.shape[1]) else None


class _Flatten:
    def __init__(self, g: Graph, shapes: dict[ir.Value, Shape], forms: dict[ir.Node, Flat]):
        self.g, self.shapes, self.forms, self.rows = g, shapes, forms, Rows(g)
        #: The matrix of a wire.
        self.flat: dict[ir.Value, ir.Value] = {}
        #: The product an Add is part of, and what it adds.
        self.addends: dict[ir.Node, tuple[ir.Node, ir.Value]] = {}

    def run(self) -> None:
        g, rows = self.g, self.rows
        for node, form in self.forms.items():
            rows.build.before = node
            added = _addend(node, self.forms, self.shapes) if node.op_type == "MatMul" else None
            if added is not None and added[0] not in self.addends:
                self.addends[added[0]] = node, added[1]
                continue
            made = self._plus(node) if node in self.addends else form.build(rows, [self._matrix(v) for v in form.reads])
            for old, new in zip(node.outputs, made, strict=True):
                if old in g.facts and new not in g.facts:
                    rows._loose(new, old)
                self.flat[old] = new
        for node in list(g.graph):
            if node.op_type == "Concat" and not node.domain and node not in self.forms:
                self._stack(node)
        for node in reversed(self.forms):
            rows.build.before = node
            for v in node.outputs:
                self._leave(v)
                g.forget(v)
            g.graph.remove(node, safe=True)
        for v in self.flat:
            maker = v.producer()
            if _is_shaped(v) and maker.graph is not None and not v.uses() and not v.is_graph_output():  # type: ignore[union-attr]
                g.forget(v)
                g.graph.remove(maker, safe=True)  # type: ignore[arg-type]

    def _plus(self, add: ir.Node) -> list[ir.Value]:
        product, other = self.addends[add]
        x, bias = product.inputs[0], array(other)
        assert x is not None
        if bias is None:
            other = self._matrix(other)
        elif bias.ndim > 1:
            other = self.rows.weight(bias.reshape(-1), f"{other.name}.flat")
        return self.rows.node("Gemm", [self._matrix(x), product.inputs[1], other], f"{add.outputs[0].name}.flat")

    def _matrix(self, v: ir.Value) -> ir.Value:
        if v not in self.flat:
            source = v.producer().inputs[0] if _is_shaped(v) else v  # type: ignore[union-attr]
            (self.flat[v],) = self.rows.node("Reshape", [source, self.rows.const([-1, self.shapes[v][-1]])], f"{v.name}.flat")  # type: ignore[list-item]
            self.rows._loose(self.flat[v], v)
        return self.flat[v]

    def _stack(self, node: ir.Node) -> None:
        """Single rows that a Concat puts under each other are put beside each other, and shaped once."""
        rows, ins = self.rows, list(node.inputs)
        single = [self._is_single(v, node) for v in ins]
        parts: list[ir.Value | None] = []
        at = 0
        rows.build.before = node
        while at < len(ins):
            end = at
            while end < len(ins) and single[end]:
                end += 1
            if end - at < 2:
                parts.append(ins[at])
                at += 1
                continue
            width = self.shapes[ins[at]][-1]  # type: ignore[index]
            (row,) = rows.node("Concat", [self.flat[v] for v in ins[at:end]], f"{node.outputs[0].name}.row", axis=1)  # type: ignore[index]
            (under,) = rows.node("Reshape", [row, rows.const([-1, end - at, width])], f"{node.outputs[0].name}.rows")  # type: ignore[list-item]
            for new in (row, under):
                rows._loose(new, node.outputs[0])
            parts.append(under)
            at = end
        if len(parts) < len(ins):
            node.resize_inputs(len(parts))
            for k, v in enumerate(parts):
                node.replace_input_with(k, v)

    def _is_single(self, v: ir.Value | None, node: ir.Node) -> bool:
        """Whether there is a matrix of a wire of which a Concat of rows reads ``[N, 1, C]``."""
        shape = None if v is None else self.shapes.get(v)
        return v in self.flat and shape is not None and len(shape) == 3 and shape[1] == 1 and node.attributes.get_int("axis") == 1  # type: ignore[union-attr]

    def _leave(self, old: ir.Value) -> None:
        """Whoever is outside reads the wire as it was."""
        rows = self.rows
        if not old.uses() and not old.is_graph_output():
            return
        target = sizes(self.shapes[old])
        assert target is not None
        (out,) = rows.node("Reshape", [self.flat[old], rows.const(target)], f"{old.name}.frames")
        rows.replace(old, out)
