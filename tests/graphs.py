"""Tiny graphs for tests: a builder that names things and makes deterministic weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class G:
    """Builds one graph. ``g = G(); x = g.input("x", [1, 8, "S"]); y = g("Conv", x, g.weight(8, 8, 3)); g.model(y)``."""

    def __init__(self, seed: int = 0, opset: int = 18):
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.inits: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.opset = opset
        self._count = 0

    def name(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"

    def input(self, name: str, shape: list[Any], dtype: int = TensorProto.FLOAT) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def const(self, value: Any, dtype: Any = None) -> str:
        name = self.name("c")
        self.inits.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.const(list(values), np.int64)

    def weight(self, *shape: int, dtype: Any = np.float32) -> str:
        return self.const(self.rng.standard_normal(shape).astype(dtype) * np.asarray(0.5, dtype))

    def __call__(self, op: str, *inputs: str, n: int = 1, domain: str = "", **attributes: Any) -> Any:
        outs = [self.name(op.lower()) for _ in range(n)]
        self.nodes.append(helper.make_node(op, list(inputs), outs, name=f"n_{outs[0]}", domain=domain, **attributes))
        return outs[0] if n == 1 else outs

    def model(self, *outputs: str, **dtypes: int) -> onnx.ModelProto:
        """The model with outputs of unknown shape (so that nothing is declared that must be inferred)."""
        outs = []
        for o in outputs:
            info = onnx.ValueInfoProto()
            info.name = o
            info.type.tensor_type.elem_type = dtypes.get(o, TensorProto.FLOAT)
            outs.append(info)
        graph = helper.make_graph(self.nodes, "test", self.inputs, outs, self.inits)
        domains = {n.domain for n in self.nodes if n.domain}
        opsets = [helper.make_opsetid("", self.opset), *(helper.make_opsetid(d, 1) for d in sorted(domains))]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)
