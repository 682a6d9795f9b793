"""Inputs and outputs that look like states the author exposed."""

from __future__ import annotations

import onnx_ir as ir

from pulsify.dim import DimLike
from pulsify.graph import captured
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
    ``past_x``/``present_x``); because the input only starts the recurrences whose final states are the output; because
    the output is the input with frames put behind or in front of it (a cache); or because it is its gated update
    ``f * input + ...`` (an unrolled cell). What is new in the last two comes from another input."""
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
            same = shape == other
            if (
                _stem(out.name or "") == stem
                or (starts and starts == _ends(out))
                or (_fits(shape, other) and v in _handed_on(out) and _something_new(out, v))
                or (same and v in _updated(out) and _something_new(out, v))
            ):
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


def _fits(shape: tuple[DimLike, ...], other: tuple[DimLike, ...] | None) -> bool:
    """Whether no two numbers differ."""
    return other is not None and all(a == b for a, b in zip(shape, other, strict=True) if isinstance(a, int) and isinstance(b, int))


def _handed_on(out: ir.Value) -> set[ir.Value]:
    """Inputs of the model that an output holds joined with something else, and otherwise only moved around."""
    found: set[ir.Value] = set()
    todo, seen, joined = [out], set(), False
    while todo:
        wire = todo.pop()
        node = wire.producer()
        if wire in seen:
            continue
        seen.add(wire)
        if wire.is_graph_input():
            found.add(wire)
        elif node is not None and node.op_type in _MOVERS and not node.domain:
            joined = joined or node.op_type == "Concat"
            todo.extend(v for v in (node.inputs if node.op_type == "Concat" else node.inputs[:1]) if v is not None)
    return found if joined else set()


def _updated(out: ir.Value) -> set[ir.Value]:
    """Inputs of the model whose elements an output holds as ``f * input + ...``."""
    found: set[ir.Value] = set()
    for wire in _moved_from(out):
        node = wire.producer()
        if node is None or node.op_type != "Add" or node.domain:
            continue
        for term in node.inputs:
            product = None if term is None else term.producer()
            if product is not None and product.op_type == "Mul" and not product.domain:
                found.update(w for v in product.inputs if v is not None for w in _moved_from(v) if w.is_graph_input())
    return found


def _something_new(out: ir.Value, state: ir.Value) -> bool:
    """Whether an output depends on another input of the model than its state."""
    todo, seen = [out], {state}
    while todo:
        wire = todo.pop()
        if wire in seen:
            continue
        seen.add(wire)
        if wire.is_graph_input() and wire.const_value is None:
            return True
        node = wire.producer()
        if node is not None:
            todo.extend(v for v in (*node.inputs, *captured(node)) if v is not None)
    return False


def _moved_from(v: ir.Value) -> set[ir.Value]:
    """The wires whose elements a wire holds, moved around."""
    todo, seen, ends = [v], set(), set()
    while todo:
        wire = todo.pop()
        if wire in seen:
            continue
        seen.add(wire)
        node = wire.producer()
        if node is None or node.op_type not in _MOVERS or node.domain:
            ends.add(wire)
        else:
            todo.extend(x for x in (node.inputs if node.op_type == "Concat" else node.inputs[:1]) if x is not None)
    return ends


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
