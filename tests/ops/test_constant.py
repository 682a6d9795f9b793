"""Constants written as nodes, in each of their spellings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from pulsify.errors import PulsifyError
from tests.contract_check import check
from tests.graphs import G

SPELLINGS: list[dict[str, Any]] = [
    {"value": numpy_helper.from_array(np.array([[0.5], [2.0]], np.float32))},
    {"value_float": 0.75},
    {"value_floats": [0.5]},
]


@pytest.mark.parametrize("attributes", SPELLINGS, ids=lambda a: next(iter(a)))
def test_a_constant_node_is_its_value(attributes: dict[str, Any]) -> None:
    g = G()
    x = g.input("x", ["N", 2, "S"])
    c = check(g.model(g("Mul", x, g("Constant", **attributes))), pulses=(1, 3, "P"))
    assert [n.op_type for n in c.model.graph.node] == ["Mul"]


def test_integers_know_their_values() -> None:
    g = G()
    x = g.input("x", ["N", 2, "S"])
    bounds = [g("Constant", value_ints=[v]) for v in (1, 2**63 - 1, 2)]
    c = check(g.model(g("Slice", x, *bounds)), pulses=(1, 3))
    assert [(o["delay"], o["length"]) for o in c.manifest["outputs"]] == [(1, "S - 1")]


def test_strings_are_no_numbers() -> None:
    g = G()
    x = g.input("x", ["N", 2, "S"])
    with pytest.raises(PulsifyError):
        check(g.model(g("Add", x, g("Constant", value_string="a"))))


#: Operator, constants and attributes: a result outside the type, or one that runtimes compute in double.
WRAPS: dict[str, tuple[str, list[np.ndarray], dict[str, Any]]] = {
    "cast to int32": ("Cast", [np.array([2**63 - 1])], {"to": TensorProto.INT32}),
    "cast to uint8": ("Cast", [np.array([-1])], {"to": TensorProto.UINT8}),
    "cast to float16": ("Cast", [np.array([2**40])], {"to": TensorProto.FLOAT16}),
    "uint8 sum": ("Add", [np.array([200], np.uint8), np.array([100], np.uint8)], {}),
    "int32 sum": ("Add", [np.array([2**30], np.int32), np.array([2**30], np.int32)], {}),
    "int32 power": ("Pow", [np.array([2**20], np.int32), np.array([2], np.int32)], {}),
    "negative": ("Neg", [np.array([-128], np.int8)], {}),
    "magnitude": ("Abs", [np.array([-128], np.int8)], {}),
    "sum": ("ReduceSum", [np.array([2**30] * 3, np.int32)], {}),
    "product": ("ReduceProd", [np.array([2**16] * 2, np.int32)], {}),
    "squares": ("ReduceSumSquare", [np.array([2**16] * 2, np.int32)], {}),
    "mean": ("ReduceMean", [np.array([-(2**62)] * 3)], {}),
}


@pytest.mark.parametrize("name", WRAPS)
def test_whole_numbers_that_leave_their_type(name: str) -> None:
    op, constants, attributes = WRAPS[name]
    g = G()
    x = g.input("x", ["N", 2, "S"])
    known = g("Cast", g(op, *(g.const(c) for c in constants), **attributes), to=TensorProto.FLOAT)
    check(g.model(g("Add", x, known)), pulses=(1,))


def test_a_constant_without_axes_keeps_its_shape() -> None:
    g = G()
    x = g.input("x", ["N", 2, "S"])
    c = check(g.model(g("Add", x, g("Sqrt", g.const(2.0, np.float32)))), pulses=(1, 3))
    assert [list(w.dims) for w in c.model.graph.initializer] == [[]]
