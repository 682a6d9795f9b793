"""A builder of ONNX models for the scripts here: named nodes, and weights that keep the size of what they are applied to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Builder"]


class Builder:
    """One graph of float32 wires. ``b("Relu", b.conv(x, 8, 16, 3))`` adds two nodes and gives the name of the last wire.

    Weights are normal with variance ``gain / fan-in`` (He et al., 2015, for the gain of 2 that suits a ReLU), so that
    a deep network neither fades nor overflows. The same seed gives the same model.
    """

    def __init__(self, seed: int = 0, gain: float = 1.0):
        self._rng = np.random.default_rng(seed)
        self._gain = gain
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def __call__(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; the name of its first output."""
        return self.many(op, *inputs, outputs=1, **attributes)[0]

    def many(self, op: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node of several outputs; their names."""
        name = f"{op.lower()}_{len(self._nodes)}"
        out = [name, *(f"{name}.{i}" for i in range(1, outputs))]
        self._nodes.append(helper.make_node(op, list(inputs), out, name=name, **attributes))
        return out

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """An initializer of that value."""
        name = f"c_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def ints(self, *values: int) -> str:
        """A vector of integers."""
        return self.constant(values, np.int64)

    def weight(self, *shape: int, fan: int = 0) -> str:
        """Random weights; ``fan`` is the number of values summed up (the product of all axes but the first if 0)."""
        spread = np.sqrt(self._gain / (fan or int(np.prod(shape[1:]))))
        return self.constant(self._rng.standard_normal(shape) * spread)

    def bias(self, size: int) -> str:
        """Small random numbers."""
        return self.constant(self._rng.standard_normal(size) * 0.1)

    def conv(self, x: str, into: int, out: int, *kernel: int, **attributes: Any) -> str:
        """A convolution with a bias."""
        return self("Conv", x, self.weight(out, into, *kernel), self.bias(out), **attributes)

    def conv_transpose(self, x: str, into: int, out: int, *kernel: int, **attributes: Any) -> str:
        """A transposed convolution with a bias; a frame of its output sums ``kernel / strides`` frames of each channel."""
        fan = into * int(np.prod(kernel)) // int(np.prod(attributes.get("strides", [1])))
        return self("ConvTranspose", x, self.weight(into, out, *kernel, fan=max(1, fan)), self.bias(out), **attributes)

    def model(self, name: str, inputs: dict[str, Sequence[int | str]], outputs: dict[str, Sequence[int | str]]) -> onnx.ModelProto:
        """The model, from the shapes of its inputs and of the wires it gives out."""
        ends = [
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(shape)) for n, shape in group.items()]
            for group in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, name, *ends, self._weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
