"""Write shape arguments that are known as constants, so that the arithmetic behind them is dead.

A Reshape target copies axes (0) and leaves one open (-1); a Slice counts from the end or runs to it (2^63 - 1); a Squeeze of a
stream names its axes, as a pulse may be one frame long.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.dim import Dim, DimLike
from pulsify.facts import Shape
from pulsify.graph import Graph
from pulsify.ops._unbake import reshape_target
from pulsify.rewrites._edit import Editor

__all__ = ["END", "apply", "reshape_target"]

END = (1 << 63) - 1


def apply(g: Graph) -> int:
    edit = Editor(g)
    count = 0
    for node in g.graph:
        if node.domain:
            continue
        handler = _HANDLERS.get(node.op_type)
        if handler is not None:
            count += handler(edit, node)
    return count


def _known_constant(value: ir.Value | None) -> bool:
    return value is None or value.const_value is not None


def _reshape(edit: Editor, node: ir.Node) -> int:
    target = node.inputs[1]
    if 0 not in (edit.g.facts[node.outputs[0]].shape or (0,)):
        # Nothing is empty: a 0 that is written here or later copies an axis.
        node.attributes.pop("allowzero", None)
    if _known_constant(target):
        return 0
    source, out = edit.g.facts[node.inputs[0]].shape, edit.g.facts[node.outputs[0]].shape  # type: ignore[index]
    if source is None or out is None:
        return 0
    fixed = reshape_target(source, out)
    if fixed is None:
        return _relabel(edit, node, source, out)
    node.replace_input_with(1, edit.const(fixed, f"{node.outputs[0].name}.shape"))
    node.attributes.pop("allowzero", None)
    return 1


def _relabel(edit: Editor, node: ir.Node, source: Shape, out: Shape) -> int:
    """A Reshape that only drops and adds axes of length 1 does so by their numbers."""
    if [d for d in source if d != 1] != [d for d in out if d != 1]:
        return 0
    dropped, added = ([a for a, d in enumerate(s) if d == 1] for s in (source, out))
    steps = [(op, axes) for op, axes in (("Squeeze", dropped), ("Unsqueeze", added)) if axes]
    wire = node.inputs[0]
    stem = f"{node.outputs[0].name}.axes"
    for op, axes in steps[:-1]:
        wire = edit.before(node, op, [wire, edit.const(axes, stem)], stem, None)
    if steps:
        edit.become(node, steps[-1][0], [wire, edit.const(steps[-1][1], stem)])
    else:
        edit.become(node, "Identity", [wire])
    return 1


def _expand(edit: Editor, node: ir.Node) -> int:
    """An axis the input already has at full length is asked for as 1."""
    if _known_constant(node.inputs[1]):
        return 0
    source, out = edit.g.facts[node.inputs[0]].shape, edit.g.facts[node.outputs[0]].shape  # type: ignore[index]
    if source is None or out is None:
        return 0
    wide: Shape = (*(1,) * (len(out) - len(source)), *source)
    target = [1 if d == s else d for d, s in zip(out, wide, strict=True)]
    if any(isinstance(d, Dim) for d in target):
        return 0
    node.replace_input_with(1, edit.const(target, f"{node.outputs[0].name}.shape"))
    return 1


def _slice(edit: Editor, node: ir.Node) -> int:
    g = edit.g
    if len(node.inputs) < 3 or all(_known_constant(v) for v in node.inputs[1:]):
        return 0
    shape = g.facts[node.inputs[0]].shape  # type: ignore[index]
    facts = [g.fact(v) for v in node.inputs[1:]]
    elems = [None if f is None else f.elems() for f in facts]
    if shape is None or elems[0] is None or elems[1] is None:
        return 0
    starts, ends = list(elems[0].reshape(-1)), list(elems[1].reshape(-1))
    axes = list(range(len(starts)))
    if len(elems) > 2 and facts[2] is not None:
        if elems[2] is None:
            return 0
        axes = [int(a) % len(shape) for a in elems[2].reshape(-1)]
    fixed_starts = [_from_end(s, shape[a]) for s, a in zip(starts, axes, strict=True)]
    fixed_ends = [_from_end(e, shape[a], end=True) for e, a in zip(ends, axes, strict=True)]
    count = 0
    for k, fixed in ((1, fixed_starts), (2, fixed_ends)):
        if not _known_constant(node.inputs[k]) and all(isinstance(v, int) for v in fixed):
            node.replace_input_with(k, edit.const(fixed, f"{node.outputs[0].name}.bound"))
            count = 1
    return count


def _from_end(v: DimLike, length: DimLike, end: bool = False) -> DimLike:
    """A bound as a number where it is one, counted from the end where that is one."""
    if not isinstance(v, Dim):
        return v
    rest = v - length
    if isinstance(rest, int):
        if rest < 0:
            return rest
        return END if end else v
    return v


def _squeeze(edit: Editor, node: ir.Node) -> int:
    (x, *axes), g = node.inputs, edit.g
    fact = g.fact(x)
    if any(v is not None and (v.const_value is None or v.const_value.size) for v in axes) or x is None or fact is None or not fact.time_axes(g.symbol):
        return 0
    assert fact.shape is not None
    named = [a for a, d in enumerate(fact.shape) if d == 1]
    if named:
        edit.become(node, "Squeeze", [x, edit.const(named, f"{node.outputs[0].name}.axes")])
    else:
        edit.become(node, "Identity", [x])  # no axes, written down, would be all that are 1 long
    return 1


_HANDLERS = {"Squeeze": _squeeze, "Reshape": _reshape, "Expand": _expand, "Slice": _slice}
