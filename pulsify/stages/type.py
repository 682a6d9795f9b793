"""type: infer the shape of every wire as an expression of the stream symbol.

Promise: every wire has a fact. Decisions taken on the way are recorded in ``Graph.assume``.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.errors import Refusal, UsageError
from pulsify.graph import Graph
from pulsify.ops._infer import infer_node
from pulsify.rewrites.frame_scans import frames
from pulsify.rewrites.inline_branches import inline
from pulsify.rewrites.loops_as_scans import as_scan
from pulsify.rewrites.split_sequences import as_split

__all__ = ["infer_types"]


def infer_types(g: Graph) -> Graph:
    """Run every node's shape and value law in order. Linear in the graph."""
    if not any(g.time_axes(v) for v in g.graph.inputs):
        raise UsageError(f"no input streams along {g.symbol}", hint="declare a time axis with --axis input:axis")
    for value in g.graph.inputs:
        _one_axis(g, value)
    for node in list(g.graph):
        _type(g, node)
    g.assume.settle()
    _some_length(g)
    return g


def _some_length(g: Graph) -> None:
    most, least = g.assume.most, max(1, g.assume.least)
    if most is not None and most < least:
        above = next(c for c in g.assume.conditions if c.most == most)
        below = next((c.text for c in g.assume.conditions if c.least == least), f"{g.symbol} >= 1")
        raise Refusal(
            f"cannot pulsify node {above.node!r}",
            why=f"the model holds for {above.text} and {below} only, and no stream is both",
            hint="export the model with a longer table, or with positions counted from the start of the stream",
        )


def _type(g: Graph, node: ir.Node) -> None:
    """One node; where it is decided which nodes it stands for, those."""
    if node.graph is None:
        return  # a reader of a sequence, gone with it
    rewrite = None if node.domain else _STANDS_FOR.get(node.op_type)
    stands_for = None if rewrite is None else rewrite(g, node)
    if node.op_type == "Scan" and not node.domain and frames(g, node):
        return
    if stands_for is None:
        scan = as_scan(g, node) if node.op_type == "Loop" and not node.domain else None
        infer_node(g, node if scan is None else scan)
    for inner in stands_for or ():
        _type(g, inner)


#: Operators that may stand for others.
_STANDS_FOR = {"If": inline, "SplitToSequence": as_split}


def _one_axis(g: Graph, value: ir.Value) -> None:
    axes = g.time_axes(value)
    if len(axes) > 1:
        raise Refusal(
            f"cannot pulsify input {value.name!r} on axes {', '.join(map(str, axes))}",
            why=f"it has the stream symbol {g.symbol} on {len(axes)} axes, and a client can send one",
            wire=g.describe(value),
            hint="declare the one axis that is time with --axis input:axis",
        )
