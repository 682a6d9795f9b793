"""Inputs and outputs that look like states the author exposed."""

from __future__ import annotations

import onnx_ir as ir

from pulsify.stages.load import declared_dims

__all__ = ["state_pairs", "step_note"]

#: Operators that only move elements around.
_MOVERS = frozenset(
    ["Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"]
)
_RECURRENT = frozenset(("GRU", "LSTM", "RNN"))

_AFFIXES = (
    "past_", "present_", "prev_", "next_", "new_", "input_", "output_", "cached_", "_in", "_out", "_prev", "_next",
    "_new", "_old", "_n", "_0", "_1", "in_", "out_",
)  # fmt: skip


def state_pairs(model: ir.Model) -> dict[str, str]:
    """Pairs of one type and rank: by their names (``h``/``hn``, ``state``/``stateN``, ``cache_in``/``cache_out``,
    ``past_x``/``present_x``), or because the input only starts the recurrences whose final states are the output."""
    pairs: dict[str, str] = {}
    for v in model.graph.inputs:
        shape = declared_dims(v)
        if shape is None or len(shape) < 2:
            continue
        stem, starts = _stem(v.name or ""), _starts(v)
        for out in model.graph.outputs:
            other = declared_dims(out)
            if out.name in pairs.values() or out.dtype != v.dtype or (other is not None and len(other) != len(shape)):
                continue
            if _stem(out.name or "") == stem or (starts and starts == _ends(out)):
                pairs[v.name or ""] = out.name or ""
                break
    return pairs


def step_note(pairs: dict[str, str]) -> str:
    """What to say of a model that does not stream and has exposed states."""
    return "this looks like a model that already runs step by step: its states are " + ", ".join(
        f"{a} -> {b}" for a, b in pairs.items()
    )


def _stem(name: str) -> str:
    word = name.lower()
    for affix in _AFFIXES:
        word = word.removeprefix(affix) if affix.endswith("_") else word.removesuffix(affix)
    return word.rstrip("n0123456789_") or word


def _starts(v: ir.Value) -> frozenset[ir.Node]:
    """Recurrences whose initial states the wire is, moved around; none if it goes anywhere else."""
    found: set[ir.Node] = set()
    todo, seen = [v], set()
    while todo:
        wire = todo.pop()
        if wire in seen:
            continue
        seen.add(wire)
        for node, index in wire.uses():
            if node.op_type in _RECURRENT and index in (5, 6):
                found.add(node)
            elif node.op_type in _MOVERS and not node.domain:
                todo.extend(node.outputs)
            elif node.op_type != "Shape":
                return frozenset()
    return frozenset(found)


def _ends(v: ir.Value) -> frozenset[ir.Node]:
    """Recurrences whose final states the wire holds, moved around; none if it holds anything else."""
    found: set[ir.Node] = set()
    todo, seen = [v], set()
    while todo:
        wire = todo.pop()
        node = wire.producer()
        if node is None or wire in seen:
            continue
        seen.add(wire)
        if node.op_type in _RECURRENT and wire.index() in (1, 2):
            found.add(node)
        elif node.op_type in _MOVERS and not node.domain:
            todo.extend(x for x in (node.inputs if node.op_type == "Concat" else node.inputs[:1]) if x is not None)
        else:
            return frozenset()
    return frozenset(found)
