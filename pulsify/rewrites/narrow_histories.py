"""Histories of quantised wires hold the narrow numbers: ``delay(dequantize(q)) = dequantize(delay(q))``.

A fourth or half of the bytes; and a runtime that computes ``dequantize, op, quantize`` in integers finds the three beside each
other, as they are in the batch model, so that both round alike. Masks go along: 0.0 is the zero point z.

Signed numbers between a QuantizeLinear and DequantizeLinear alone become unsigned ones, ``q + 128``: onnxruntime does so itself
with such a pair, and with no other, on machines that multiply unsigned numbers by signed ones.

A state begins with zeros, and they have to be 0.0. Where z is not 0, what is remembered is ``q ^ z``, bit by bit.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.facts import WireFact
from pulsify.graph import DOMAIN, Graph, sort, tensor
from pulsify.rewrites._rows import Rows

__all__ = ["apply"]

_NARROW = {ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16}


def apply(g: Graph) -> int:
    found = [h for node in g.graph if (h := _history(g, node)) is not None]
    rows = Rows(g)
    for q in dict.fromkeys(h.dequantize.inputs[0] for h in found):
        _unsigned(rows, q)
    groups: dict[Hashable, list[_History]] = {}
    for h in found:
        groups.setdefault(h.key, []).append(h)
    if groups:
        for histories in groups.values():
            _narrow(rows, histories)
        sort(g.graph)
    return sum(map(len, groups.values()))


class _History:
    """A Delay of a dequantised wire, masked or not."""

    def __init__(self, delay: ir.Node, mask: ir.Node | None, dequantize: ir.Node):
        self.delay, self.mask, self.dequantize = delay, mask, dequantize

    @property
    def zero(self) -> int:
        """The number that is 0.0."""
        return _zeros(self.dequantize)[0]

    @property
    def key(self) -> Hashable:
        """Those that remember the same are one."""
        mask = () if self.mask is None else tuple(sorted((k, str(a.value)) for k, a in self.mask.attributes.items() if k != "value"))
        return self.dequantize.inputs[0], self.zero, self.delay.attributes.get_int("axis"), mask

    @property
    def views(self) -> list[tuple[int, int]]:
        a = self.delay.attributes
        return list(zip(a.get_ints("delay"), a.get_ints("overlap"), strict=True))


def _history(g: Graph, node: ir.Node) -> _History | None:
    if node.domain != DOMAIN or node.op_type != "Delay" or len(node.inputs) != 1 or set(node.attributes) != {"axis", "delay", "overlap"}:
        return None
    maker, mask = _maker(node), None
    if maker is not None and maker.domain == DOMAIN and maker.op_type == "Mask" and not tensor(maker, "value").numpy().any():
        maker, mask = _maker(maker), maker
    if maker is None or maker.op_type != "DequantizeLinear" or "block_size" in maker.attributes or any(v is None or v.const_value is None for v in maker.inputs[1:]):
        return None
    q = maker.inputs[0]
    if q is None or g.facts[q].dtype not in _NARROW or q not in g.regions or any(g.time_axes(v) for v in maker.inputs[1:]):
        return None
    return _History(node, mask, maker) if len(set(_zeros(maker))) == 1 else None


def _zeros(node: ir.Node) -> list[int]:
    """The zero points of a node whose parameters are constants."""
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    return [0] if zero is None or zero.const_value is None else [int(z) for z in zero.const_value.numpy().reshape(-1)]


def _unsigned(rows: Rows, q: ir.Value | None) -> None:
    """``q + 128`` in place of signed numbers that only DequantizeLinear reads."""
    maker = None if q is None else q.producer()
    if q is None or maker is None or maker.op_type != "QuantizeLinear" or rows.g.facts[q].dtype != ir.DataType.INT8 or q.is_graph_output():
        return
    nodes = [maker, *(user for user, _ in q.uses())]
    zeros = [n.inputs[2] if len(n.inputs) > 2 else None for n in nodes]
    if any(n.op_type != "DequantizeLinear" for n in nodes[1:]) or any(z is None or z.const_value is None for z in zeros):
        return
    for n, zero in zip(nodes, zeros, strict=True):
        array = zero.const_value.numpy().astype(np.int64) + 128  # type: ignore[union-attr]
        n.replace_input_with(2, rows.const(array, np.uint8, "zero"))
        n.attributes.pop("output_dtype", None)
    q.type = ir.TensorType(ir.DataType.UINT8)
    rows.g.facts[q] = replace(rows.g.facts[q], dtype=ir.DataType.UINT8)


def _maker(node: ir.Node) -> ir.Node | None:
    wire = node.inputs[0]
    return None if wire is None else wire.producer()


def _narrow(rows: Rows, histories: list[_History]) -> None:
    g, first = rows.g, histories[0]
    q = first.dequantize.inputs[0]
    assert q is not None
    dtype = g.facts[q].dtype
    slots = {slot.state.id: slot for slot in g.slots}
    states = [slots[h.delay.name or ""].state for h in histories]
    moved = bool(first.zero) and any(s.zeros_read for s in states)

    def flipped(wire: ir.Value) -> ir.Value:
        """``q ^ z``, and back."""
        if not moved:
            return wire
        (out,) = rows.node("BitwiseXor", [wire, rows.const(np.array(first.zero), dtype.numpy(), "zero")], f"{wire.name}.flipped")
        return _like(g, out, wire, dtype)

    wire = q
    if first.mask is not None:
        value = ir.Tensor(np.array(first.zero, dtype.numpy()))
        attributes: dict[str, Any] = {**first.mask.attributes, "value": ir.AttrTensor("value", value)}
        wire = _like(g, rows.pseudo("Mask", [q], f"{q.name}.real", **attributes)[0], first.mask.outputs[0], dtype)
    wire = flipped(wire)
    views = list(dict.fromkeys(view for h in histories for view in h.views))
    outs = rows.pseudo("Delay", [wire], f"{q.name}.delay", len(views), axis=first.delay.attributes.get_int("axis"), delay=[d for d, _ in views], overlap=[o for _, o in views])
    delay = outs[0].producer()
    assert delay is not None
    delay.name = first.delay.name
    made = dict(zip(views, outs, strict=True))
    for h in histories:
        for view, old in zip(h.views, h.delay.outputs, strict=True):
            _like(g, made[view], old, dtype)
            kept: dict[str, Any] = dict(h.dequantize.attributes)
            (wide,) = rows.node("DequantizeLinear", [flipped(made[view]), *h.dequantize.inputs[1:]], f"{old.name}.wide", domain=h.dequantize.domain, **kept)
            _like(g, wide, old, g.facts[old].dtype)
            rows.replace(old, wide)
    for h in histories:
        for gone in (h.delay, h.mask, h.dequantize):
            if gone is not None and gone.graph is not None and not any(v.uses() or v.is_graph_output() for v in gone.outputs):
                for v in gone.outputs:
                    g.forget(v)
                g.graph.remove(gone, safe=True)
    state, history = states[0], max(d + o for d, o in views)
    assert state.axis is not None
    shape = tuple(history if a == state.axis else d for a, d in enumerate(state.shape))
    slots[state.id].state = replace(state, dtype=dtype, shape=shape, zeros_read=any(s.zeros_read for s in states))
    gone_ids = {s.id for s in states[1:]}
    g.slots = [slot for slot in g.slots if slot.state.id not in gone_ids]


def _like(g: Graph, wire: ir.Value, old: ir.Value, dtype: ir.DataType) -> ir.Value:
    """A wire holds the frames of another, in numbers of this type."""
    wire.type = ir.TensorType(dtype)
    g.facts[wire] = WireFact(dtype, g.facts[old].shape)
    for known in (g.chunks, g.regions):
        if old in known:
            known[wire] = known[old]  # type: ignore[index,assignment]
    return wire
