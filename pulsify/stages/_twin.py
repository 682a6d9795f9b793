"""The float32 twin of a model in bfloat16 or float64, for what onnxruntime has no kernels or no arrays for.

Constants, casts and declared types are float32 instead; nothing else changes. A batch model and its pulsed form agree
frame by frame if and only if their twins compute the same sums of the same frames.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from pulsify import contract
from pulsify.graph import subgraphs

__all__ = ["float32_twin", "odd_types"]

_ODD = {ir.DataType.BFLOAT16, ir.DataType.DOUBLE}

#: Attributes that hold a data type.
_TYPES = {"to", "dtype", "output_datatype"}


def odd_types(model: ir.Model) -> set[str]:
    """Names of the types a twin replaces that the model's inputs, outputs or weights have."""
    found = {v.dtype for v in (*model.graph.inputs, *model.graph.outputs)}
    found |= {v.const_value.dtype for v in model.graph.initializers.values() if v.const_value is not None}
    return {d.name.lower() for d in found if d in _ODD}


def float32_twin(model: ir.Model) -> ir.Model:
    """A copy in float32. The manifest of a pulsed model says so, too."""
    twin = model.clone()
    for graph in _graphs(twin):
        for v in graph.initializers.values() if isinstance(graph, ir.Graph) else ():
            if v.const_value is not None and v.const_value.dtype in _ODD:
                v.const_value = _single(v.const_value)
                v.type = ir.TensorType(ir.DataType.FLOAT)
        for v in graph.inputs:
            _retype(v)
        for node in graph:
            for name, a in list(node.attributes.items()):
                if a.type == ir.AttributeType.TENSOR and a.as_tensor().dtype in _ODD:
                    node.attributes[name] = ir.AttrTensor(name, _single(a.as_tensor()))
                elif name in _TYPES and a.type == ir.AttributeType.INT and a.as_int() in {int(d) for d in _ODD}:
                    node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
            for v in node.outputs:
                _retype(v)
    text = twin.metadata_props.get(contract.KEY)
    if text is not None:
        for d in _ODD:
            text = text.replace(f'"dtype": "{_NUMPY[d]}"', '"dtype": "float32"').replace(f'"dtype":"{_NUMPY[d]}"', '"dtype":"float32"')
        twin.metadata_props[contract.KEY] = text
    return twin


_NUMPY = {ir.DataType.BFLOAT16: "bfloat16", ir.DataType.DOUBLE: "float64"}


def _graphs(model: ir.Model) -> Iterator[ir.Graph | ir.Function]:
    """The graph, the functions and all their subgraphs."""
    todo: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
    while todo:
        graph = todo.pop()
        yield graph
        todo.extend(inner for node in graph for inner in subgraphs(node))


def _single(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(np.asarray(tensor.numpy()).astype(np.float32), name=tensor.name)


def _retype(v: ir.Value) -> None:
    if v.dtype in _ODD:
        v.type = ir.TensorType(ir.DataType.FLOAT)
