"""Remove what does nothing: Identity, Dropout at inference, casts to the same type, a Slice that keeps all, a Where whose
condition is known.

CastLike becomes Cast.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.facts import Elems, Fill
from pulsify.graph import Graph
from pulsify.ops._infer import view
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]


def apply(g: Graph) -> int:
    edit = Editor(g)
    count = 0
    for node in list(g.graph):
        if node.domain:
            continue
        if node.op_type == "CastLike":
            to = g.facts[node.outputs[0]].dtype
            new = edit.before(node, "Cast", [node.inputs[0]], f"{node.outputs[0].name}.cast", {"to": int(to)})
            count += 1
            if edit.bypass(node, new):
                producer = new.producer()
                assert producer is not None
                node = producer
        source = _same(g, node)
        if source is not None:
            count += edit.bypass(node, source)
    return count


def _same(g: Graph, node: ir.Node) -> ir.Value | None:
    """The input that the node's only live output equals, or None."""
    if [v for v in node.outputs if v.uses() or v.is_graph_output()] != [node.outputs[0]]:
        return None
    if node.op_type in ("Identity", "Dropout"):
        return node.inputs[0]
    source: ir.Value | None = None
    if node.op_type == "Cast":
        source = node.inputs[0]
    elif node.op_type == "Slice" and set(view(g, node).plain_ints(4) or (1,)) == {1}:
        source = node.inputs[0]  # as many entries as there are, one after the other, are all of them
    elif node.op_type == "Where":
        condition = _condition(g, node)
        source = None if condition is None else node.inputs[1 if condition else 2]
    if source is None:
        return None
    a, b = g.facts[source], g.facts[node.outputs[0]]
    return source if (a.dtype, a.shape) == (b.dtype, b.shape) else None


def _condition(g: Graph, node: ir.Node) -> bool | None:
    """The condition of a Where if it is the same everywhere."""
    fact = g.fact(node.inputs[0])
    if fact is None:
        return None
    if isinstance(fact.value, Fill):
        return bool(fact.value.value)
    elems = fact.elems()
    if elems is None or (isinstance(fact.value, Elems) and not fact.value.constant):
        return None
    answers = {bool(v) for v in elems.reshape(-1)}
    return answers.pop() if len(answers) == 1 else None
