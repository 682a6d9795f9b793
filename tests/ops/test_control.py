"""If with a condition known when converting; refused otherwise."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pulsify.errors import Refusal
from tests.contexts import batches, contexts, pulses, verify
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


def branch(nodes: list[onnx.NodeProto], *outputs: str, **tensors: Any) -> onnx.GraphProto:
    infos = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
    inits = [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in tensors.items()]
    return helper.make_graph(nodes, "branch", [], infos, inits)


def node(op: str, inputs: list[str], *outputs: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, list(outputs), **attributes)


def longer(g: G, x: str, than: int, axis: int = 2) -> str:
    """Whether x is longer than so many frames: known, being a stream."""
    return g("Greater", g("Gather", g("Shape", x), g.const(axis, np.int64)), g.const(than, np.int64))


def either(g: G, x: str, condition: str, taken: bool = True) -> str:
    """A padded convolution if taken, else something that cannot stream."""
    w = g.weight(2, 2, 3)
    good = branch(
        [node("Conv", [x, w], "conv", pads=[1, 1]), node("Mul", ["conv", "two"], "good")], "good", two=[2.0]
    )
    bad = branch([node("ReduceMean", [x], "mean"), node("Sub", [x, "mean"], "bad")], "bad")
    first, second = (good, bad) if taken else (bad, good)
    return g("If", condition, then_branch=first, else_branch=second)


@given(context=contexts, at=pulses(), batch=batches, how=st.sampled_from(["constant", "not", "shape", "channels"]))
@examples(20)
def test_decided(context: str, at: Any, batch: Any, how: str) -> None:
    def op(g: G, x: str) -> str:
        if how == "constant":
            return either(g, x, g.const(True))
        if how == "not":
            return either(g, x, g("Not", g.const([True])), taken=False)
        return either(g, x, longer(g, x, 1, 2 if how == "shape" else 1))

    verify(op, [batch, 2, "S"], context, at, least=how != "shape")


def test_outputs_and_nesting() -> None:
    """Several outputs, constants among them; an If inside a branch; inner names that clash with each other."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    c = longer(g, x, 0)
    z = [[1], [3]]
    inner = branch([node("Neg", [x], "t"), node("Abs", ["t"], "u"), node("Constant", [], "k", value_floats=[1.0, 2.0])],
                   "t", "u", "k", "z", z=z)  # fmt: skip
    other = branch([node("Abs", [x], "t"), node("Neg", ["t"], "u")], "t", "u", "k", "z", k=[1, 2], z=z)
    nested = branch([node("If", [c], "a", "b", "k", "z", then_branch=inner, else_branch=other, name="same")], "a", "b", "k", "z")
    plain = branch([node("Identity", [x], "a"), node("Identity", [x], "b")], "a", "b", "k", "z", k=[5, 7], z=z)
    a, b, k, w = g("If", c, n=4, then_branch=nested, else_branch=plain)
    t = g("Mul", g("Mul", b, g("Unsqueeze", k, g.ints(0, 2))), g("Unsqueeze", w, g.ints(0)))
    check(g.model(a, b, t))


def test_static_choice_stays() -> None:
    """A condition that only running tells chooses between static tensors."""
    g = G()
    x, flag = g.input("x", [1, 2, "S"]), g.input("flag", [1], TensorProto.BOOL)
    first = branch([node("Mul", [g.const(np.float32([1, 2])), "two"], "a")], "a", two=[2.0])
    second = branch([node("Identity", ["b0"], "b")], "b", b0=[5, 7])
    chosen = g("If", flag, then_branch=first, else_branch=second)
    check(g.model(g("Mul", x, g("Unsqueeze", chosen, g.ints(0, 2)))))


def test_undecided_is_refused() -> None:
    g = G()
    x, flag = g.input("x", [1, 2, "S"]), g.input("flag", [1], TensorProto.BOOL)
    with pytest.raises(Refusal) as e:
        check(g.model(either(g, x, flag)))
    assert "cannot pulsify If node" in str(e.value)
    assert "its condition 'flag' is not known when the model is converted, and its branches read 'x'" in str(e.value)
    assert "try:  --bind flag=VALUE: the condition depends on that input" in str(e.value)


def test_condition_from_data_is_refused() -> None:
    g = G()
    x = g.input("x", [1, 2, "S"])
    loud = g("Greater", g("ReduceMax", x, keepdims=0), g.const(0.0, np.float32))
    with pytest.raises(Refusal):
        check(g.model(either(g, x, loud)))
