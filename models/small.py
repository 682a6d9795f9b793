"""Models of a few nodes, each of which shows one thing: ``python -m models.small NAME FILE.onnx`` writes one."""

from __future__ import annotations

import sys
from collections.abc import Callable

import onnx

from models.builder import Builder


def window() -> onnx.ModelProto:
    """A convolution over five frames: look-ahead and history, no padding."""
    b = Builder()
    return b.model("window", {"x": [1, 2, "S"]}, {b.conv("x", 2, 2, 5): [1, 2, "T"]})


def same() -> onnx.ModelProto:
    """The same with two frames of padding on each side: as many frames out as in."""
    b = Builder()
    return b.model("same", {"x": [1, 2, "S"]}, {b.conv("x", 2, 2, 5, pads=[2, 2]): [1, 2, "T"]})


def causal() -> onnx.ModelProto:
    """Four frames of padding, all on the left: no look-ahead."""
    b = Builder()
    return b.model("causal", {"x": [1, 2, "S"]}, {b.conv("x", 2, 2, 5, pads=[4, 0]): [1, 2, "T"]})


def two() -> onnx.ModelProto:
    """Two padded convolutions in a row, and the input added to what comes out."""
    b = Builder()
    y = b.conv("x", 2, 2, 5, pads=[2, 2])
    return b.model("two", {"x": [1, 2, "S"]}, {b("Add", "x", b.conv(y, 2, 2, 3, pads=[1, 1])): [1, 2, "T"]})


def strided() -> onnx.ModelProto:
    """One frame for every two."""
    b = Builder()
    return b.model("strided", {"x": [1, 2, "S"]}, {b.conv("x", 2, 2, 4, strides=[2]): [1, 2, "T"]})


def softmax() -> onnx.ModelProto:
    """A softmax over time: its first frame depends on the last."""
    b = Builder()
    return b.model("softmax", {"x": [1, 2, "S"]}, {b("Softmax", "x", axis=2): [1, 2, "S"]})


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f for f in (window, same, causal, two, strided, softmax)
}

if __name__ == "__main__":
    onnx.save(MODELS[sys.argv[1]](), sys.argv[2])
