"""A depthwise transposed convolution over frequency becomes a convolution of the spread input.

With stride s along the last axis, ``out = conv(spread(x), flipped w)``, where spread puts ``s - 1`` zeros behind every entry:
a product with a matrix of 0 and 1. Runtimes have a fast depthwise convolution and a slow transposed one (three to five times, measured on DeepFilterNet's
decoder at a pulse of one frame); with many channels mixed the transposed one is a product of matrices and stays.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.ops._infer import view
from pulsify.ops.conv_transpose import transposed
from pulsify.rewrites._rows import Rows, each

__all__ = ["apply"]


def apply(g: Graph) -> int:
    return each(g, ("ConvTranspose",), _rewrite)


def _rewrite(rows: Rows, node: ir.Node) -> bool:
    g = rows.g
    x, w, out = node.inputs[0], node.inputs[1], node.outputs[0]
    if x is None or w is None or w.const_value is None or g.facts[x].dtype != ir.DataType.FLOAT:
        return False
    shape, made, regions = g.chunks.get(x), g.chunks.get(out), g.regions.get(x, {})
    a = node.attributes
    if shape is None or made is None or len(regions) != 1 or any(d != 1 for d in a.get_ints("dilations", None) or ()):
        return False
    if a.get_int("group", 1) != shape[1] or shape[1] == 1 or w.const_value.shape.numpy()[1] != 1:
        return False
    geometry = transposed(view(g, node, outputs=True))
    (time,) = regions
    long = [t for t in geometry if t.stride > 1]
    if len(long) != 1 or long[0].axis != len(shape) - 1 or long[0].axis == time or any(not isinstance(shape[t.axis], int) for t in geometry):
        return False
    axis, stride = long[0].axis, long[0].stride
    before = [t.width - 1 - t.before for t in geometry]
    after = [
        int(made[t.axis]) - int(shape[t.axis]) * t.stride - b + t.width - 1  # type: ignore[arg-type]
        for t, b in zip(geometry, before, strict=True)
    ]
    if min(*before, *after) < 0:
        return False
    width = int(shape[axis])  # type: ignore[arg-type]
    matrix = np.zeros((width, width * stride), np.float32)
    matrix[np.arange(width), np.arange(width) * stride] = 1
    (spread,) = rows.node("MatMul", [x, rows.weight(matrix, f"{out.name}.spread")], f"{x.name}.spread")
    rows._loose(spread, x)
    array = np.asarray(w.const_value.numpy())
    flipped = rows.weight(np.flip(array, axis=tuple(range(2, array.ndim))), f"{out.name}.weight")
    inputs = [spread, flipped, *node.inputs[2:]]
    (y,) = rows.node("Conv", inputs, f"{out.name}.conv", group=int(shape[1]), pads=[*before, *after])  # type: ignore[arg-type]
    rows.replace(out, y)
    g.graph.remove(node, safe=True)
    return True

