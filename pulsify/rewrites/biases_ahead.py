"""The bias of a residual connection, carried no further: ``x + h @ W + b`` is the Gemm ``h @ W + x``, and b is added later.

A wire may be less than it was by a constant per channel, ``u = x - b``, if everything that reads it is a product in row form,
whose own bias takes it back:

    windows(x) @ W + c = windows(u) @ W + (c + sum_k b @ W[k])

or a sum, whose readers do. What such constants add up to along a chain of residual layers is known; a node per layer is saved.
A constant far larger than what it is added to stays: it may take away an offset of x, which u would keep. A history may hold u where no frame that counts reads what it begins with: zeros that are padding are zeros of x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pulsify.graph import DOMAIN, Graph
from pulsify.rewrites._rows import Rows, row_view

__all__ = ["apply"]

#: How many times: as many may the rounding of a sum without the bias be larger.
_SMALL = 8


def apply(g: Graph) -> int:
    return _Biases(g).run()


@dataclass(frozen=True, slots=True)
class _Product:
    """``x @ weight + bias``: a Gemm, or with a batch a MatMul and the Add behind it, which is ``last``."""

    weight: np.ndarray
    bias: np.ndarray | None
    last: ir.Node


class _Biases:
    def __init__(self, g: Graph):
        self.g, self.rows = g, Rows(g)
        self.read = {slot.state.id: slot.state.zeros_read for slot in g.slots}
        #: What a wire is less than it was.
        self.less: dict[ir.Value, np.ndarray] = {}
        #: Whether all that read a wire can do with less.
        self.free: dict[ir.Value, bool] = {}
        for node in reversed(list(g.graph)):
            for v in node.outputs:
                self.free[v] = not v.is_graph_output() and all(self._absorbs(user, k) for user, k in v.uses())

    def run(self) -> int:
        count = 0
        for node in list(self.g.graph):
            less = self.less.get(node.inputs[0]) if node.inputs else None  # type: ignore[arg-type]
            if _is_sum(self.g, node):
                count += self._sum(node)
            elif less is not None and node.domain == DOMAIN:
                self.less.update(dict.fromkeys(node.outputs, np.tile(less, node.attributes.get_int("taps", 1))))
            elif less is not None:
                self._take_back(node, less)
        return count

    def _absorbs(self, node: ir.Node, k: int) -> bool:
        """Whether what an input of a node is less is taken back behind it."""
        if node.domain == DOMAIN:
            return self._passes(node) and all(self.free[v] for v in node.outputs)
        if _is_sum(self.g, node):
            return self.free[node.outputs[0]]
        return k == 0 and _product(node) is not None

    def _passes(self, node: ir.Node) -> bool:
        """Whether a pseudo-operator only says which frames, none of them made up."""
        if node.op_type == "Taps":
            return True
        view = row_view(self.g, node.inputs[0]) if node.op_type == "Delay" and len(node.inputs) == 1 else None
        plain = view is not None and view.plain and not {"init", "last"} & set(node.attributes)
        return plain and not self.read[node.name or ""]

    def _sum(self, node: ir.Node) -> int:
        """Leave the bias of a term out of a sum, where its readers can do without; how many."""
        found = 0
        less = [self.less[v] for v in node.inputs if v in self.less]
        for v in node.inputs if self.free[node.outputs[0]] else ():
            product = None if v is None or len(v.uses()) > 1 or v in self.less else _made_by(v)
            if product is not None and product.bias is not None and _small(product.bias, product.weight):
                less.append(product.bias.astype(np.float64))
                self._drop(product)
                found = 1
                break
        if less:
            self.less[node.outputs[0]] = np.sum(less, axis=0)
        return found

    def _take_back(self, node: ir.Node, less: np.ndarray) -> None:
        product = _product(node)
        assert product is not None
        bias = less @ product.weight.astype(np.float64)
        if product.bias is not None:
            bias = bias + product.bias
        made = self.rows.weight(bias.astype(product.weight.dtype), f"{product.last.outputs[0].name}.bias")
        if product.last.op_type == "Add":
            product.last.replace_input_with(1, made)
        else:
            product.last.resize_inputs(3)
            product.last.replace_input_with(2, made)

    def _drop(self, product: _Product) -> None:
        if product.last.op_type == "Gemm":
            product.last.resize_inputs(2)
            return
        self.rows.replace(product.last.outputs[0], product.last.inputs[0])  # type: ignore[arg-type]
        self.g.graph.remove(product.last, safe=True)


def _small(bias: np.ndarray, weight: np.ndarray) -> bool:
    """Whether a bias is no larger than some times what the product comes to for numbers around 1."""
    return bool(np.abs(bias).max() <= _SMALL * np.linalg.norm(weight.astype(np.float64), axis=0).max())


def _is_sum(g: Graph, node: ir.Node) -> bool:
    """Whether a node adds wires of one shape."""
    shape = None if node.op_type != "Add" or node.domain else g.chunks.get(node.outputs[0])
    return shape is not None and all(v is not None and v.const_value is None and g.chunks.get(v) == shape for v in node.inputs)


def _made_by(v: ir.Value) -> _Product | None:
    node = v.producer()
    if node is not None and node.op_type == "Add" and not node.domain and node.inputs[0] is not None and (inner := node.inputs[0].producer()) is not None:
        return _product(inner)
    return None if node is None else _product(node)


def _product(node: ir.Node) -> _Product | None:
    """The product of rows, with a constant weight and bias, that a node is or begins."""
    weight = _vector(node.inputs[1], 2) if node.op_type in ("Gemm", "MatMul") and not node.domain else None
    if weight is None or node.attributes:
        return None
    if node.op_type == "Gemm":
        bias = _vector(node.inputs[2], 1) if len(node.inputs) > 2 else None
        if len(node.inputs) > 2 and (bias is None or bias.size != weight.shape[1]):
            return None
        return _Product(weight, bias, node)
    user, k = next(iter(node.outputs[0].uses()), (node, 1))
    alone = len(node.outputs[0].uses()) == 1 and not node.outputs[0].is_graph_output()
    bias = None if k or not alone or user.op_type != "Add" or user.domain else _vector(user.inputs[1], 1)
    return None if bias is None or bias.size != weight.shape[1] else _Product(weight, bias, user)


def _vector(v: ir.Value | None, rank: int) -> np.ndarray | None:
    """A constant of that many axes, of numbers of 32 bits or more."""
    if v is None or v.const_value is None or len(v.const_value.shape) != rank:
        return None
    array = v.const_value.numpy()
    return array if array.dtype in (np.float32, np.float64) else None
