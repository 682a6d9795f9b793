"""Equal nodes are one, and so is what they remember."""

from __future__ import annotations

from collections import Counter
from typing import Any

from onnx import TensorProto, helper

from pulsify.api import Conversion, convert
from tests.contract_check import check
from tests.graphs import G


def ops(c: Conversion) -> Counter[str]:
    return Counter(n.op_type for n in c.graph.graph)


def test_an_activation_written_for_every_branch() -> None:
    """Three copies behind each other's backs, a chain of two each: one chain, one history for all convolutions."""
    g = G()
    x = g.input("x", ["N", 2, "S"])

    def branch(kernel: int) -> Any:
        y = g("LeakyRelu", g("Sin", x), alpha=0.25)
        return g("Conv", y, g.weight(2, 2, kernel), pads=[kernel - 1, 0])

    model = g.model(g("Add", g("Add", branch(2), branch(3)), branch(4)))
    c = check(model, "S", [1, 3])
    assert ops(c)["LeakyRelu"] == ops(c)["Sin"] == 1
    assert [s["shape"] for s in c.manifest["states"]] == [["N", 2, 3]]


def test_what_differs_stays_apart() -> None:
    """Attributes, inputs, their order, operators; and what two outputs are called."""
    g = G()
    x, k = g.input("x", [1, 2, "S"]), g.input("k", [1, 2, 1])
    a, b = g("LeakyRelu", x, alpha=0.25), g("LeakyRelu", x, alpha=0.5)
    c, d = g("Sub", x, k), g("Sub", k, x)
    e, f = g("Tanh", x), g("Tanh", x)
    model = g.model(g("Add", g("Add", a, b), g("Add", c, d)), e, f)
    assert ops(convert(model, axis="S", pulse=2)) == Counter(LeakyRelu=2, Sub=2, Tanh=2, Add=3)
    check(model, "S", [2])


def test_equal_constants_are_one_input() -> None:
    g = G()
    x = g.input("x", [1, 2, "S"])
    a, b = (g("Mul", x, g.const([[[0.5], [2.0]]], "float32")) for _ in range(2))
    other = g("Mul", x, g.const([[[0.5], [3.0]]], "float32"))
    assert ops(convert(g.model(g("Sum", a, b, other)), axis="S", pulse=1)) == Counter(Mul=2, Sum=1)


def test_subgraphs_are_not_compared() -> None:
    g = G()
    x, k, flag = g.input("x", [1, 2, "S"]), g.input("k", [1, 2, 1]), g.input("flag", [], TensorProto.BOOL)

    def branch(op: str) -> Any:
        node = helper.make_node(op, [k], ["inner"])
        return helper.make_graph([node], op, [], [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)])

    a, b = (g("If", flag, then_branch=branch(op), else_branch=branch("Neg")) for op in ("Abs", "Relu"))
    assert ops(convert(g.model(g("Sum", x, a, b)), axis="S", pulse=2))["If"] == 2
