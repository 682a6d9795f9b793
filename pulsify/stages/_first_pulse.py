"""The first pulse of a model without a batch: one If, in which static frames are what histories begin with."""

from __future__ import annotations

import onnx_ir as ir

from pulsify.facts import State
from pulsify.graph import NodeBuilder, subgraphs

__all__ = ["FirstPulse"]


class FirstPulse:
    """Collects what to choose; :meth:`finish` makes the If, and moves into it what only the first pulse needs."""

    def __init__(self, build: NodeBuilder):
        self.build = build
        self._chosen: list[tuple[ir.Value, ir.Value, ir.Value]] = []

    def __bool__(self) -> bool:
        return bool(self._chosen)

    def choose(self, past: ir.Value, first: ir.Value, state: State, stem: str) -> ir.Value:
        """``first`` in the first pulse, ``past`` in any other; both of the shape of the state."""
        out = self.build.value(stem)
        out.type, out.shape = ir.TensorType(state.dtype), ir.Shape(list(state.shape))
        self._chosen.append((out, past, first))
        return out

    def finish(self, started: ir.Value) -> None:
        """``started``: whether there has been a pulse, bool ``[1]``."""
        moved: list[ir.Node] = []
        for _, _, first in self._chosen:
            self._sink(first, moved)
        for node in moved:
            self.build.graph.remove(node)
        inside = {v for node in moved for v in node.outputs}
        then = [self._copy(past, out, ".past") for out, past, _ in self._chosen]
        other, outs = list(reversed(moved)), []
        for out, _, first in self._chosen:
            if first not in inside or first in outs:
                other.append(self._copy(first, out, ".first"))
                outs.append(other[-1].outputs[0])
            else:
                first.type, first.shape = out.type, out.shape
                outs.append(first)
        branches = [
            ir.AttrGraph("then_branch", ir.Graph([], [n.outputs[0] for n in then], nodes=then, name="remembered")),
            ir.AttrGraph("else_branch", ir.Graph([], outs, nodes=other, name="first")),
        ]
        results = [out for out, _, _ in self._chosen]
        self.build.graph.append(ir.Node("", "If", [started], branches, outputs=results, name=self.build.unique("first_pulse/If")))

    def _copy(self, v: ir.Value, like: ir.Value, suffix: str) -> ir.Node:
        out = self.build.value(f"{like.name}{suffix}")
        out.type, out.shape = like.type, like.shape
        return ir.Node("", "Identity", [v], outputs=[out], name=self.build.unique(f"{out.name}/Identity"))

    def _sink(self, v: ir.Value, moved: list[ir.Node]) -> None:
        """The node that makes a static wire, if nobody else needs it, and what makes that: consumers come first."""
        node = v.producer()
        if node is None or node in moved or subgraphs(node):
            return
        if any(out.is_graph_output() or any(user not in moved for user, _ in out.uses()) for out in node.outputs):
            return
        moved.append(node)
        for i in node.inputs:
            if i is not None:
                self._sink(i, moved)
