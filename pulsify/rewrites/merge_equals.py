"""Equal nodes are one: the same operator, attributes and inputs. What is computed once is also remembered once.

Exporters write an activation once for every branch that reads it; each copy would keep a history of its own. Small constants
with equal elements count as the same input.
"""

from __future__ import annotations

from collections.abc import Hashable

import onnx_ir as ir

from pulsify.facts import MAX_ELEMS
from pulsify.graph import Graph, subgraphs

__all__ = ["apply"]

#: Operators that give something else each time.
_RANDOM = {"Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike"}


def apply(g: Graph) -> int:
    first: dict[Hashable, ir.Node] = {}
    count = 0
    for node in list(g.graph):
        if subgraphs(node) or not node.inputs or node.op_type in _RANDOM:
            continue
        key = (node.domain, node.op_type, tuple(map(_wire, node.inputs)), _attributes(node), len(node.outputs))
        twin = first.setdefault(key, node)
        if twin is node or any(v.is_graph_output() for v in node.outputs):
            continue
        for v, same in zip(node.outputs, twin.outputs, strict=True):
            v.replace_all_uses_with(same)
            g.forget(v)
        g.graph.remove(node, safe=True)
        count += 1
    return count


def _wire(v: ir.Value | None) -> Hashable:
    """What tells an input from another."""
    tensor = None if v is None else v.const_value
    if tensor is None or tensor.size > MAX_ELEMS or tensor.dtype == ir.DataType.STRING:
        return v
    return tensor.dtype, tuple(tensor.shape.numpy()), tensor.tobytes()


def _attributes(node: ir.Node) -> Hashable:
    return tuple(sorted((a.name, a.type.name, _content(a)) for a in node.attributes.values()))


def _content(a: ir.Attr) -> str:
    if a.type == ir.AttributeType.TENSOR:
        tensor = a.as_tensor()
        return f"{tensor.dtype.name} {list(tensor.shape)} {tensor.tobytes().hex()}"
    return repr(a.value)
