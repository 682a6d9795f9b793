"""Verification of types onnxruntime has no kernels or arrays for: the float32 twins of both models are compared."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from pulsify.api import convert
from pulsify.errors import VerificationError
from pulsify.stages._twin import float32_twin, odd_types
from pulsify.stages.verify import verify
from tests.graphs import G


def network(dtype: str) -> onnx.ModelProto:
    """A convolution in that type between casts, and a running sum."""
    kind = getattr(TensorProto, dtype)
    g = G(opset=22)
    x = g("Cast", g.input("x", [1, 2, "S"]), to=kind)
    w = g.weight(3, 2, 3, dtype=helper.tensor_dtype_to_np_dtype(kind))
    y = g("Cast", g("Tanh", g("Conv", x, w, pads=[2, 0])), to=TensorProto.FLOAT)
    return g.model(y, g("CumSum", y, g.const(2, np.int64)))


@pytest.mark.parametrize("dtype", ["BFLOAT16", "DOUBLE"])
def test_the_twin_is_compared(dtype: str) -> None:
    done = convert(network(dtype), axis="S", pulse=2)
    report = done.verify()
    assert report.stood_in_for == [{"BFLOAT16": "bfloat16", "DOUBLE": "double"}[dtype]]
    assert report.lengths and report.worst <= 1e-5


def test_the_twin_sees_a_wrong_model() -> None:
    done = convert(network("BFLOAT16"), axis="S", pulse=2)
    pulsed = done.model
    (weight,) = (t for t in pulsed.graph.initializer if t.data_type == TensorProto.BFLOAT16 and len(t.dims) == 3)
    weight.CopyFrom(onnx.numpy_helper.from_array(0 * onnx.numpy_helper.to_array(weight), weight.name))
    with pytest.raises(VerificationError, match="disagrees with the batch model"):
        verify(done.source, done.batch, pulsed.SerializeToString())


def test_a_twin_is_float32_all_over() -> None:
    model = ir.from_proto(network("BFLOAT16"))
    assert odd_types(model) == {"bfloat16"}
    assert not odd_types(float32_twin(model)) and odd_types(model) == {"bfloat16"}
