"""States that may be bound in place: one buffer as ``past_x`` and ``present_x``.

That is safe if whatever reads ``past_x`` is done before ``present_x`` is written: in every order of execution that
respects the graph, if each reader is upstream of the node that makes ``present_x``. Nodes that only reshape hand the
buffer itself on, so whoever reads their result reads ``past_x``. A node that itself reads ``past_x`` and makes ``present_x``
may do so in place if it writes each element after reading it, and nothing else.
"""

from __future__ import annotations

from collections import deque

import onnx_ir as ir

from pulsify.graph import StateSlot, captured

__all__ = ["mark_in_place"]

#: Operators whose result may be their input's buffer.
_SAME_BUFFER = {"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}

#: Operators that may write over their input: element for element, or a scatter into its first input.
_OVERWRITES = {"Add", "Sub", "Mul", "Where", "Max", "Min", "ScatterND"}

#: Nodes looked at per state before giving up: a state is then not said to be bound in place.
_MOST = 20_000


def mark_in_place(graph: ir.Graph, slots: list[StateSlot]) -> None:
    """Set ``in_place`` of every slot. The nodes are in topological order."""
    inner: dict[ir.Value, list[ir.Node]] = {}
    above: dict[ir.Node, list[ir.Node]] = {}
    level: dict[ir.Node, int] = {}
    for node in graph:
        hidden = captured(node)
        for v in hidden:
            inner.setdefault(v, []).append(node)
        makers = (v.producer() for v in (*node.inputs, *hidden) if v is not None)
        above[node] = [m for m in makers if m is not None]
        level[node] = 1 + max((level[m] for m in above[node]), default=0)
    for slot in slots:
        assert slot.past is not None and slot.present is not None
        maker = slot.present.producer()
        if maker is None or slot.past.is_graph_output():
            slot.in_place = False
            continue
        readers = _readers(slot.past, maker, slot.present, inner)
        slot.in_place = readers is not None and _upstream(maker, readers, above, level)


def _readers(
    past: ir.Value, maker: ir.Node, present: ir.Value, inner: dict[ir.Value, list[ir.Node]]
) -> set[ir.Node] | None:
    """Who has to be done before ``maker`` writes; None if that is not enough."""
    readers: set[ir.Node] = set()
    todo = [past]
    while todo:
        v = todo.pop()
        for node in (*(n for n, _ in v.uses()), *inner.get(v, ())):
            if node in readers:
                continue
            readers.add(node)
            if node.op_type in _SAME_BUFFER and not node.domain:
                if node is maker or any(o.is_graph_output() for o in node.outputs):
                    return None
                todo.extend(node.outputs)
    if maker in readers:
        if maker.domain or maker.op_type not in _OVERWRITES or _shape(past) != _shape(present):
            return None
        if maker.op_type == "ScatterND" and any(v is past for v in maker.inputs[1:]):
            return None
        readers.discard(maker)
    return readers


def _shape(v: ir.Value) -> list[object] | None:
    return None if v.shape is None else [d if isinstance(d, int) else str(d) for d in v.shape]


def _upstream(
    maker: ir.Node, readers: set[ir.Node], above: dict[ir.Node, list[ir.Node]], level: dict[ir.Node, int]
) -> bool:
    """Whether the node depends on each of these.

    A node's ``level`` is the length of the longest path to it, so what lies below every reader left leads to none.
    """
    missing, seen, todo = set(readers), {maker}, deque([maker])
    least = min((level[r] for r in readers), default=0)
    while missing and todo:
        for node in above[todo.popleft()]:
            if node not in seen and level[node] >= least:
                if len(seen) > _MOST:
                    return False
                seen.add(node)
                missing.discard(node)
                todo.append(node)
    return not missing
