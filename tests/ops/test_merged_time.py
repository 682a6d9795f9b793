"""The batch merged in front of time, as exporters write layers that see one frame at a time: [N, T, C] -> [N*T, C].

Whole streams follow each other on the merged axis; a pulse holds n frames of each.
"""

from __future__ import annotations

import numpy as np
import pytest

from pulsify.api import convert
from pulsify.errors import Refusal
from tests.contract_check import check, check_least_delay
from tests.graphs import G


def split_again(g: G, x: str, y: str, *sizes: int) -> str:
    """Back to [N, T, ..] by the sizes of x."""
    shape = g("Shape", x)
    lead = g("Slice", shape, g.ints(0), g.ints(2))
    return g("Reshape", y, g("Concat", lead, g.ints(*sizes), axis=0))


def linear(g: G, x: str) -> str:
    y = g("Gemm", g("Reshape", x, g.ints(-1, 4)), g.weight(4, 5), g.weight(5))
    return split_again(g, x, g("Relu", y), 5)


def normalised(g: G, x: str) -> str:
    y = g("Reshape", x, g.ints(-1, 4))
    y = g("BatchNormalization", y, g.weight(4), g.weight(4), g.weight(4), g.const(np.ones(4, np.float32)))
    return split_again(g, x, g("Add", y, g("Softmax", y, axis=1)), 4)


def per_frame_convolution(g: G, x: str) -> str:
    y = g("Conv", g("Reshape", x, g.ints(-1, 1, 2, 2)), g.weight(3, 1, 2, 2))
    return split_again(g, x, g("Flatten", y, axis=1), 3)


def rows_of(g: G, y: str, value: float, *sizes: int) -> str:
    """A constant for every row of [N*T, C]."""
    count = g("Slice", g("Shape", y), g.ints(0), g.ints(1))
    return g("Expand", g.const(np.full((1, 1), value, np.float32)), g("Concat", count, g.ints(*sizes), axis=0))


def joined_with_a_constant(g: G, x: str) -> str:
    y = g("Reshape", x, g.ints(-1, 4))
    return split_again(g, x, g("Concat", y, rows_of(g, y, 0.4, 1), axis=1), 5)


def recurrence_over_frequency(g: G, x: str, start: float = 0.0) -> str:
    """Both ways over another axis than time, with initial states for every frame of every stream."""
    y = g("Transpose", g("Reshape", x, g.ints(-1, 2, 2)), perm=[1, 0, 2])
    count = g("Slice", g("Shape", y), g.ints(1), g.ints(2))
    h = g("Expand", g.const(np.full((1, 1, 1), start, np.float32)), g("Concat", g.ints(2), count, g.ints(3), axis=0))
    h, _ = g("GRU", y, g.weight(2, 9, 2), g.weight(2, 9, 3), "", "", h, n=2, hidden_size=3, direction="bidirectional")
    return split_again(g, x, g("Reshape", g("Transpose", h, perm=[2, 0, 1, 3]), g.ints(0, -1)), 12)


def recurrence_with_a_start(g: G, x: str) -> str:
    return recurrence_over_frequency(g, x, 0.3)


def split_by_zeros(g: G, x: str) -> str:
    """Back to [N, T, C] by a Reshape that takes 0 for an empty axis, as PyTorch's newer exporter writes all of them."""
    y = g("Relu", g("Reshape", x, g.ints(-1, 4), allowzero=1))
    lead = g("Slice", g("Shape", x), g.ints(0), g.ints(2))
    return g("Reshape", y, g("Concat", lead, g.ints(2, 2), axis=0), allowzero=1)


@pytest.mark.parametrize(
    "build",
    [split_by_zeros, linear, normalised, per_frame_convolution, joined_with_a_constant, recurrence_over_frequency, recurrence_with_a_start],
)
@pytest.mark.parametrize("batch", ["N", 1])
def test_frame_by_frame_layers_stream(build: object, batch: int | str) -> None:
    g = G()
    x = g.input("x", [batch, "S", 4])
    model = g.model(build(g, x))  # type: ignore[operator]
    c = check(model, pulses=(1, 3, "P"))
    check_least_delay(model)
    assert not c.manifest["states"]


def test_between_convolutions_of_other_delays() -> None:
    g = G()
    x = g.input("x", ["N", "S", 4])
    z = g("Transpose", g("Conv", g("Transpose", x, perm=[0, 2, 1]), g.weight(4, 4, 3), pads=[1, 1]), perm=[0, 2, 1])
    y = g("MatMul", g("Reshape", z, g.ints(-1, 4)), g.weight(4, 5))
    y = split_again(g, x, y, 5)
    y = g("Transpose", g("Conv", g("Transpose", y, perm=[0, 2, 1]), g.weight(4, 5, 3), pads=[2, 0]), perm=[0, 2, 1])
    model = g.model(g("Add", y, x))
    check(model, pulses=(1, 2, 5, "P"))
    check_least_delay(model)


def test_history_on_a_merged_axis_is_refused() -> None:
    g = G()
    x = g.input("x", ["N", "S", 4])
    late = g("Slice", x, g.ints(2), g.ints(10**9), g.ints(1))
    early = g("Slice", x, g.ints(0), g.ints(-2), g.ints(1))
    y = g("Add", g("Reshape", late, g.ints(-1, 4)), g("Reshape", early, g.ints(-1, 4)))
    with pytest.raises(Refusal, match="N streams follow each other on that axis"):
        convert(g.model(split_again(g, late, y, 4)), axis="S", pulse=4)


def test_a_merged_output_is_refused() -> None:
    g = G()
    x = g.input("x", ["N", "S", 4])
    with pytest.raises(Refusal, match="N whole streams one after the other"):
        convert(g.model(g("Reshape", x, g.ints(-1, 4))), axis="S", pulse=4)


@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_a_window_across_streams_is_refused(mode: str) -> None:
    """Padding in front of all the streams and cutting as much behind leaves the length, and shifts streams into each other."""
    g = G()
    x = g.input("x", ["N", "S", 4])
    y = g("Pad", g("Reshape", x, g.ints(-1, 4)), g.ints(2, 0, 0, 0), mode=mode)
    y = g("Slice", y, g.ints(0), g.ints(-2), g.ints(0))
    with pytest.raises(Refusal, match="treats streams that follow each other as one"):
        convert(g.model(split_again(g, x, y, 4)), axis="S", pulse=4)
