"""A scale and a shift per channel in front of products, within them: ``W (s*x + t) + b = (W*s) x + (b + W t)``.

All that reads such a wire must be able to do without it, through histories, axes that move and, where nothing is shifted,
masks of zeros and what keeps positive factors, ``f(s*x) = s*f(x)`` (Relu and the like). A shift may not pass where zeros are
read that are padding: zeros in front of the first frame are zeros of what was shifted. A sum of three divided by three in
front of a generator's next layer is such a scale, batch normalisation behind an activation scales and shifts.

Of what shifts, batch normalisation alone is moved: ``s*x + t`` is what a runtime computes for it. A constant added may take away
an offset much larger than what is left, exactly; ``W x`` and ``W t`` would then agree in all digits but the last ones.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.graph import DOMAIN, Graph, tensor
from pulsify.rewrites._affine import (
    AFFINE,
    HOMOGENEOUS,
    Affine,
    affine,
    bias_of,
    finite,
    known,
    made_axis,
    same_shape,
    spread,
    weight_of,
    width,
)
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
        if found is None or known(found.source) or not same_shape(g, found.source, out):
            return False
        if found.shift.any() and node.op_type != "BatchNormalization":
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
            return node.op_type == "Mask" and not tensor(node, "value").numpy().any()
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
    into = width(node, weight, 1 - made_axis(node))
    if axis not in (None, 1 if node.op_type.startswith("Conv") else len(shape) - 1) or {a.scale.size, a.shift.size} - {1, into}:
        return False
    if not finite(weight.dtype, weight, a.scale) or not finite(weight.dtype, np.abs(weight).sum(dtype=np.float64), a.shift):
        return False
    if not a.shift.any():
        return True
    if node.op_type == "ConvTranspose" or any(node.attributes.get_ints("pads", ())):
        return False
    whole = node.attributes.get_string("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    return whole and bias_of(g, node, weight.shape[made_axis(node)]) is not None


def _take(rows: Rows, node: ir.Node, a: Affine) -> None:
    """Scale and shift within a product."""
    weight, name, made = weight_of(node), node.outputs[0].name, made_axis(node)
    assert weight is not None
    if a.shift.any():
        bias = bias_of(rows.g, node, weight.shape[made])
        assert bias is not None
        over = tuple(k for k in range(weight.ndim) if k != made)
        shifted = bias.values + (weight * spread(node, weight, a.shift, 1 - made)).sum(over)
        bias.write(rows.weight(shifted.astype(weight.dtype), f"{name}.bias"))
    scaled = weight * spread(node, weight, a.scale, 1 - made)
    node.replace_input_with(1, rows.weight(scaled.astype(weight.dtype), f"{name}.weight"))
