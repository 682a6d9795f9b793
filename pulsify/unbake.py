"""--unbake: constants that are the length the file has on the declared axis, let free.

A repair is a guess at what the author meant, right at the length the file has, and only made when asked for: a Reshape
target that holds the length (ops/_unbake.py tells which), or a Slice that keeps the first N frames of a stream, N being
the file's length less a few, where the result then meets something as long as the stream. It keeps all but the last few. A Squeeze
that names no axes gets those that are always 1 long.
"""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from pulsify.dim import Dim, evaluate, symbols_of
from pulsify.errors import PulsifyError, Refusal, Repair
from pulsify.graph import Graph, NodeBuilder, Pulse
from pulsify.ops._infer import view
from pulsify.ops.slice import slice_ranges
from pulsify.pipeline import Options, run
from pulsify.rewrites.fix_shapes import END
from pulsify.source import Source
from pulsify.stages.load import AxisSpec, load, normalize
from pulsify.stages.type import infer_types

__all__ = ["baked_crop", "unbake"]

#: Constants let free at most in one model.
_MOST_REPAIRS = 64


def unbake(source: Source, axis: AxisSpec) -> Source:
    """The model with every such constant let free, each told in ``Source.notes``. One that has none comes back as it is."""
    for _ in range(_MOST_REPAIRS):
        try:
            run(source, Options(axis, Pulse("P")), until="pulse-v2")
        except Refusal as e:
            repair = e.repair or (baked_crop(source, axis) if e.baked else None)
            if repair is None:
                return source
            source = _repaired(source, repair)
        else:
            return source
    return source


def baked_crop(source: Source, axis: AxisSpec) -> Repair | None:
    """The first Slice that keeps most of the file's own frames by their number."""
    try:
        g = load(source, axis)
        infer_types(g)
    except PulsifyError:
        pass  # what comes before the fault has its facts
    return None if g.assume.baked is None else next((r for node in g.graph if (r := _crop(g, node)) is not None), None)


def _crop(g: Graph, node: ir.Node) -> Repair | None:
    typed = all(v is None or v in g.facts for v in node.inputs) and all(v in g.facts for v in node.outputs)
    if node.op_type != "Slice" or node.domain or len(node.inputs) < 3 or not typed:
        return None
    n = view(g, node, outputs=True)
    ends, axes = n.plain_ints(2), n.plain_ints(3)
    if ends is None:
        return None
    ranges = slice_ranges(n)
    for i, end in enumerate(ends):
        a = i if axes is None else axes[i] % len(n.shape(0))
        length = n.shape(0)[a]
        if a not in n.streaming(0) or symbols_of(length) != {g.symbol}:
            continue
        start, count, step = ranges[a]
        whole = int(evaluate(length, {g.symbol: g.assume.baked or 0}))
        if step == 1 and not isinstance(start, Dim) and isinstance(count, int) and 2 * count > whole >= end:
            return Repair(node.name or "", "Slice", (i, end - whole or END))
    return None


def _repaired(source: Source, repair: Repair) -> Source:
    model = normalize(source)
    node = next(n for n in model.graph if n.name == repair.node)
    if repair.op == "Squeeze":
        return replace(source, model=model, edited=True, notes=(*source.notes, _named(model.graph, node, repair)))
    at = 2 if repair.op == "Slice" else 1
    target = node.inputs[at]
    assert target is not None and target.const_value is not None
    numbers = target.const_value.numpy().reshape(-1).tolist()
    build = NodeBuilder(model.graph, {v.name for n in model.graph for v in n.outputs if v.name} | set(model.graph.initializers))
    if repair.op == "Slice":
        i, end = repair.values
        ends = [*numbers[:i], end, *numbers[i + 1 :]]
        node.replace_input_with(at, build.const(ends, f"{node.outputs[0].name}.end", target.const_value.dtype.numpy()))
        note = f"unbaked node {node.name!r}: Slice up to frame {numbers[i]} {_keeps(end)}"
    elif repair.op == "Transpose":
        node.op_type = "Transpose"
        node.resize_inputs(1)
        node.attributes.clear()
        node.attributes.add(ir.AttrInt64s("perm", list(repair.values)))
        note = f"unbaked node {node.name!r}: Reshape to {numbers} is now Transpose to {list(repair.values)}"
    else:
        node.replace_input_with(at, build.const(repair.values, f"{node.outputs[0].name}.shape"))
        note = f"unbaked node {node.name!r}: Reshape to {numbers} is now Reshape to {list(repair.values)}"
    return replace(source, model=model, edited=True, notes=(*source.notes, note))


def _named(graph: ir.Graph, node: ir.Node, repair: Repair) -> str:
    """Give a Squeeze its axes; what was done."""
    build = NodeBuilder(graph, set(graph.initializers))
    node.resize_inputs(2)
    node.replace_input_with(1, build.const(repair.values, f"{node.outputs[0].name}.axes"))
    return f"unbaked node {node.name!r}: Squeeze is now Squeeze of axes {list(repair.values)}"


def _keeps(end: int) -> str:
    return "now runs to the end" if end == END else f"now keeps all but the last {-end}"
