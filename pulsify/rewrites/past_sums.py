"""What depthwise convolutions take of the past, summed for all layers at once.

``y[t] = sum_k w[k] x[t - d*(K-1-k)] + b`` is ``w[K-1] x[t]`` and a sum over frames that were there before the pulse, if that is not
longer than the dilation d: at one frame always. In row form a pulse is a row then, and a window K of them. The histories of layers
lie in one state (shared_memory.py): the frames they read, times their weights, summed per layer, biases added, are four nodes for
all of them, and a layer is left with a product and a sum per channel. It neither joins its window nor, with a batch, shapes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.graph import DOMAIN, Graph, sort
from pulsify.rewrites._costs import NODE
from pulsify.rewrites._row_form import array, reader
from pulsify.rewrites._rows import Rows

__all__ = ["apply"]

#: Nodes for all layers, and microseconds that a number in a window costs to join and to sum up.
_NODES, _NUMBER = 6, 2e-4


@dataclass(frozen=True, slots=True)
class _Layer:
    """A depthwise convolution: its K - 1 past rows, which a Split hands out, and ``weight [K, C]``, C being all in a row."""

    split: ir.Node
    past: ir.Value
    weight: np.ndarray
    bias: np.ndarray | None
    out: ir.Value
    #: From the node that joins the window to the one that makes ``out``.
    nodes: tuple[ir.Node, ...]

    @property
    def now(self) -> ir.Value:
        """Its own row, which may be what the layer before it makes."""
        wire = self.nodes[0].inputs[1]
        assert wire is not None
        return wire

    @property
    def axis(self) -> int:
        return self.split.attributes.get_int("axis")


def apply(g: Graph) -> int:
    groups: dict[tuple[ir.Node, tuple[int, ...], np.dtype], list[_Layer]] = {}
    for node in g.graph:
        for found in _layers(node) if node.op_type == "Split" and not node.domain else ():
            groups.setdefault((found.split, found.weight.shape, found.weight.dtype), []).append(found)
    shared = [layers for layers in groups.values() if _pays(layers)]
    rows = Rows(g)
    for layers in shared:
        _together(rows, layers)
    for split in dict.fromkeys(layers[0].split for layers in shared):
        _rest(rows, split)
    if shared:
        sort(g.graph)
    return sum(map(len, shared))


def _pays(layers: list[_Layer]) -> bool:
    """With a batch a window costs three nodes more than what it becomes, otherwise one activation that is within a product."""
    if layers[0].axis == 1:
        return len(layers) > 1
    return NODE * (len(layers) - _NODES) + _NUMBER * sum(layer.weight[:-1].size for layer in layers) > 0


def _layers(split: ir.Node) -> Iterator[_Layer]:
    """The convolutions whose past is a part of this Split, if that cuts the rows of a state."""
    cut, axis = array(split.inputs[1]) if len(split.inputs) > 1 else None, split.attributes.get_int("axis", 0)
    state = split.inputs[0].producer() if split.inputs[0] is not None else None
    if state is not None and state.op_type in ("Gather", "Slice") and state.inputs[0] is not None:
        state = state.inputs[0].producer()
    if cut is None or state is None or state.domain != DOMAIN or len(state.attributes.get_strings("shape", ())) != axis + 2:
        return
    for past, frames in zip(split.outputs, cut, strict=True):
        join = reader(past)
        if join is None or join.op_type != "Concat" or len(join.inputs) != 2 or join.inputs[0] is not past or join.attributes.get_int("axis") != axis:
            continue
        times = reader(join.outputs[0])
        if times is None or times.op_type != "Mul":
            continue
        weight = next((a for v in times.inputs if (a := array(v)) is not None), None)
        total = reader(times.outputs[0])
        if weight is None or weight.ndim != 2 or len(weight) != frames + 1 or total is None or total.op_type not in ("Gemm", "MatMul"):
            continue
        ones = array(total.inputs[0])
        if ones is None or ones.shape != (1, len(weight)) or np.any(ones != 1) or total.inputs[1] is not times.outputs[0] or total.attributes:
            continue
        bias, last = array(total.inputs[2]) if len(total.inputs) > 2 else None, total
        if len(total.inputs) > 2 and (bias is None or bias.shape != weight.shape[1:]):
            continue
        add = reader(total.outputs[0])
        if bias is None and add is not None and add.op_type == "Add":
            added = next((a for v in add.inputs if (a := array(v)) is not None), None)
            if added is not None and added.shape == weight.shape[1:]:
                bias, last = added, add
        yield _Layer(split, past, weight, bias, last.outputs[0], tuple(dict.fromkeys((join, times, total, last))))


def _together(rows: Rows, layers: list[_Layer]) -> None:
    """Sums of past frames, one per layer, and what each layer adds to its own."""
    g, first, axis = rows.g, layers[0], layers[0].axis
    frames, channels = first.weight.shape[0] - 1, first.weight.shape[1]
    stem = f"{first.past.name}.sums"
    front = [-1] * axis
    wire = _take(rows, first.split, [layer.past for layer in layers], stem)

    def add(op: str, inputs: list[ir.Value], what: str, outputs: int = 1, **attributes: Any) -> list[ir.Value]:
        made = rows.node(op, inputs, f"{stem}.{what}", outputs, **attributes)
        for v in made:
            rows._loose(v, first.past)
        return made

    (wire,) = add("Mul", [wire, rows.weight(np.concatenate([layer.weight[:-1] for layer in layers]), f"{stem}.weight")], "weighed")
    if frames > 1:
        (wire,) = add("Reshape", [wire, rows.const([*front, len(layers), frames, channels])], "frames")
        (wire,) = add("ReduceSum", [wire, rows.const([axis + 1])], "summed", keepdims=0)
    if any(layer.bias is not None for layer in layers):
        zero = np.zeros(channels, first.weight.dtype)
        biases = np.stack([zero if layer.bias is None else layer.bias for layer in layers])
        (wire,) = add("Add", [wire, rows.weight(biases, f"{stem}.bias")], "biased")
    parts = add("Split", [wire, rows.const([1] * len(layers), stem="rows")], "of", len(layers), axis=axis)
    for layer, past in zip(layers, parts, strict=True):
        name = layer.out.name or "depthwise"
        (now,) = add("Mul", [layer.now, rows.weight(layer.weight[-1], f"{name}.weight")], "now")
        (out,) = rows.node("Add", [now, past], name)
        rows.replace(layer.out, out)
        for gone in reversed(layer.nodes):
            for v in gone.outputs:
                g.forget(v)
            g.graph.remove(gone, safe=True)


def _take(rows: Rows, split: ir.Node, parts: list[ir.Value], stem: str) -> ir.Value:
    """These parts of what a Split cuts, joined, from where it comes."""
    source, axis, cut = split.inputs[0], split.attributes.get_int("axis"), array(split.inputs[1])
    assert source is not None and cut is not None
    if len(parts) == len(split.outputs):
        return source
    ends = dict(zip(split.outputs, np.cumsum(cut), strict=True))
    sizes = dict(zip(split.outputs, cut, strict=True))
    index = np.concatenate([np.arange(ends[v] - sizes[v], ends[v]) for v in parts])
    before = source.producer()
    taken = array(before.inputs[1]) if before is not None and before.op_type == "Gather" and before.attributes.get_int("axis", 0) == axis else None
    if before is not None and taken is not None and taken.ndim == 1 and before.inputs[0] is not None:
        source, index = before.inputs[0], taken[index]
    (out,) = rows.node("Gather", [source, rows.const(index, stem="frames")], f"{stem}.past", axis=axis)
    rows._loose(out, parts[0])
    return out


def _rest(rows: Rows, split: ir.Node) -> None:
    """A Split hands out what is still read."""
    g, cut = rows.g, array(split.inputs[1])
    left = [v for v in split.outputs if v.uses()]
    assert cut is not None
    if len(left) == len(split.outputs):
        return
    if left:
        wire = _take(rows, split, left, left[0].name or "rest")
        sizes = [int(n) for v, n in zip(split.outputs, cut, strict=True) if v.uses()]
        parts = [wire] if len(left) == 1 else rows.node("Split", [wire, rows.const(sizes, stem="rows")], "rest", len(left), axis=split.attributes.get_int("axis"))
        for old, new in zip(left, parts, strict=True):
            if len(left) > 1:
                rows._loose(new, old)
            rows.replace(old, new)
    source = split.inputs[0]
    for v in split.outputs:
        g.forget(v)
    g.graph.remove(split, safe=True)
    before = None if source is None or source.uses() or source.is_graph_output() else source.producer()
    if source is not None and before is not None and not before.domain:
        g.forget(source)
        g.graph.remove(before, safe=True)
