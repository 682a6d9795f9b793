"""A SplitToSequence whose parts are picked by SequenceAt is a Split: the way an exporter writes ``chunk`` and ``split``.

Run while typing, where the lengths of the parts and the numbers of those picked are known. Anything else that is done to
a sequence stays, and is refused.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.facts import Shape
from pulsify.graph import Graph, NodeBuilder, tensor_fact

__all__ = ["as_split"]


def as_split(g: Graph, node: ir.Node) -> list[ir.Node] | None:
    """Put a Split in place of a SplitToSequence and its readers. The nodes to type; None where it is none."""
    (sequence,) = node.outputs
    fact = g.fact(node.inputs[0])
    if fact is None or fact.shape is None or sequence.is_graph_output():
        return None
    axis = node.attributes.get_int("axis", 0) % len(fact.shape)
    sizes = _sizes(g, node, fact.shape, axis)
    if sizes is None:
        return None
    picked: list[tuple[ir.Node, int]] = []
    for reader, _ in sequence.uses():
        if reader.op_type != "SequenceAt" or reader.domain or reader.graph is not g.graph:
            return None
        at = g.fact(reader.inputs[1])
        elems = None if at is None else at.elems()
        if elems is None or not isinstance(elems.reshape(-1)[0], int):
            return None
        k = int(elems.reshape(-1)[0])
        if not -len(sizes) <= k < len(sizes) or reader.outputs[0].is_graph_output():
            return None
        picked.append((reader, k))
    taken = {v.name for n in g.graph for v in n.outputs if v.name} | {n.name for n in g.graph if n.name}
    build = NodeBuilder(g.graph, taken)
    stem = sequence.name or "split"
    lengths = build.const(sizes, f"{stem}.sizes")
    assert lengths.const_value is not None
    g.facts[lengths] = tensor_fact(lengths.const_value)
    parts = [build.value(f"{stem}.part") for _ in sizes]
    name = node.name or f"{stem}/Split"
    split = ir.Node("", "Split", [node.inputs[0], lengths], [ir.AttrInt64("axis", axis)], outputs=parts, name=name)
    g.graph.insert_before(node, split)
    for reader, k in picked:
        reader.outputs[0].replace_all_uses_with(parts[k])
        g.graph.remove(reader, safe=True)
    g.graph.remove(node, safe=True)
    return [split]


def _sizes(g: Graph, node: ir.Node, shape: Shape, axis: int) -> list[int] | None:
    """The lengths of the parts; None where one is not a number or the parts lose their axis."""
    total = shape[axis]
    if not isinstance(total, int):
        return None
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is None:
        return [1] * total if node.attributes.get_int("keepdims", 1) else None
    fact = g.fact(given)
    elems = None if fact is None else fact.elems()
    if fact is None or elems is None or any(not isinstance(e, int) for e in elems.reshape(-1)):
        return None
    numbers = [int(e) for e in elems.reshape(-1)]
    if fact.rank == 1:
        return numbers if sum(numbers) == total and min(numbers) > 0 else None
    size = numbers[0]
    return None if size < 1 else [min(size, total - at) for at in range(0, total, size)]
