"""Static wires that summarise the stream (a mean, a final state, its last frames), and why no stream can read one.

A summary has its value once the stream has ended; every frame that depends on it would have to wait for that.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from pulsify.dim import Dim
from pulsify.errors import Refusal
from pulsify.facts import Plan
from pulsify.graph import Graph, captured
from pulsify.ops._infer import view
from pulsify.ops.slice import slice_ranges

__all__ = ["Summaries", "feedback"]


class Summaries:
    """Follows summaries through the graph, one node after the other in its order."""

    def __init__(self, g: Graph):
        self.g = g
        #: The nodes over time that each summary is computed from.
        self.made: dict[ir.Value, dict[ir.Node, None]] = {}

    def see(self, node: ir.Node, plan: Plan | None) -> Refusal | None:
        """Take note of a node, with its plan if time reaches it. The refusal of a stream that reads a summary."""
        read = [v for v in (*node.inputs, *captured(node)) if v in self.made]
        if plan is None:
            if read:
                sources = {n: None for v in read for n in self.made[v]}
                self.made.update((v, sources) for v in node.outputs)
        elif plan.kind == "custom":
            self.made.update((v, {node: None}) for v in node.outputs if not self.g.time_axes(v))
        if read and any(self.g.time_axes(v) for v in node.outputs):
            return feedback(self.g, node, read[0], self.made[read[0]])
        return None


def feedback(g: Graph, node: ir.Node, wire: ir.Value, sources: Iterable[ir.Node]) -> Refusal:
    """Why ``node``, a stream, cannot read ``wire``, made by the nodes ``sources``."""
    axes = [a for v in node.outputs for a in g.time_axes(v)] or [a for v in node.inputs for a in g.time_axes(v)]
    sources = list(sources)
    made = ", ".join(f"{n.op_type} node {n.name!r}" for n in sources) or "its length"
    why = f"its input {wire.name!r} summarises the whole stream ({made}), and every frame needs it"
    hints = ["only an output may depend on such a summary; use statistics of a window, or running ones"]
    inputs = list(node.inputs)
    ahead = wire in inputs and any(v is not None and g.time_axes(v) for v in inputs[inputs.index(wire) :])
    ends = {_end(g, n) for n in sources}
    if node.op_type == "Concat" and ahead and ends == {"last"}:
        why = f"its input {wire.name!r} is the last frames of the stream ({made}), and a frame before the end needs them"
        hints = ["circular padding joins a stream's end to its start: train with zeros, edge or mirrored padding instead"]
    elif node.op_type == "Concat" and ends <= {"first", "last"} and ends:
        why = f"its input {wire.name!r} is made of frames of an end of the stream ({made}), and those are joined to a stream only as they are"
        hints = ["repeat or mirror the frames at an end of the stream itself, as a Pad in mode edge or reflect does"]
    elif ends == {"first"}:
        why = f"its input {wire.name!r} is made of the first frames of the stream ({made}), and every frame needs it"
        hints = [
            "join first frames to a stream as they are (Concat along time, or Pad in mode edge), or let a Scan begin with frame 0",
            "make what is computed from them an input of the model",
        ]
    return Refusal(
        f"cannot pulsify {node.op_type} node {node.name!r}" + (f" on axis {axes[0]}" if axes else ""),
        why=why,
        wire=g.describe(wire),
        hint=hints,
    )


def _end(g: Graph, node: ir.Node) -> str:
    """The end of a stream, ``first`` or ``last``, that the frames which the node keeps are counted from; none: empty."""
    if node.op_type != "Slice" or node.domain:
        return ""
    n = view(g, node, outputs=True)
    ranges = slice_ranges(n)
    starts = [ranges[a][0] for a in n.streaming(0) if a in ranges]
    return "" if not starts else "last" if any(isinstance(s, Dim) for s in starts) else "first"
