"""For onnxruntime where it runs natively: products with weights of megabytes as blocked convolutions.

    x [.., K] @ W [K, N] + b  =  conv(x as [1, K, a, b'], W.T as [N, K, 1, 1]) + b

With a few rows, such a product takes as long as its weights take to arrive, and they arrive faster so (_pictures.py). The
moves on both sides go into the runtime's own, from rows to blocks and back; between products that follow each other, with an
activation or without, there are none. A runtime without blocked convolutions (WebAssembly) takes up to ten times as long as for the
product, which is why this is a target of its own.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph, sort
from pulsify.rewrites._pictures import ACTIVATIONS, Pictures, in_blocks
from pulsify.rewrites._row_form import array, reader
from pulsify.rewrites._rows import Rows

__all__ = ["apply"]

#: Bytes of weights from which on it pays. Smaller ones stay in a cache, and the moves cost more than they gain.
_BYTES = 3 << 19


def apply(g: Graph) -> int:
    if g.target != "onnxruntime-native":
        return 0
    pictures = Pictures(Rows(g))
    count = sum(_rewrite(pictures, node) for node in list(g.graph) if node.op_type in ("Gemm", "MatMul") and not node.domain)
    if count:
        sort(g.graph)
    return count


def _weights(g: Graph, node: ir.Node) -> np.ndarray | None:
    """``[N, K]`` of a product of rows with large weights; None for any other."""
    x, w, a = node.inputs[0], node.inputs[1], node.attributes
    if x is None or w is None or w.const_value is None or w.const_value.nbytes < _BYTES or g.facts[x].dtype != ir.DataType.FLOAT:
        return None
    if a.get_int("transA", 0) or a.get_float("alpha", 1.0) != 1 or a.get_float("beta", 1.0) != 1:
        return None
    weights = w.const_value.numpy()
    if weights.ndim != 2:
        return None
    weights = weights if a.get_int("transB", 0) else weights.T
    return weights if in_blocks(weights.shape[1]) else None


def _rank(g: Graph, node: ir.Node) -> int | None:
    """The number of axes of the rows a product reads."""
    if node.op_type == "Gemm":
        return 2
    x = node.inputs[0]
    shape = g.chunks.get(x) or g.facts[x].shape  # type: ignore[arg-type, index]
    return len(shape) if shape is not None and len(shape) in (2, 3) else None


def _bias(v: ir.Value | None, channels: int) -> np.ndarray | None:
    """A constant added to every row."""
    found = None if v is None else array(v)
    return found.reshape(-1) if found is not None and found.size == channels == found.shape[-1] else None


def _rewrite(pictures: Pictures, node: ir.Node) -> bool:
    rows, g = pictures.rows, pictures.rows.g
    weights, rank = _weights(g, node), _rank(g, node)
    if weights is None or rank is None:
        return False
    x, out, gone = node.inputs[0], node.outputs[0], [node]
    assert x is not None
    added, after = node.inputs[2] if len(node.inputs) > 2 else None, reader(out)
    bias = _bias(added, len(weights))
    if added is None and after is not None and after.op_type == "Add":
        other = after.inputs[1 if after.inputs[0] is out else 0]
        if other is not None and len(g.facts[other].shape or ()) <= rank:
            bias = _bias(other, len(weights))
        if bias is not None:
            gone, out = [after, node], after.outputs[0]
            after = reader(out)
    key = node.inputs[1], node.attributes.get_int("transB", 0)
    kernel = pictures.kernel(weights, f"{node.outputs[0].name}.kernel", key)
    wire = pictures.conv(pictures.of(x, rank), kernel, bias, f"{out.name}.blocks")
    if (added is None or bias is not None) and after is not None and after.op_type in ACTIVATIONS:
        wire = pictures.node(after.op_type, [wire], f"{out.name}.active")
        gone, out = [after, *gone], after.outputs[0]
    wire = pictures.back(wire, rank, f"{out.name}.rows")
    if added is not None and bias is None:
        wire = pictures.node("Add", [wire, added], f"{out.name}.sum")
    rows.replace(out, wire)
    for old in gone:
        g.graph.remove(old, safe=True)
    return True
