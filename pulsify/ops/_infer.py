"""Run a node's shape and value laws, with a fallback for static nodes nobody wrote a rule for."""

from __future__ import annotations

import onnx_ir as ir

from pulsify.dim import symbols_of
from pulsify.errors import PulsifyError, Refusal
from pulsify.facts import Elems, Fill, Iota, WireFact
from pulsify.graph import Graph
from pulsify.ops._rule import NodeView, find

__all__ = ["infer_node", "view"]


def view(g: Graph, node: ir.Node, *, outputs: bool = False) -> NodeView:
    """The node as its rule sees it."""
    outs = [g.facts[v] for v in node.outputs] if outputs else ()
    return NodeView(node, [g.fact(v) for v in node.inputs], g.assume, g.symbol, outs)


def depends_on_time(g: Graph, node: ir.Node) -> bool:
    """Whether an input streams, or holds a value computed from the stream's length."""
    for v in node.inputs:
        f = g.fact(v)
        if f is None:
            continue
        if f.time_axes(g.symbol):
            return True
        if isinstance(f.value, Elems) and any(g.symbol in symbols_of(e) for e in f.value.array.flat):
            return True
        if isinstance(f.value, (Fill, Iota)) and g.symbol in symbols_of(getattr(f.value, "value", 0)):
            return True
    return False


def infer_node(g: Graph, node: ir.Node) -> None:
    """Set the facts of the node's outputs. Refuses a node over time without a rule."""
    rule = find(node.domain, node.op_type)
    if rule is None:
        if depends_on_time(g, node):
            view(g, node).refuse(
                f"the operator {node.domain + '::' if node.domain else ''}{node.op_type} is not known to this version",
                hint="`pulsify ops` lists the operators that stream",
            )
        facts = _static(node, g)
    else:
        try:
            facts = rule.infer(view(g, node))
        except Refusal:
            if depends_on_time(g, node):
                raise
            facts = _static(node, g)
        except PulsifyError:
            raise
        except (IndexError, ValueError, TypeError, AssertionError, ZeroDivisionError) as e:
            view(g, node).refuse(f"the node is malformed ({type(e).__name__}: {e})", hint="check the model with onnx.checker")
    for value, fact in zip(node.outputs, facts, strict=False):
        g.facts[value] = fact
        if value.type is None:
            value.type = ir.TensorType(fact.dtype)
    for value in node.outputs[len(facts) :]:
        g.facts[value] = WireFact(value.dtype or ir.DataType.UNDEFINED, None)


def _static(node: ir.Node, g: Graph) -> list[WireFact]:
    """What the file itself says of a node no time reaches."""
    out = []
    for v in node.outputs:
        shape = None
        if v.shape is not None and all(isinstance(d, int) for d in v.shape):
            shape = tuple(int(d) for d in v.shape)  # type: ignore[arg-type]
        dtype = v.dtype
        if dtype is None:
            first = next((g.facts[i] for i in node.inputs if i is not None), None)
            dtype = first.dtype if first is not None else ir.DataType.FLOAT
        out.append(WireFact(dtype, shape))
    return out
