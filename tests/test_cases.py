"""Shrunk failures, each a graph of its own and a line on what it shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from pulsify.api import convert
from tests.contract_check import check, check_least_delay
from tests.graphs import G

FAR = 2**63 - 1


def crop_at_the_output(g: G, x: str) -> str:
    """A Pad that only crops, whose result is the graph's output, becomes a Slice and keeps the output's name."""
    return g("Pad", g("Pad", x, g.ints(0, 0, 2, 0, 0, 0)), g.ints(0, 0, -1, 0, 0, 0))


def pads_of_two_axes(g: G, x: str) -> str:
    """One Pad per axis, once split, is not fused back into one that moves time and channels at once."""
    y = g("Slice", x, g.ints(3), g.ints(FAR), g.ints(2))
    return g("Pad", y, g.ints(0, 0, 0, 0, 1, 1))


def crop_and_pad_by_the_length(g: G, x: str) -> str:
    """Amounts computed from the length on time, constant ones on the channels: no axis is padded twice."""
    rest = g("Mod", g("Neg", g("Gather", g("Shape", x), g.ints(2))), g.ints(4))
    y = g("Pad", x, g("Concat", g.ints(0, 1, 0, 0, 2), rest, axis=0))
    return g("Conv", y, g.weight(2, 5, 2))


def slice_without_axes(g: G, x: str) -> str:
    """A Slice that names no axes cuts time and channels: neither is forgotten."""
    return g("Slice", x, g.ints(0, 1, 0), g.ints(FAR, FAR, -1))


def slice_of_time_by_the_length(g: G, x: str) -> str:
    """Channels cut by a number and time by the length, in one Slice."""
    end = g("Sub", g("Gather", g("Shape", x), g.ints(2)), g.ints(2))
    return g("Slice", x, g.ints(0, 0), g("Concat", g.ints(1), end, axis=0), g.ints(1, 2))


def unread_padding_of_nothing(g: G, x: str) -> str:
    """A Pad by zero that nobody reads is no reason to fail."""
    g("Pad", x, g.ints(0, 0, 0, 0, 0, 0))
    return g("Relu", x)


def unread_crop_of_more_than_there_is(g: G, x: str) -> str:
    """A crop that nobody reads and that short streams are too short for says nothing of the outputs."""
    g("Pad", x, g.ints(0, 0, 0, 0, 0, -2))
    return g("Tanh", x)


def bounds_of_32_bits(g: G, x: str) -> str:
    """Slices with int32 bounds, some constant and some computed, as Keras writes them, are split like others."""
    end = g("Cast", g("Sub", g("Gather", g("Shape", x), g.ints(2)), g.ints(2)), to=TensorProto.INT32)
    ends = g("Concat", g.const([1], np.int32), end, axis=0)
    return g("Slice", x, g.const([0, 1], np.int32), ends, g.const([1, 2], np.int32), g.const([1, 1], np.int32))


def parts_that_end_with_the_length(g: G, x: str) -> str:
    """Blocks ``y[:n]`` and ``y[1 : n + 1]`` side by side, with n a number of hops: frames that overlap, without a Gather."""
    n = g("Div", g("Gather", g("Shape", x), g.ints(2)), g.ints(4))
    y = g("Reshape", g("Pad", x, g.ints(0, 0, 4, 0, 0, 4)), g.ints(0, 0, -1, 4))
    parts = [g("Slice", y, g.ints(k), g("Add", n, g.ints(k)), g.ints(2)) for k in (0, 1)]
    return g("Concat", *parts, axis=3)


def padded_pool_of_a_crop(g: G, x: str) -> str:
    """A stream of one frame is cropped to none, and padding makes a window of it that onnxruntime refuses to pool."""
    y = g("Slice", x, g.ints(0), g.ints(-1), g.ints(2))
    return g("AveragePool", y, kernel_shape=[2], pads=[1, 1])


def crop_to_the_length_of_the_input(g: G, x: str) -> str:
    """``up(down(x))[:T] + x``: where T is even the crop keeps all, and other lengths the sum is not defined for."""
    y = g("Conv", x, g.weight(2, 2, 4), strides=[2], pads=[1, 1])
    y = g("ConvTranspose", y, g.weight(2, 2, 4), strides=[2], pads=[1, 1])
    return g("Add", g("Slice", y, g.ints(0), g("Slice", g("Shape", x), g.ints(2), g.ints(3)), g.ints(2)), x)


def same_padding_behind_a_stride(g: G, x: str) -> str:
    """``(S + 1)//2`` frames, even for two classes of S: one congruence is enough to convert, and exact there."""
    y = g("Conv", x, g.weight(2, 2, 1), strides=[2])
    return g("Conv", y, g.weight(2, 2, 2), strides=[2], auto_pad="SAME_LOWER")


