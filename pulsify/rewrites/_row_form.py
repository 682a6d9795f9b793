"""What the row form of a node is: which wires it reads and makes, how it is built, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites._rows import Rows, RowView, row_view

__all__ = ["ACTIVATIONS", "FLOATS", "Form", "Product", "array", "attributes", "depends_on_sizes", "lone", "one", "reader", "same_frames"]

#: Activations that onnxruntime computes within a Gemm, most of them within a Conv, too.
ACTIVATIONS = ("Elu", "HardSigmoid", "LeakyRelu", "Relu", "Selu", "Sigmoid", "Softplus", "Softsign", "Tanh", "ThresholdedRelu")

FLOATS = {ir.DataType.FLOAT, ir.DataType.DOUBLE}


@dataclass(frozen=True, slots=True)
class Product:
    """A product over windows: ``frames`` windows of ``taps`` frames and ``into`` channels give ``out`` channels each.

    The windows are ``step`` frames apart, their taps ``dilation``; ``up`` frames come of each (of ``out/up`` channels).
    """

    op: str
    frames: int
    taps: int
    into: int
    out: int
    step: int = 1
    dilation: int = 1
    up: int = 1
    #: Whether rows of a batch are apart.
    batched: bool = False


@dataclass(frozen=True, slots=True)
class Form:
    """A node in row form: which wires it reads so, which it makes, and how. ``product`` where that is worth something,
    ``saves`` the microseconds any other costs more as it is."""

    reads: tuple[ir.Value, ...]
    makes: tuple[tuple[ir.Value, RowView], ...]
    build: Callable[[Rows, list[ir.Value]], list[ir.Value]]
    product: Product | None = None
    saves: float = 0.0


def array(v: ir.Value | None) -> np.ndarray | None:
    return None if v is None or v.const_value is None else np.asarray(v.const_value.numpy())


def lone(v: ir.Value | None) -> ir.Node | None:
    """The standard operator that makes a wire, if one node reads it and nothing else."""
    node = v.producer() if v is not None and len(v.uses()) == 1 and not v.is_graph_output() else None
    return None if node is None or node.domain else node


def reader(v: ir.Value) -> ir.Node | None:
    """The standard operator that reads a wire, if nothing else does."""
    node = next(iter(v.uses()))[0] if len(v.uses()) == 1 and not v.is_graph_output() else None
    return None if node is None or node.domain else node


def one(g: Graph, node: ir.Node) -> tuple[RowView, RowView] | None:
    """Views of the first input and the only output."""
    x, y = row_view(g, node.inputs[0]), row_view(g, node.outputs[0])
    if x is None or y is None or any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        return None
    return x, y


def same_frames(x: RowView, y: RowView) -> bool:
    return x.frames == y.frames and (x.batch is None) == (y.batch is None)


def attributes(node: ir.Node) -> dict[str, Any]:
    return {a.name: a for a in node.attributes.values()}


def depends_on_sizes(g: Graph, node: ir.Node) -> bool:
    """A Squeeze that names no axes takes away that of the batch, too, where there is one recording."""
    axes = array(node.inputs[1]) if len(node.inputs) > 1 else None
    named = len(node.inputs) > 1 and node.inputs[1] is not None and (axes is None or axes.size > 0)
    return node.op_type == "Squeeze" and not named and any(not isinstance(d, int) for d in g.chunks.get(node.outputs[0], (None,)))
