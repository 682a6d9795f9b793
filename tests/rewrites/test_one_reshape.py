"""Of nodes that only say how the same numbers are shaped, the last one tells."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify import StreamSession
from pulsify.api import convert
from tests.contexts import pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


@given(data=st.data())
@examples(40)
def test_axes_that_come_and_go(data: st.DataObject) -> None:
    """Axes of length 1 appear and vanish, some of it read in between, in front of outputs and between other layers."""
    g = G(seed=0)
    y = g("Tanh", g.input("x", [data.draw(st.sampled_from([1, "N"])), 3, "S"]))
    rank, seen = 3, [y]
    for _ in range(data.draw(st.integers(1, 6), "steps")):
        if rank > 3 and data.draw(st.booleans(), "vanish"):
            rank -= 1
            y = g("Squeeze", y, g.ints(1))
        else:
            rank += 1
            y = g("Unsqueeze", y, g.ints(1))
        seen.append(y)
    z = g("Neg", y) if data.draw(st.booleans(), "layer behind") else y
    outputs = [z, *([v] if (v := data.draw(st.sampled_from(seen), "read as well")) != z else [])]
    check(g.model(*outputs), pulses=data.draw(pulses()))


@pytest.mark.parametrize("batch", [1, "N"])
def test_reshapes_behind_each_other(batch: int | str) -> None:
    g = G()
    x = g("Sigmoid", g.input("x", [batch, "S", 12]))
    y = g("Reshape", g("Reshape", x, g.ints(0, 0, 3, 4)), g.ints(0, 0, 2, 6))
    same = g("Reshape", g("Reshape", x, g.ints(0, 0, 4, 3)), g.ints(0, 0, 12))
    c = check(g.model(g("Tanh", y), g("Exp", same)), pulses=(1, 4))
    assert [n.op_type for n in c.model.graph.node].count("Reshape") == 1


def test_axes_that_vanish_by_themselves() -> None:
    """A Squeeze without axes leaves a summary of one recording without the batch's axis, as the batch model does."""
    g = G()
    y = g("Relu", g("Add", g("MatMul", g("ReduceMax", g.input("x", ["N", "S", 4]), g.ints(1)), g.weight(4, 2)), g.weight(2)))
    model = g.model(g("Squeeze", y))
    c = convert(model, axis="S", pulse=2)
    assert {"Gemm", "Squeeze"} <= {n.op_type for n in c.model.graph.node}
    x = np.random.default_rng(0).standard_normal((1, 6, 4)).astype(np.float32)
    stream = StreamSession(c.model.SerializeToString())
    stream.feed(x=x)
    (got,) = stream.finish().values()
    np.testing.assert_allclose(got, ort.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0], atol=1e-6)
