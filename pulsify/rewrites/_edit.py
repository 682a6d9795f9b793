"""Surgery shared by the rewrites: insert, replace, remove, with facts kept complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph, NodeBuilder, attribute, tensor_fact
from pulsify.ops._infer import infer_node

__all__ = ["Editor"]


class Editor:
    """Edits one graph; new wires are named after what they replace and typed at once."""

    def __init__(self, g: Graph):
        self.g = g
        if g.builder is None:
            taken = {v.name for n in g.graph for v in n.outputs if v.name}
            taken |= {n.name for n in g.graph if n.name}
            g.builder = NodeBuilder(g.graph, taken)
        self.build = g.builder

    def const(self, array: Any, stem: str = "const", dtype: Any = np.int64) -> ir.Value:
        """A constant; equal ones are shared."""
        value = self.build.const(array, stem, dtype)
        if value not in self.g.facts:
            assert value.const_value is not None
            self.g.facts[value] = tensor_fact(value.const_value)
        return value

    def before(
        self,
        node: ir.Node,
        op: str,
        inputs: Sequence[ir.Value | None],
        stem: str,
        attributes: Mapping[str, Any] | None,
        domain: str = "",
    ) -> ir.Value:
        """A new node in front of ``node``; returns its output."""
        out = self.build.value(stem)
        attrs = [attribute(k, v) for k, v in (attributes or {}).items()]
        new = ir.Node(domain, op, inputs, attrs, outputs=[out], name=self.build.unique(f"{stem}/{op}"))
        self.g.graph.insert_before(node, new)
        infer_node(self.g, new)
        return out

    def forget(self, node: ir.Node) -> None:
        """Remove a node nothing reads."""
        for v in node.outputs:
            self.g.facts.pop(v, None)
        self.g.graph.remove(node, safe=True)

    def become(self, node: ir.Node, op: str, inputs: Sequence[ir.Value | None]) -> None:
        """Make the node another operator without attributes; its outputs stay what they are."""
        node.op_type = op
        node.attributes.clear()
        node.resize_inputs(len(inputs))
        for k, v in enumerate(inputs):
            node.replace_input_with(k, v)

    def bypass(self, node: ir.Node, by: ir.Value) -> bool:
        """Let readers of the node's only live output read ``by``, which takes over its name as a graph output.

        False where ``by`` cannot: it is an input, a constant or an output itself.
        """
        live = [v for v in node.outputs if v.uses() or v.is_graph_output()]
        if not live:
            self.forget(node)
            return True
        (out,) = live
        name = out.name if out.is_graph_output() else None
        if name is not None and (by.is_graph_input() or by.is_graph_output() or by.const_value is not None):
            return False
        out.replace_all_uses_with(by, replace_graph_outputs=True)
        self.forget(node)
        if name is not None:
            by.name = name
        return True
