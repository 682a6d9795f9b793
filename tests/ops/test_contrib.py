"""onnxruntime's own operators: activations, fused convolutions and products, skip normalisations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.errors import Refusal
from pulsify.ops._rule import registry
from tests.contexts import batches, contexts, pulses, verify
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

MS = "com.microsoft"


@pytest.mark.parametrize("name", ["Gelu", "QuickGelu", "FastGelu", "ScaledSiLU", "BiasGelu", "biased FastGelu"])
@given(context=contexts, batch=batches, at=pulses())
@examples(5)
def test_activations(name: str, context: str, batch: Any, at: Any) -> None:
    def op(g: G, x: str) -> str:
        bias = [g.weight(4)] if "ias" in name else []
        return g(name.split()[-1], x, *bias, domain=MS)

    # Padding of another operator is not announced through these: a frame or two later than it could be.
    verify(op, [batch, "S", 4], context, at, axis=1, least=context != "early")


@given(
    activation=st.sampled_from([("Relu", None), ("Tanh", None), ("Sigmoid", None), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.5])]),
    pads=st.sampled_from([[0, 0], [2, 0], [1, 1]]), stride=st.sampled_from([1, 2]), context=contexts, batch=batches,
    at=pulses(),
)  # fmt: skip
@examples(15)
def test_fused_conv(activation: Any, pads: Any, stride: int, context: str, batch: Any, at: Any) -> None:
    name, parameters = activation
    more = {} if parameters is None else {"activation_params": parameters}

    def op(g: G, x: str) -> str:
        w, b = g.weight(4, 3, 3), g.weight(4)
        return g("FusedConv", x, w, b, domain=MS, activation=name, pads=pads, strides=[stride], **more)

    # A clipped or rectified output may not move with its last input.
    verify(op, [batch, 3, "S"], context, at, multiple=stride, least=False)


def test_a_sum_fused_into_a_conv() -> None:
    def op(g: G, x: str) -> str:
        return g("FusedConv", x, g.weight(3, 3, 1), g.weight(3), x, domain=MS, activation="Relu")

    with pytest.raises(Refusal, match="it adds a stream to its result"):
        verify(op, [1, 3, "S"])


@given(
    left=st.booleans(), a=st.sampled_from([0, 1]), b=st.sampled_from([0, 1]), name=st.sampled_from(["FusedMatMul", "TransposeMatMul"]),
    context=contexts, batch=batches, at=pulses(),
)  # fmt: skip
@examples(20)
def test_fused_matmul(left: bool, a: int, b: int, name: str, context: str, batch: Any, at: Any) -> None:
    """The stream on either side, each operand transposed or not."""

    def op(g: G, x: str) -> str:
        turned = g("Transpose", x, perm=[0, 2, 1])
        if left:  # weights [5, 4] @ [4, S]
            w = g.weight(4, 5) if a else g.weight(5, 4)
            y = g(name, w, x if b else turned, domain=MS, transA=a, transB=b, alpha=0.5)
            return g("Transpose", y, perm=[0, 2, 1])
        w = g.weight(5, 4) if b else g.weight(4, 5)
        return g(name, turned if a else x, w, domain=MS, transA=a, transB=b, alpha=0.5)

    verify(op, [batch, "S", 4], context, at, axis=1)


def test_against_a_static_operand() -> None:
    g = G()
    x, y = g.input("x", ["S", 4]), g.input("y", [1, 6, 4])
    check(g.model(g("FusedMatMul", x, y, domain=MS, transB=1)))


def test_time_contracted_is_refused() -> None:
    g = G()
    x = g.input("x", [1, "S", 4])
    with pytest.raises(Refusal, match=r"FusedMatMul node .* on axis 1\n  why:  it sums over time"):
        check(g.model(g("FusedMatMul", x, x, domain=MS, transA=1)))


@pytest.mark.parametrize("trans", [0, 1])
def test_fused_gemm(trans: int) -> None:
    def op(g: G, x: str) -> str:
        w = g.weight(5, 4) if trans else g.weight(4, 5)
        return g("FusedGemm", x, w, g.weight(5), domain=MS, activation="Relu", transB=trans)

    verify(op, ["S", 4], "padded", axis=0, least=False)


@given(simple=st.booleans(), output=st.sampled_from([0, 3]), context=contexts, batch=batches, at=pulses())
@examples(15)
def test_skip_normalisation(simple: bool, output: int, context: str, batch: Any, at: Any) -> None:
    """Two streams of different delay meet in it; its fourth output is their sum."""
    name = "SkipSimplifiedLayerNormalization" if simple else "SkipLayerNormalization"

    def op(g: G, x: str, skip: str) -> str:
        more = [g.weight(4)] if simple else [g.weight(4), g.weight(4)]
        outs = g(name, x, skip, g.weight(4), *more, domain=MS, n=4)
        return outs[output]

    verify(op, [batch, "S", 4], context, at, axis=1, inputs=2)


def test_normalisation_over_time_is_refused() -> None:
    op = "SkipLayerNormalization"
    with pytest.raises(Refusal, match=rf"{op} node .* on axis 2\n  why:  it normalises over time"):
        verify(lambda g, x: g(op, x, x, g.weight(4), domain=MS), [1, 3, "S"])


REFUSED = sorted(op for (domain, op), rule in registry().items() if domain == MS and rule.status == "refused")


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    g = G()
    x = g.input("x", [1, "S", 4])
    with pytest.raises(Refusal, match=rf"cannot pulsify {name} node 'n_.*' on axis 1\n  why:  \w(.|\n)*  try:  \w"):
        check(g.model(g(name, x, x, x, domain=MS)))


def test_unknown_operators_are_refused_by_name() -> None:
    g = G()
    x = g.input("x", ["S", 4])
    with pytest.raises(Refusal, match=r"the operator com\.microsoft::CDist is not known to this version"):
        check(g.model(g("CDist", x, x, domain=MS)))
