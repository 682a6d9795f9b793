"""A scale and a shift per channel in front of products, within them: ``W (s*x + t) + b = (W*s) x + (b + W t)``.

All that reads such a wire must be able to do without it, through histories, axes that move and, where nothing is shifted,
masks of zeros and what keeps positive factors, ``f(s*x) = s*f(x)`` (Relu and the like). A shift may not pass where zeros are
read that are padding: zeros in front of the first frame are zeros of what was shifted. A sum of three divided by three in
front of a generator's next layer is such a scale, batch normalisation behind an activation scales and shifts.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.graph import DOMAIN, Graph
from pulsify.rewrites._affine import AFFINE, HOMOGENEOUS, Affine, affine, bias_of, known, made_axis, weight_of
from pulsify.rewrites._row_ops import is_mover
from pulsify.rewrites._rows import Rows, each, row_view

__all__ = ["apply"]


def apply(g: Graph) -> int:
    return each(g, AFFINE, _Scales({slot.state.id for slot in g.slots if slot.state.zeros_read}).rewrite, backwards=True)


class _Scales:
    """``padded`` are the histories that begin with zeros that count."""

    def __init__(self, padded: set[str]):
        self.padded = padded

    def rewrite(self, rows: Rows, node: ir.Node) -> bool:
        g, out = rows.g, node.outputs[0]
        shape = g.facts[out].shape
        found = None if shape is None else affine(node, len(shape))
        if found is None or known(found.source) or len(g.facts[found.source].shape or ()) != len(shape or ()):
            return False
        products: list[ir.Node] = []
        todo: list[tuple[ir.Value, int | None]] = [(out, found.axis)]
        while todo:
            v, axis = todo.pop()
            if v.is_graph_output() or not v.uses():
                return False
            for reader, k in v.uses():
                if k:
                    return False
                if _absorbs(g, reader, axis, found):
                    products.append(reader)
                elif self._passes(g, reader, found):
                    todo.extend((y, axis) for y in reader.outputs if y.uses() or y.is_graph_output())
                elif is_mover(g, reader) and (found.axis is None or _channel(g, v) == axis):
                    todo.append((reader.outputs[0], None if found.axis is None else _channel(g, reader.outputs[0])))
                else:
                    return False
        for product in products:
            _take(rows, product, found)
        rows.replace(out, found.source)
        g.graph.remove(node, safe=True)
        return True

    def _passes(self, g: Graph, node: ir.Node, a: Affine) -> bool:
        """Whether a node makes of a scaled wire what it makes of the wire, scaled."""
        if node.domain == DOMAIN and node.op_type == "Delay":
            plain = len(node.inputs) == 1 and not {"init", "last"} & set(node.attributes)
            return plain and not (a.shift.any() and node.name in self.padded)
        if a.shift.any():
            return False
        if node.domain == DOMAIN:
            return node.op_type == "Mask" and not node.attributes.get_tensor("value").numpy().any()
        return not node.domain and node.op_type in HOMOGENEOUS and bool((a.scale > 0).all())


def _channel(g: Graph, v: ir.Value) -> int | None:
    view = row_view(g, v)
    return None if view is None else view.channel


def _absorbs(g: Graph, node: ir.Node, axis: int | None, a: Affine) -> bool:
    """Whether a node is a product that can scale, and shift, what it reads."""
    weight = weight_of(node)
    shape = g.facts[node.inputs[0]].shape if weight is not None else None  # type: ignore[index]
    if weight is None or shape is None:
        return False
    conv, into = node.op_type.startswith("Conv"), _into(node, weight)
    if axis not in (None, 1 if conv else len(shape) - 1) or {a.scale.size, a.shift.size} - {1, into}:
        return False
    if not a.shift.any():
        return True
    if node.op_type == "ConvTranspose" or any(node.attributes.get_ints("pads", ())):
        return False
    whole = node.attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    return whole and bias_of(g, node, weight.shape[made_axis(node)]) is not None


def _into(node: ir.Node, weight: np.ndarray) -> int:
    """Channels a product reads."""
    if node.op_type == "Conv":
        return int(weight.shape[1]) * node.attributes.get_int("group", 1)
    return int(weight.shape[0 if node.op_type == "ConvTranspose" else 1 - made_axis(node)])


def _take(rows: Rows, node: ir.Node, a: Affine) -> None:
    """Scale and shift within a product."""
    weight, name = weight_of(node), node.outputs[0].name
    assert weight is not None
    made = weight * _spread(node, weight, a.scale)
    if a.shift.any():
        bias = bias_of(rows.g, node, weight.shape[made_axis(node)])
        assert bias is not None
        over = tuple(k for k in range(weight.ndim) if k != made_axis(node))
        shifted = bias.values + (weight * _spread(node, weight, a.shift)).sum(over)
        bias.node.resize_inputs(max(bias.index + 1, len(bias.node.inputs)))
        bias.node.replace_input_with(bias.index, rows.weight(shifted.astype(weight.dtype), f"{name}.bias"))
    node.replace_input_with(1, rows.weight(made.astype(weight.dtype), f"{name}.weight"))


def _spread(node: ir.Node, weight: np.ndarray, by: np.ndarray) -> np.ndarray:
    """A number per channel read, beside every element of the weight that is multiplied with that channel."""
    by = np.broadcast_to(by, _into(node, weight))
    if node.op_type == "Conv":
        group = node.attributes.get_int("group", 1)
        return np.repeat(by.reshape(group, -1), weight.shape[0] // group, axis=0).reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
    if node.op_type == "ConvTranspose":
        return by.reshape(-1, *[1] * (weight.ndim - 1))
    return by[:, None] if made_axis(node) else by
