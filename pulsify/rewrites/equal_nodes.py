"""Nodes that compute the same are one: the same operator on the same wires with the same attributes.

Exporters write the activation in front of parallel branches once per branch; as one wire, it needs one mask and one buffer.
"""

from __future__ import annotations

from collections.abc import Hashable

import onnx_ir as ir

from pulsify.graph import Graph, subgraphs

__all__ = ["apply"]

_RANDOM = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


def apply(g: Graph) -> int:
    first: dict[Hashable, ir.Node] = {}
    count = 0
    for node in list(g.graph):
        key = _key(node)
        if key is None:
            continue
        other = first.setdefault(key, node)
        if other is not node and not any(v.is_graph_output() for v in node.outputs):
            for mine, theirs in zip(node.outputs, other.outputs, strict=True):
                mine.replace_all_uses_with(theirs)
                g.facts.pop(mine, None)
            g.graph.remove(node, safe=True)
            count += 1
    return count


def _key(node: ir.Node) -> Hashable | None:
    if subgraphs(node) or node.op_type in _RANDOM or any(a.is_ref() for a in node.attributes.values()):
        return None
    attributes = tuple(sorted((a.name, _text(a.value)) for a in node.attributes.values()))
    return node.domain, node.op_type, tuple(node.inputs), attributes, len(node.outputs)


def _text(value: object) -> str:
    return f"{value.dtype}{value.shape}{value.tobytes().hex()}" if isinstance(value, ir.TensorProtocol) else repr(value)
