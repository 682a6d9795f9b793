"""Run a node's shape and value laws, with a fallback for static nodes nobody wrote a rule for."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from pulsify.dim import DimLike, sym, symbols_of
from pulsify.errors import PulsifyError, Refusal, internal
from pulsify.facts import MAX_ELEMS, Elems, Fill, Iota, Shape, WireFact
from pulsify.graph import Graph, captured, subgraphs, tensor_fact
from pulsify.ops._rule import NodeView, find

__all__ = ["infer_node", "infer_subgraph", "timed", "view"]


def view(g: Graph, node: ir.Node, *, outputs: bool = False) -> NodeView:
    """The node as its rule sees it."""
    outs = [g.facts[v] for v in node.outputs] if outputs else ()
    outer = {v: g.facts[v] for v in captured(node) if v in g.facts}
    return NodeView(node, [g.fact(v) for v in node.inputs], g.assume, g.symbol, outs, outer)


def depends_on_time(g: Graph, node: ir.Node) -> bool:
    """Whether an input streams, or holds a value computed from the stream's length."""
    facts = (g.facts.get(v) for v in (*node.inputs, *captured(node)) if v is not None)
    return any(f is not None and timed(f, g.symbol) for f in facts)


def timed(f: WireFact, symbol: str) -> bool:
    """Whether a wire streams, or holds a value computed from the stream's length."""
    if f.time_axes(symbol):
        return True
    if isinstance(f.value, Elems) and any(symbol in symbols_of(e) for e in f.value.array.flat):
        return True
    return isinstance(f.value, (Fill, Iota)) and symbol in symbols_of(getattr(f.value, "value", 0))


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
            if not rule.static or depends_on_time(g, node):
                raise
            facts = _static(node, g)
        except PulsifyError:
            raise
        except Exception as e:
            said = _complaint(g, node)
            if said is None:
                raise internal(f"the shape law of {view(g, node).where} failed", e) from e
            view(g, node).refuse(f"the node is malformed: {said}", hint="check the model with onnx.checker")
    unknown = next((v for v, f in zip(node.outputs, facts, strict=False) if f.shape is None), None)
    if unknown is not None and any(g.time_axes(v) for v in node.inputs if v is not None):
        lost = ", ".join(repr(v.name) for v in node.inputs if v is not None and g.facts[v].shape is None)
        view(g, node).refuse(
            f"the rank of its output {unknown.name!r} is unknown" + (f", as that of {lost} is" if lost else ""),
            hint="run onnx.shape_inference on the model first, or declare the shapes of its inputs",
        )
    for value, fact in zip(node.outputs, facts, strict=False):
        g.facts[value] = fact.fitting()
        if value.type is None:
            value.type = ir.TensorType(fact.dtype)
    for value in node.outputs[len(facts) :]:
        g.facts[value] = WireFact(value.dtype or ir.DataType.UNDEFINED, None)


def infer_subgraph(n: NodeView, graph: ir.Graph, inputs: Sequence[WireFact]) -> list[WireFact]:
    """Facts of a subgraph's outputs, given those of its inputs. Refuses by inner node what cannot be typed."""
    if isinstance(n.node.graph, ir.Graph):
        graph.opset_imports.update(n.node.graph.opset_imports)
    facts = dict(n.outer) | dict(zip(graph.inputs, inputs, strict=True))
    facts |= {v: tensor_fact(v.const_value) for v in graph.initializers.values() if v.const_value is not None}
    g = Graph(ir.Model(graph, ir_version=10), n.symbol, n.assume, facts=facts)
    for node in graph:
        infer_node(g, node)
    return [g.facts[v] for v in graph.outputs]


def _static(node: ir.Node, g: Graph) -> list[WireFact]:
    """A node no time reaches: what the file itself says, or else what onnx infers from the facts of its inputs."""
    inferred = _by_onnx(node, g)
    out = []
    for k, v in enumerate(node.outputs):
        found = inferred.get(f"o{k}")
        if found is not None and not found.HasField("tensor_type"):
            v.type = v.type or ir.serde.deserialize_type_proto_for_type(found)
            out.append(WireFact(ir.DataType.UNDEFINED, None))
            continue
        shape = None if found is None else _shape(found, g, node, v)
        if v.shape is not None and all(isinstance(d, int) for d in v.shape):
            shape = tuple(int(d) for d in v.shape)  # type: ignore[arg-type]
        dtype = v.dtype
        if dtype is None and found is not None and found.tensor_type.elem_type:
            dtype = ir.DataType(found.tensor_type.elem_type)
        if dtype is None:
            first = next((g.facts[i] for i in node.inputs if i is not None), None)
            dtype = first.dtype if first is not None else ir.DataType.FLOAT
        out.append(WireFact(dtype, shape))
    return out


