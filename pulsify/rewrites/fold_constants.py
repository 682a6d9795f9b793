"""Fold what is known when converting: nodes over constants, and wires whose elements are all numbers.

Quantised weights stay quantised, random operators stay random, and nothing grows past 4 Mi elements by folding.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from pulsify.facts import Elems, WireFact
from pulsify.graph import Graph, tensor_fact
from pulsify.ops._rule import find
from pulsify.rewrites._edit import Editor

__all__ = ["apply", "evaluate_node"]

_KEEP = {
    "Bernoulli", "DequantizeLinear", "If", "Loop", "Multinomial", "QuantizeLinear", "RandomNormal",
    "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Scan",
}  # fmt: skip
_LARGEST = 1 << 22

#: What runtimes compute of whole numbers in double, some of them: it is folded where that makes no difference.
_IN_DOUBLE = {"Pow", "ReduceL1", "ReduceL2", "ReduceMean", "ReduceProd", "ReduceSum", "ReduceSumSquare"}
_EXACT = 2.0**53

_RECURRENT = {"LSTM", "GRU", "RNN"}
_RECURRENT_ATTRIBUTES = {"hidden_size", "direction", "layout", "linear_before_reset"}


def apply(g: Graph) -> int:
    edit = Editor(g)
    count = 0
    for node in list(g.graph):
        known = _known(g, node)
        if known is None:
            continue
        for value, tensor in zip(node.outputs, known, strict=True):
            new = edit.build.initializer(tensor, f"{value.name}.const")
            g.facts[new] = tensor_fact(tensor)
            if value.is_graph_output():
                continue
            value.replace_all_uses_with(new)
        if not any(v.is_graph_output() for v in node.outputs):
            edit.forget(node)
            count += 1
    return count


def _known(g: Graph, node: ir.Node) -> list[ir.TensorProtocol] | None:
    facts = [g.facts[v] for v in node.outputs]
    if all(isinstance(f.value, Elems) and f.value.constant for f in facts):
        return [_tensor(f) for f in facts]
    if node.op_type in _KEEP or node.domain not in ("", "ai.onnx") or find("", node.op_type) is None:
        return None
    inputs = [g.facts[v] if v is not None else None for v in node.inputs]
    if not any(f is not None for f in inputs) or any(f is not None and f.const is None for f in inputs):
        return None
    if any(f.shape is None or _size(f) > _LARGEST for f in facts):
        return None
    arrays = evaluate_node(node, [None if f is None else f.array() for f in inputs], g.graph.opset_imports)
    if arrays is None or len(arrays) != len(facts):
        return None
    if any(a.shape != f.shape or a.dtype != f.dtype.numpy() for a, f in zip(arrays, facts, strict=True)):
        return None
    if node.op_type in _IN_DOUBLE and facts[0].dtype.is_integer() and not _agrees_in_double(g, node, arrays[0]):
        return None
    return [ir.tensor(np.asarray(a, order="C"), dtype=f.dtype) for a, f in zip(arrays, facts, strict=True)]


def _agrees_in_double(g: Graph, node: ir.Node, result: np.ndarray) -> bool:
    arrays = [None if v is None else g.facts[v].array() for v in node.inputs]
    number = arrays[:1] if node.op_type != "Pow" else arrays
    wide = [None if a is None else a.astype(np.float64) for a in number] + arrays[len(number) :]
    found = evaluate_node(node, wide, g.graph.opset_imports)
    return found is not None and bool(np.all((np.trunc(found[0]) == result) & (np.abs(found[0]) < _EXACT)))


def _size(f: WireFact) -> int:
    total = 1
    for d in f.shape or ():
        if not isinstance(d, int):
            return _LARGEST + 1
        total *= d
    return total


def _tensor(f: WireFact) -> ir.TensorProtocol:
    assert isinstance(f.value, Elems)
    return ir.tensor(f.value.array.astype(f.dtype.numpy()), dtype=f.dtype)


def evaluate_node(node: ir.Node, inputs: list[np.ndarray | None], opsets: dict[str, int]) -> list[np.ndarray] | None:
    """The node's outputs for given inputs, by onnx's reference implementation; None where it has none."""
    from onnx.reference import ReferenceEvaluator

    # The reference passes over sequence_lens (input 4) and all but these attributes.
    lens = len(inputs) > 4 and inputs[4] is not None
    if node.op_type in _RECURRENT and (lens or set(node.attributes) - _RECURRENT_ATTRIBUTES):
        return None
    if node.op_type.startswith("QLinear"):
        return None  # the reference may round a tie the other way

    names = [f"i{k}" if a is not None else "" for k, a in enumerate(inputs)]
    outs = [f"o{k}" for k in range(len(node.outputs))]
    proto = onnx.NodeProto()
    proto.CopyFrom(ir.to_proto(node))
    del proto.input[:], proto.output[:]
    proto.input.extend(names)
    proto.output.extend(outs)
    graph = onnx.helper.make_graph(
        [proto],
        "node",
        [onnx.helper.make_tensor_value_info(m, onnx.TensorProto.UNDEFINED, None) for m in names if m],
        [onnx.helper.make_tensor_value_info(o, onnx.TensorProto.UNDEFINED, None) for o in outs],
    )
    imports = [onnx.helper.make_opsetid(d, v) for d, v in opsets.items()]
    try:
        run = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=imports))
        with np.errstate(all="ignore"):
            got = run.run(None, {m: a for m, a in zip(names, inputs, strict=True) if m and a is not None})
        return [np.asarray(a) for a in got]
    except Exception:  # the reference lacks some operators and types; the node then simply stays
        return None
