"""An activation behind frames cut out of one row comes before the cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.rewrites._row_form import ACTIVATIONS
from tests.contexts import pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


def after(model: object, op: str) -> list[str]:
    """Who reads what an operator makes."""
    nodes = model.graph.node  # type: ignore[attr-defined]
    made = {o for n in nodes if n.op_type == op for o in n.output}
    return [n.op_type for n in nodes if made & set(n.input)]


@pytest.mark.parametrize("op", ACTIVATIONS)
def test_behind_a_transposed_convolution(op: str) -> None:
    g = G()
    y = g("ConvTranspose", g.input("x", [1, 8, "S"]), g.weight(8, 4, 4), g.weight(4), strides=[2])
    c = check(g.model(g(op, y)), pulses=(2,))
    assert op in after(c.model, "Gemm") and "Reshape" in after(c.model, op)


def test_who_else_reads_the_frames_keeps_them() -> None:
    g = G()
    y = g("ConvTranspose", g.input("x", [1, 8, "S"]), g.weight(8, 4, 4), g.weight(4), strides=[2])
    c = check(g.model(g("Add", g("Tanh", y), y)), pulses=(2,))
    assert "Tanh" not in after(c.model, "Gemm")


@given(data=st.data())
@examples(20)
def test_stacks(data: st.DataObject) -> None:
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    y = g.input("x", [data.draw(st.sampled_from([1, "N"])), 4, "S"])
    for _ in range(data.draw(st.integers(1, 3), "layers")):
        y = g("ConvTranspose", y, g.weight(4, 4, 4), g.weight(4), strides=[2], pads=[1, 1])
        active = g(data.draw(st.sampled_from(ACTIVATIONS)), y)
        y = data.draw(st.sampled_from([active, g("Add", active, y)]))
    check(g.model(y), pulses=data.draw(pulses()))