def _by_onnx(node: ir.Node, g: Graph) -> dict[str, onnx.TypeProto]:
    """Output types by ``o<k>``, from onnx's own shape inference; empty where it cannot tell."""
    if subgraphs(node):
        return _with_subgraphs(node, g)
    found = _isolated(node, g)
    if found is None:
        return {}
    proto, types, arrays = found
    data = {name: onnx.numpy_helper.from_array(array) for name, array in arrays.items()}
    version = g.graph.opset_imports.get(node.domain, 1)
    try:
        schema = onnx.defs.get_schema(node.op_type, version, node.domain)
        imports = [onnx.helper.make_opsetid(d, v) for d, v in g.graph.opset_imports.items()]
        return onnx.shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports)
    except (onnx.defs.SchemaError, onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}


def _isolated(node: ir.Node, g: Graph) -> tuple[onnx.NodeProto, dict[str, onnx.TypeProto], dict[str, np.ndarray]] | None:
    """The node with inputs ``i<k>`` and outputs ``o<k>``, the types of its inputs and what is known of them; None where
    an input is no tensor onnx could be told of."""
    types, data = {}, {}
    for k, v in enumerate(node.inputs):
        fact = g.fact(v)
        if v is None or fact is None:
            continue
        if fact.dtype == ir.DataType.UNDEFINED:
            if v.type is None or isinstance(v.type, ir.TensorType):
                return None
            types[f"i{k}"] = ir.serde.serialize_type(v.type)
            continue
        dims = None if fact.shape is None else [d if isinstance(d, int) else str(d) for d in fact.shape]
        types[f"i{k}"] = onnx.helper.make_tensor_type_proto(int(fact.dtype), dims)
        array = _known(fact)
        if array is not None:
            data[f"i{k}"] = array
    proto = onnx.NodeProto()
    proto.CopyFrom(ir.to_proto(node))
    names = [f"i{k}" if v is not None else "" for k, v in enumerate(node.inputs)]
    del proto.input[:], proto.output[:]
    proto.input.extend(names)
    proto.output.extend(f"o{k}" for k in range(len(node.outputs)))
    return proto, types, data


def _complaint(g: Graph, node: ir.Node) -> str | None:
    """What onnx has against the node itself; None where it finds nothing wrong, or cannot tell."""
    found = None if node.domain or subgraphs(node) else _isolated(node, g)
    if found is None:
        return None
    from pulsify.ops._malformed import complaint

    proto, types, data = found
    facts = {f"i{k}": f for k, v in enumerate(node.inputs) if v is not None and (f := g.fact(v)) is not None}
    return complaint(proto, types, data, facts, g.graph.opset_imports, g.symbol)


def _with_subgraphs(node: ir.Node, g: Graph) -> dict[str, onnx.TypeProto]:
    """The same for a node whose subgraphs read wires by name: they are inputs of a model of this node alone."""
    inputs = []
    for v in dict.fromkeys((*node.inputs, *captured(node))):
        fact = g.facts.get(v) if v is not None else None
        if v is None or fact is None or fact.dtype == ir.DataType.UNDEFINED:
            continue
        dims = None if fact.shape is None else [d if isinstance(d, int) else str(d) for d in fact.shape]
        inputs.append(onnx.helper.make_tensor_value_info(v.name or "", int(fact.dtype), dims))
    outputs = [onnx.ValueInfoProto(name=v.name) for v in node.outputs if v.name]
    graph = onnx.helper.make_graph([ir.to_proto(node)], "node", inputs, outputs)
    imports = [onnx.helper.make_opsetid(d, v) for d, v in g.graph.opset_imports.items()]
    try:
        typed = onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph, opset_imports=imports))
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return {}
    found = {o.name: o.type for o in typed.graph.output if o.type.WhichOneof("value") is not None}
    return {f"o{k}": found[v.name] for k, v in enumerate(node.outputs) if v.name in found}


def _known(fact: WireFact) -> np.ndarray | None:
    """A small constant as numpy."""
    if fact.const is not None and fact.const.size <= MAX_ELEMS:
        return fact.array()
    elems = fact.elems()
    if elems is None or not isinstance(fact.value, Elems) or not fact.value.constant:
        return None
    return elems.astype(fact.dtype.numpy())


def _shape(found: onnx.TypeProto, g: Graph, node: ir.Node, value: ir.Value) -> Shape | None:
    """The inferred shape: numbers, dimensions of inputs, and one named after the wire where neither is known."""
    if not found.tensor_type.HasField("shape"):
        return None
    known = {str(d): d for v in (*node.inputs, *captured(node)) if v in g.facts for d in (g.facts[v].shape or ())}
    out: list[DimLike] = []
    for d in found.tensor_type.shape.dim:
        if d.HasField("dim_value"):
            out.append(d.dim_value)
        elif d.dim_param in known:
            out.append(known[d.dim_param])
        else:
            out.append(sym(re.sub(r"\W", "_", f"{value.name}_{len(out)}")))
    return tuple(out)
