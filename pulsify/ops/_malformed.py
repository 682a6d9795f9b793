"""Whose fault it is when a shape law fails: onnx's own word on the node.

The checker says whether attributes and inputs are those of the operator; type inference, whether shapes fit; the
reference implementation, run on zeros of a few lengths, whether anything can be computed at all. A node that all three
accept is well formed, and the law is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from pulsify.dim import evaluate, symbols_of
from pulsify.facts import WireFact

__all__ = ["complaint"]

#: Lengths of time at which the node is tried; other symbols are 2.
_LENGTHS = (64, 127)

#: Elements of an input tried at most.
_MOST = 1 << 20


def complaint(
    proto: onnx.NodeProto, types: Mapping[str, onnx.TypeProto], data: Mapping[str, np.ndarray], facts: Mapping[str, WireFact],
    versions: Mapping[str, int], symbol: str,
) -> str | None:  # fmt: skip
    """What onnx has against a node, or None. ``types``, ``data`` and ``facts`` are those of its inputs, by name."""
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in versions.items()]
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = 10, dict(versions)
    try:
        onnx.checker.check_node(proto, context)
        schema = onnx.defs.get_schema(proto.op_type, versions.get(proto.domain, 1), proto.domain)
        known = {k: onnx.numpy_helper.from_array(v) for k, v in data.items()}
        onnx.shape_inference.infer_node_outputs(schema, proto, dict(types), known, opset_imports=imports)
    except onnx.defs.SchemaError:
        return None
    except Exception as e:
        return _first_line(e)
    return next((said for s in _LENGTHS if (said := _run(proto, data, facts, imports, {symbol: s}))), None)


def _run(
    proto: onnx.NodeProto, data: Mapping[str, np.ndarray], facts: Mapping[str, WireFact], imports: list[onnx.OperatorSetIdProto],
    lengths: Mapping[str, int],
) -> str | None:  # fmt: skip
    feeds = {}
    for name, fact in facts.items():
        if name in data:
            feeds[name] = data[name]
            continue
        if fact.shape is None:
            return None
        env = {s: 2 for d in fact.shape for s in symbols_of(d)} | dict(lengths)
        shape = [int(evaluate(d, env)) for d in fact.shape]
        if min(shape, default=1) < 0 or np.prod(shape, dtype=float) > _MOST:
            return None
        feeds[name] = np.zeros(shape, fact.dtype.numpy())
    inputs = [onnx.helper.make_tensor_value_info(name, int(facts[name].dtype), None) for name in feeds]
    outputs = [onnx.ValueInfoProto(name=name) for name in proto.output if name]
    try:
        graph = onnx.helper.make_graph([proto], "node", inputs, outputs)
        evaluator = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=imports))
    except Exception:
        return None  # the reference implementation does not know the operator
    try:
        evaluator.run(None, feeds)
    except (NotImplementedError, MemoryError):
        return None
    except Exception as e:
        return f"{type(e).__name__}: {_first_line(e)}"
    return None


def _first_line(e: BaseException) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[0]
