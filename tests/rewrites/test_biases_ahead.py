"""Biases of residual connections are carried no further where products behind them take them back."""

from __future__ import annotations

from collections import Counter
from unittest import mock

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import wavenet
from pulsify.api import convert
from pulsify.rewrites import frame_rows
from pulsify.rewrites._region import Choice
from tests.contexts import pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples
from tests.streams import on_frames


def kinds(model: onnx.ModelProto) -> Counter[str]:
    return Counter(n.op_type for n in model.graph.node)


def residual(g: G, x: str, kernel: int, dilation: int, pad: bool) -> str:
    """``x`` as far as the windows reach, plus a gated layer of it."""
    reach = (kernel - 1) * dilation
    pads = [reach, 0] if pad else [0, 0]
    h = g("Tanh", g("Conv", x, g.weight(4, 4, kernel), g.weight(4), dilations=[dilation], pads=pads))
    h = g("Conv", h, g.weight(4, 4, 1), g.weight(4))
    beside = x if pad or not reach else g("Slice", x, g.ints(reach), g.ints(2**31), g.ints(2))
    return g("Add", beside, h)


@given(data=st.data())
@examples(40)
def test_residual_layers(data: st.DataObject) -> None:
    """Windows that are whole, and padded ones; what comes out at the end, and what others read, is what it was."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    x = g("Conv", g.input("x", [data.draw(st.sampled_from([1, "N"])), 3, "S"]), g.weight(4, 3, 1), g.weight(4))
    inner = []
    for _ in range(data.draw(st.integers(1, 4), "layers")):
        x = residual(g, x, data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)), data.draw(st.integers(0, 3)) == 0)
        inner.append(x)
    last = data.draw(st.sampled_from(["Conv", "Sigmoid", ""]), "last")
    y = g("Conv", x, g.weight(2, 4, 2), g.weight(2)) if last == "Conv" else g(last, x) if last else x
    outputs = [y, *([inner[0]] if data.draw(st.booleans(), "read by others") and inner[0] != y else [])]
    with mock.patch.object(frame_rows, "choose", lambda g, forms: Choice(set(forms), set())):
        check(g.model(*outputs), pulses=data.draw(pulses()))


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_node_per_layer(batch: int | str) -> None:
    """Three layers in front of a convolution without padding keep no bias; padded ones do, but for the last."""
    counts = {}
    for pad in (False, True):
        g = G()
        x = g("Conv", g.input("x", [batch, 3, "S"]), g.weight(4, 3, 1), g.weight(4))
        for d in (1, 2, 4):
            x = residual(g, x, 2, d, pad)
        with mock.patch.object(frame_rows, "choose", lambda g, forms: Choice(set(forms), set())):
            counts[pad] = kinds(check(g.model(g("Conv", x, g.weight(2, 4, 2), g.weight(2))), pulses=(1, 8)).model)["Add"]
    assert counts[True] - counts[False] == 2, "zeros in front are zeros of the wire as it was"


def test_wavenet() -> None:
    assert kinds(convert(wavenet.build(), axis="S", pulse=4).model)["Add"] == 0


def test_a_bias_that_takes_an_offset_away() -> None:
    """It stays where it is: without it digits are lost behind the sum."""
    g = G()
    x = g.input("x", [1, 4, "S"])
    h = g("Conv", g("Relu", x), g.const(1e-4 * g.rng.standard_normal((4, 4, 1)), np.float32), g.const(np.full(4, -1e4, np.float32)))
    model = g.model(g("Conv", g("Add", x, h), g.weight(4, 4, 3), g.weight(4)))
    on_frames(model, 1, x=(1e4 + g.rng.standard_normal((1, 4, 40))).astype(np.float32))
