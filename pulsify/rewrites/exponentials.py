"""Elu and Selu over many numbers by their definition, from operators that runtimes do a vector register at a time.

``Elu(x) = max(x, exp(min(x, 0)) - 1)``, since ``exp(x) - 1 >= x``; in general
``c * (max(x, 0) + a * (exp(min(x, 0)) - 1))``. A third of the time, measured from some thousand numbers on.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.rewrites._rows import Rows, each

__all__ = ["apply"]

#: Numbers per pulse from which on four nodes cost less than one.
_NUMBERS = 2048

#: Alpha and gamma where a node does not give them.
_USUAL = {"Elu": (1.0, 1.0), "Selu": (1.67326319217681884765625, 1.05070102214813232421875)}


def apply(g: Graph) -> int:
    return each(g, _USUAL, _rewrite)


def _rewrite(rows: Rows, node: ir.Node) -> bool:
    g, x, out = rows.g, node.inputs[0], node.outputs[0]
    shape = None if x is None else g.chunks.get(x)
    if x is None or shape is None or g.facts[x].dtype != ir.DataType.FLOAT:
        return False
    if prod(d for d in shape if isinstance(d, int)) < _NUMBERS:
        return False
    alpha, gamma = (node.attributes.get_float(k, usual) for k, usual in zip(("alpha", "gamma"), _USUAL[node.op_type], strict=True))
    name = out.name or "elu"

    def scalar(v: float) -> ir.Value:
        return rows.const(np.full([1] * len(shape), v, np.float32), np.float32, "scalar")

    def op(kind: str, inputs: list[ir.Value | None], stem: str) -> ir.Value:
        (wire,) = rows.node(kind, inputs, f"{name}.{stem}")
        rows._loose(wire, x)
        return wire

    low = op("Clip", [x, None, rows.const(np.zeros(()), np.float32, "zero")], "low")
    curve = op("Sub", [op("Exp", [low], "exp"), scalar(1.0)], "curve")
    if alpha == gamma == 1:
        wire = op("Max", [x, curve], "max")
    else:
        parts = [(curve, gamma * alpha), (op("Relu", [x], "line"), gamma)]
        wire = op("Add", [v if c == 1 else op("Mul", [v, scalar(c)], "scaled") for v, c in parts], "sum")
    rows.replace(out, wire)
    g.graph.remove(node, safe=True)
    return True
