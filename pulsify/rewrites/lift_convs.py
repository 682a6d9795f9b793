"""Convolutions over time with an axis of length 1 beside it: ``[N, C, n]`` as ``[N, C, 1, n]``, kernel ``[1, K]``.

Runtimes have blocked convolutions (channels in blocks of a vector register) for pictures and not for signals. A depthwise
convolution over time costs 3 to 15 times one over such a picture; others gain where few channels meet many frames (costs.json,
measured by ``benchmarks.costs``). What lies between such convolutions is lifted with them, so that activations stay with the
convolution they follow and histories need no reshaping:

    f(Squeeze(x)) = Squeeze(f(x))    f element by element, or along time or channels
    Unsqueeze(Squeeze(x)) = x
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.facts import WireFact
from pulsify.graph import DOMAIN, Graph, sort
from pulsify.rewrites._costs import lifts
from pulsify.rewrites._row_ops import POINTWISE, row_form
from pulsify.rewrites._rows import Rows

__all__ = ["apply", "convert", "intend", "intended", "liftable"]

#: Depthwise convolutions are done this many channels at a time.
_CHANNELS = 4


#: What marks a node that is to be lifted with all around it.
_INTENDED = "pulsify.lift"


def apply(g: Graph) -> int:
    chosen = [node for node in g.graph if liftable(g, node) and (intended(node) or _pays(g, node))]
    convert(g, chosen)
    return len(chosen)


def intend(nodes: Iterable[ir.Node]) -> None:
    """:func:`apply` will lift these convolutions."""
    for node in nodes:
        node.meta[_INTENDED] = True


def intended(node: ir.Node) -> bool:
    return bool(node.meta.get(_INTENDED))


def liftable(g: Graph, node: ir.Node) -> bool:
    """Whether a node is a convolution over time alone with constant weights."""
    if node.op_type != "Conv" or node.domain:
        return False
    x, w = node.inputs[:2]
    fact = None if x is None else g.facts.get(x)
    if fact is None or fact.shape is None or w is None or w.const_value is None:
        return False
    return len(fact.shape) == 3 and fact.dtype == ir.DataType.FLOAT


def _pays(g: Graph, node: ir.Node, reads_lifted: bool = False) -> bool:
    weight, group = node.inputs[1].const_value.shape.numpy(), node.attributes.get_int("group", 1)  # type: ignore[union-attr]
    if group > 1:
        return bool(weight[1] == 1 and weight[0] == group and group % _CHANNELS == 0)
    form = row_form(g, node)
    return form is not None and form.product is not None and lifts(form.product, reads_lifted)


def convert(g: Graph, nodes: list[ir.Node]) -> None:
    """Lift these convolutions and what can be lifted with them."""
    if nodes:
        _Lift(g).run(nodes)


class _Lift:
    def __init__(self, g: Graph):
        self.g, self.rows = g, Rows(g)
        #: The lifted form of a wire, by the wire.
        self.up: dict[ir.Value, ir.Value] = {}
        #: What squeezes lifted wires for others.
        self.flat: list[ir.Node] = []
        self.others: dict[str, Callable[[ir.Node], list[ir.Value] | None]] = {
            "Concat": self._concat, "Split": self._split, "Slice": self._slice, "Delay": self._delay, "Mask": self._mask,
            **dict.fromkeys((*POINTWISE, "BatchNormalization"), self._pointwise),
        }  # fmt: skip

    def run(self, nodes: list[ir.Node]) -> None:
        chosen = set(nodes)
        for node in list(self.g.graph):
            made = None
            if self._squeezes(node):
                self.up[node.outputs[0]] = node.inputs[0]  # type: ignore[assignment]
                self.flat.append(node)
            elif node in chosen or (node.inputs[:1] and node.inputs[0] in self.up and liftable(self.g, node) and _pays(self.g, node, True)):
                made = self._conv(node)
            elif node.domain in ("", DOMAIN) and node.op_type in self.others and any(v in self.up for v in node.inputs):
                made = self.others[node.op_type](node)
            if made is not None:
                self._replace(node, made)
        for node in reversed(self.flat):
            if not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
                self.g.forget(node.outputs[0])
                self.g.graph.remove(node, safe=True)
        sort(self.g.graph)

    def _squeezes(self, node: ir.Node) -> bool:
        """Whether a node gives a lifted wire flat."""
        if node.op_type != "Squeeze" or node.domain or len(node.inputs) < 2 or any(v is None for v in node.inputs):
            return False
        (x, axes), fact = node.inputs, self.g.facts.get(node.inputs[0])  # type: ignore[arg-type]
        constant = None if axes is None else axes.const_value
        return fact is not None and fact.shape is not None and fact.rank == 4 and x in self.g.chunks and constant is not None and constant.numpy().tolist() == [2]

    def _replace(self, node: ir.Node, made: list[ir.Value]) -> None:
        """The node's wires are the lifted ones squeezed; who can reads the lifted."""
        g = self.g
        for old, new in zip(node.outputs, made, strict=True):
            fact = g.facts[old]
            assert fact.shape is not None
            new.type = ir.TensorType(fact.dtype)
            g.facts[new] = WireFact(fact.dtype, (*fact.shape[:2], 1, *fact.shape[2:]))
            if old in g.regions:
                g.regions[new] = {_axis(a): r for a, r in g.regions[old].items()}
            if old in g.chunks:
                g.chunks[new] = (*g.chunks[old][:2], 1, *g.chunks[old][2:])
            if old.uses() or old.is_graph_output():
                (flat,) = self.rows.node("Squeeze", [new, self.rows.const([2])], old.name or "flat")
                self.rows.replace(old, flat)
                old = flat
                self.flat.append(_maker(flat))
            self.up[old] = new
        g.graph.remove(node, safe=True)

    def _lifted(self, v: ir.Value) -> ir.Value:
        if v not in self.up:
            (self.up[v],) = self.rows.node("Unsqueeze", [v, self.rows.const([2])], f"{v.name}.lifted")
            self.rows._loose(self.up[v], v)
        return self.up[v]

    def _static(self, v: ir.Value) -> ir.Value:
        """Static frames, lifted."""
        if v.const_value is not None:
            return self.rows.weight(np.expand_dims(v.const_value.numpy(), 2), f"{v.name}.lifted")
        fact, shape, lifted = self.g.facts[v], self.g.facts[v].shape, self._lifted(v)
        assert shape is not None
        if self.g.facts[lifted].shape is None:
            self.g.facts[lifted] = WireFact(fact.dtype, (*shape[:2], 1, *shape[2:]))
        return lifted

    def _all(self, node: ir.Node) -> list[ir.Value] | None:
        """The lifted inputs, if all are lifted by now."""
        found = [self.up.get(v) for v in node.inputs if v is not None]
        return None if any(v is None for v in found) else found  # type: ignore[return-value]

    def _conv(self, node: ir.Node) -> list[ir.Value]:
        x, w, *bias = node.inputs
        assert x is not None and w is not None and w.const_value is not None
        attributes = _attributes(node)
        for name in ("kernel_shape", "dilations", "strides"):
            if name in attributes:
                attributes[name] = [1, *attributes[name].as_ints()]
        if "pads" in attributes:
            before, after = attributes["pads"].as_ints()
            attributes["pads"] = [0, before, 0, after]
        weight = self.rows.weight(np.expand_dims(w.const_value.numpy(), 2), f"{node.outputs[0].name}.weight")
        return self.rows.node("Conv", [self._lifted(x), weight, *bias], f"{node.outputs[0].name}.lifted", **attributes)

    def _pointwise(self, node: ir.Node) -> list[ir.Value] | None:
        inputs: list[ir.Value | None] = []
        for v in node.inputs:
            constant = None if v is None or v.const_value is None else v.const_value
            if v is None or v in self.up:
                inputs.append(None if v is None else self.up[v])
            elif constant is None:
                return None
            elif len(constant.shape) < 2:
                inputs.append(v)
            else:
                inputs.append(self.rows.weight(np.expand_dims(constant.numpy(), -2), f"{v.name}.lifted"))
        shape = self.g.facts[node.outputs[0]].shape
        if len(node.outputs) != 1 or shape is None or len(shape) != 3:
            return None
        return self.rows.node(node.op_type, inputs, f"{node.outputs[0].name}.lifted", **_attributes(node))

    def _concat(self, node: ir.Node) -> list[ir.Value] | None:
        inputs = self._all(node)
        if inputs is None:
            return None
        return self.rows.node("Concat", inputs, f"{node.outputs[0].name}.lifted", axis=_axis(node.attributes.get_int("axis") % 3))

    def _split(self, node: ir.Node) -> list[ir.Value]:
        attributes = _attributes(node) | {"axis": _axis(node.attributes.get_int("axis", 0) % 3)}
        inputs = [self.up[node.inputs[0]], *node.inputs[1:]]  # type: ignore[index]
        return self.rows.node("Split", inputs, f"{node.outputs[0].name}.lifted", len(node.outputs), **attributes)

    def _slice(self, node: ir.Node) -> list[ir.Value] | None:
        x, *bounds = node.inputs
        if len(bounds) < 3 or bounds[2] is None or bounds[2].const_value is None or x not in self.up:
            return None
        bounds[2] = self.rows.const([_axis(int(a) % 3) for a in bounds[2].const_value.numpy()])
        return self.rows.node("Slice", [self.up[x], *bounds], f"{node.outputs[0].name}.lifted")

    def _mask(self, node: ir.Node) -> list[ir.Value]:
        attributes = _attributes(node) | {"axis": _axis(node.attributes.get_int("axis"))}
        return self.rows.pseudo("Mask", [self.up[node.inputs[0]]], f"{node.outputs[0].name}.lifted", **attributes)  # type: ignore[index]

    def _delay(self, node: ir.Node) -> list[ir.Value] | None:
        """A history of a lifted wire is lifted: the state, and what it begins with, too."""
        slot = self.rows.slots[node.name or ""]
        attributes = _attributes(node) | {"axis": _axis(node.attributes.get_int("axis"))}
        if "init" in node.attributes:
            attributes["init"] = ir.AttrTensor("init", ir.tensor(np.expand_dims(node.attributes["init"].as_tensor().numpy(), 2)))
        inputs = [self.up[node.inputs[0]], *(self._static(v) for v in node.inputs[1:] if v is not None)]  # type: ignore[index]
        made = self.rows.pseudo("Delay", inputs, f"{node.name}.lifted", len(node.outputs), **attributes)
        lifted_node = made[0].producer()
        assert lifted_node is not None
        lifted_node.name = node.name
        state = slot.state
        assert state.axis is not None
        slot.state = replace(state, shape=(*state.shape[:2], 1, *state.shape[2:]), axis=_axis(state.axis))
        return made


def _attributes(node: ir.Node) -> dict[str, Any]:
    return {a.name: a for a in node.attributes.values()}


def _axis(a: int) -> int:
    return a if a < 2 else a + 1


def _maker(v: ir.Value) -> ir.Node:
    node = v.producer()
    assert node is not None
    return node
