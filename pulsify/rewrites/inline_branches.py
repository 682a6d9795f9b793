"""An If whose condition is known when converting is the branch it takes, in its place.

Run while typing: whether ``Shape(x)[1] == 1`` holds is known as soon as x has a shape, and only the branch taken has to
have one.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph, NodeBuilder, tensor_fact

__all__ = ["inline"]


def inline(g: Graph, node: ir.Node) -> list[ir.Node] | None:
    """Put the branch taken in front of an If and remove it. The nodes to type, in order; None if it is undecided."""
    fact = g.fact(node.inputs[0])
    elems = None if fact is None else fact.elems()
    if elems is None or elems.size != 1:
        return None
    branch = node.attributes["then_branch" if bool(elems.reshape(-1)[0]) else "else_branch"].as_graph()
    build = NodeBuilder(g.graph, _names(g.graph))
    outputs = list(branch.outputs)
    branch.outputs.clear()
    constants = {v: v.const_value for v in branch.initializers.values()} | _constants(branch)
    for value, tensor in constants.items():
        assert tensor is not None
        new = build.initializer(tensor, value.name or "const")
        g.facts[new] = tensor_fact(tensor)
        value.replace_all_uses_with(new)
        outputs = [new if v is value else v for v in outputs]
    nodes = [n for n in branch if n.outputs[0] not in constants]
    branch.remove(list(branch))
    for inner in nodes:
        inner.name = build.unique(f"{node.name}/{inner.name or inner.op_type}")
        for v in inner.outputs:
            v.name = build.unique(v.name or inner.name)
        g.graph.insert_before(node, inner)
    for old, new in zip(node.outputs, outputs, strict=True):
        if not old.is_graph_output():
            old.replace_all_uses_with(new)
            continue
        # A graph output is a wire of its own, under its name.
        same = ir.Node("", "Identity", [new], outputs=[ir.Value(type=old.type)], name=build.unique(f"{node.name}/out"))
        g.graph.insert_before(node, same)
        nodes.append(same)
        name, old.name = old.name, build.unique(f"{old.name}.if")
        old.replace_all_uses_with(same.outputs[0], replace_graph_outputs=True)
        same.outputs[0].name = name
    g.graph.remove(node, safe=True)
    return nodes


def _names(graph: ir.Graph) -> set[str]:
    """Every name in the graph and its subgraphs."""
    taken = {v.name for v in graph.inputs if v.name} | set(graph.initializers)
    for node in ir.traversal.RecursiveGraphIterator(graph):
        taken.add(node.name or "")
        taken.update(v.name for v in node.outputs if v.name)
    return taken


def _constants(branch: ir.Graph) -> dict[ir.Value, ir.TensorProtocol]:
    """What Constant nodes hold (those that are outputs; load lifts the others)."""
    out: dict[ir.Value, ir.TensorProtocol] = {}
    for node in branch:
        if node.op_type != "Constant" or node.domain or next(iter(node.attributes), "").startswith("value_string"):
            continue
        (attribute,) = node.attributes.values()
        kind = np.float32 if attribute.name.startswith("value_float") else np.int64
        tensor = attribute.value if attribute.name == "value" else ir.tensor(np.asarray(attribute.value, dtype=kind))
        out[node.outputs[0]] = tensor
    return out