CASES: list[Callable[[G, str], str]] = [
    crop_at_the_output, pads_of_two_axes, crop_and_pad_by_the_length, slice_without_axes, slice_of_time_by_the_length,
    unread_padding_of_nothing, unread_crop_of_more_than_there_is, bounds_of_32_bits,
    parts_that_end_with_the_length, padded_pool_of_a_crop,
    crop_to_the_length_of_the_input, same_padding_behind_a_stride,
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("batch", ["N", 1])
def test_case(case: Callable[[G, str], str], batch: Any) -> None:
    g = G()
    check(g.model(case(g, g.input("x", [batch, 2, "S"]))), "S", (4, 8, "P"))


def test_a_crop_that_runs_ahead_has_no_delay() -> None:
    """``x[:-4]`` as an output: the client crops, nothing waits."""
    g = G()
    model = g.model(g("Slice", g.input("x", ["N", 2, "S"]), g.ints(0), g.ints(-4), g.ints(2)))
    assert check(model).manifest["outputs"][0]["delay"] == 0
    check_least_delay(model)


@pytest.mark.parametrize("kind", ["BOOL", "UINT8", "INT8", "INT32", "UINT32", "INT64", "UINT64", "DOUBLE"])
def test_masks_of_any_type(kind: str) -> None:
    """onnxruntime's Where takes some types only; both the mask and the initial frames of a state go through others."""
    g = G()
    dtype = getattr(TensorProto, kind)
    x = g("Cast", g.input("x", ["N", 2, "S"], TensorProto.FLOAT), to=dtype)
    one = g("Cast", g.const(1.0, np.float32), to=dtype)
    y = g("Pad", g("Slice", x, g.ints(2), g.ints(FAR), g.ints(2)), g.ints(0, 0, 3, 0, 0, 1), one)
    early = g("Pad", x, g.ints(0, 0, 1, 0, 0, 1), one)
    a, b = (g("Slice", g("Cast", v, to=TensorProto.FLOAT), g.ints(1), g.ints(FAR), g.ints(2)) for v in (y, early))
    check(g.model(g("Add", a, b)), "S", (2, "P"))


def test_a_wire_named_valid_frames() -> None:
    """The manifest names the input that counts, whatever it is called."""
    g = G()
    c = convert(g.model(g("Conv", g.input("valid_frames", [1, 2, "S"]), g.weight(2, 2, 3), pads=[1, 1])), axis="S", pulse=2)
    assert c.manifest["valid"]["input"] in [i.name for i in c.model.graph.input][1:]


def test_the_minimum_of_a_product_of_lengths() -> None:
    """``min(S*S, 50)`` is 50 from S = 8 on, and the condition says so."""
    g = G()
    x = g.input("x", [1, 2, "S"])
    length = g("Gather", g("Shape", x), g.ints(2))
    row = g("Expand", g.const([1.5], np.float32), g("Min", g("Mul", length, length), g.ints(50)))
    c = convert(g.model(g("Relu", x), row), axis="S", pulse=1)
    assert c.manifest["stream"]["least"] == 8


def test_old_hardmax_over_rows() -> None:
    """Before opset 13 Hardmax flattened; onnx's converter leaves it, and it then means something else."""
    g = G(opset=11)
    check(g.model(g("Hardmax", g.input("x", ["S", 3, 2]), axis=1)))
