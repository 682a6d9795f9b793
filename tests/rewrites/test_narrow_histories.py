"""Quantised networks as exporters write them, operators between dequantised and quantised wires, remember narrow numbers."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.api import convert
from tests.contexts import pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


class Quantised:
    """Every wire is quantised and dequantised again, per reader, as ``quantize_static`` does it."""

    def __init__(self, dtype: Any, zero: int, seed: int = 0):
        self.g, self.dtype, self.zero = G(seed=seed), dtype, zero

    def narrow(self, wire: str, scale: float = 0.031) -> str:
        return self.g("QuantizeLinear", wire, self.g.const(scale, np.float32), self.g.const(self.zero, self.dtype))

    def wide(self, q: str, scale: float = 0.031) -> str:
        return self.g("DequantizeLinear", q, self.g.const(scale, np.float32), self.g.const(self.zero, self.dtype))

    def weight(self, *shape: int) -> str:
        values = self.g.const(self.g.rng.integers(-90, 91, shape), np.int8)
        return self.g("DequantizeLinear", values, self.g.const(self.g.rng.uniform(0.002, 0.004, shape[0]), np.float32), self.g.const(np.zeros(shape[0]), np.int8), axis=0)

    def conv(self, q: str, channels: int, kernel: int, pads: list[int], **attributes: Any) -> str:
        group = attributes.get("group", 1)
        return self.g("Conv", self.wide(q), self.weight(channels, channels // group, kernel), pads=pads, **attributes)


def fused(model: bytes) -> Counter[str]:
    """What onnxruntime makes of a model."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.optimized_model_filepath, options.log_severity_level = str(Path(folder) / "fused.onnx"), 3
        ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return Counter(n.op_type for n in onnx.load(options.optimized_model_filepath).graph.node)


@given(data=st.data())
@examples(40)
def test_quantised_layers(data: st.DataObject) -> None:
    """Causal and looking ahead, strided, dilated, depthwise, with a residual connection, pooled."""
    dtype, zero = data.draw(st.sampled_from([(np.uint8, 128), (np.uint8, 113), (np.uint8, 0), (np.int8, 0), (np.int8, -7)]), "type")
    n = Quantised(dtype, zero, data.draw(st.integers(0, 3), "seed"))
    q = n.narrow(n.g.input("x", [data.draw(st.sampled_from([1, "N"])), 4, "S"]))
    strided = 1
    for _ in range(data.draw(st.integers(1, 3), "layers")):
        kind = data.draw(st.sampled_from(["conv", "residual", "pool", "strided", "depthwise", "beside"]), "kind")
        k, d = data.draw(st.integers(1, 3), "kernel"), data.draw(st.integers(1, 2), "dilation")
        before = data.draw(st.integers(0, (k - 1) * d), "before")
        pads = [before, (k - 1) * d - before]
        if kind == "pool":
            y = n.g("MaxPool", n.wide(q), kernel_shape=[k], pads=[min(before, k - 1), 0])
        elif kind == "beside":
            y = n.g("Concat", n.wide(q), n.conv(q, 4, k, pads, dilations=[d]), axis=1)
            y = n.g("Slice", y, n.g.ints(2), n.g.ints(6), n.g.ints(1))
        else:
            y = n.conv(q, 4, k, pads, dilations=[d], group=4 if kind == "depthwise" else 1, strides=[2 if kind == "strided" else 1])
        strided *= 2 if kind == "strided" else 1
        if kind == "residual":
            y = n.g("Add", n.wide(n.narrow(y)), n.wide(q))
        elif data.draw(st.booleans(), "activation"):
            y = n.g("Relu", y)
        q = n.narrow(y)
    check(n.g.model(n.wide(q)), pulses=[p if p == "P" else int(p) * strided for p in data.draw(pulses())])


@pytest.mark.parametrize(("dtype", "zero"), [(np.uint8, 128), (np.uint8, 0), (np.int8, 0)])
def test_as_many_integer_kernels_as_in_batch(dtype: Any, zero: int) -> None:
    """Three layers, padded in front and on both sides: convolutions of integers, and a fourth of the bytes."""
    n = Quantised(dtype, zero)
    q = n.narrow(n.g.input("x", [1, 8, "S"]))
    for pads in ([2, 0], [1, 1], [2, 0]):
        q = n.narrow(n.conv(q, 8, 3, pads))
    model = n.g.model(n.wide(q))
    c = check(model, pulses=(1, 4, "P"))
    assert fused(c.model.SerializeToString())["QLinearConv"] == fused(model.SerializeToString())["QLinearConv"]
    assert {s["dtype"] for s in c.manifest["states"] if s["kind"] == "buffer"} == {"uint8"}
    assert (Counter(v.op_type for v in c.model.graph.node)["BitwiseXor"] > 0) == (dtype == np.int8 or zero != 0)


def test_one_history_for_all_readers() -> None:
    """Every reader dequantises for itself; what is remembered is one wire."""
    n = Quantised(np.uint8, 128)
    q = n.narrow(n.g.input("x", [1, 4, "S"]))
    c = check(n.g.model(*(n.wide(n.narrow(n.conv(q, 4, k, [k - 1, 0]))) for k in (2, 3, 5))), pulses=(1, 4))
    assert [s["shape"] for s in c.manifest["states"]] == [[1, 4, 4]]
    assert c.manifest["state_bytes"] == 16


def test_zero_points_of_their_own() -> None:
    """Per channel there is no one number that is 0.0: such a history stays as wide as it is."""
    n = Quantised(np.uint8, 128)
    scale, zero = n.g.const(np.full(4, 0.031), np.float32), n.g.const([1, 2, 3, 4], np.uint8)
    q = n.g("QuantizeLinear", n.g.input("x", [1, 4, "S"]), scale, zero, axis=1)
    y = n.g("Conv", n.g("DequantizeLinear", q, scale, zero, axis=1), n.g.weight(4, 4, 3), pads=[2, 0])
    assert {s["dtype"] for s in check(n.g.model(y), pulses=(1, 4)).manifest["states"]} == {"float32"}


def test_windows_without_padding_need_no_zero_point() -> None:
    n = Quantised(np.uint8, 128)
    q = n.narrow(n.g.input("x", [1, 4, "S"]))
    c = convert(n.g.model(n.wide(n.narrow(n.conv(q, 4, 3, [0, 0])))), axis="S", pulse=4)
    c.verify()
    assert "BitwiseXor" not in {v.op_type for v in c.model.graph.node}
