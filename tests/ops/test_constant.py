"""Constants written as nodes, in each of their spellings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper

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
