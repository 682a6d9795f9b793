"""A chain of dilated convolutions, kernel 3, dilations 1, 2, 4, 8, 16 over and over, a ReLU after each: the trunk of a
temporal convolutional network (Bai, Kolter and Koltun, 2018) and nothing else.

It shows what a layer costs. ``python -m models.chain chain.onnx`` writes it.
"""

from __future__ import annotations

import onnx

from models.builder import Builder

KERNEL, DILATIONS = 3, (1, 2, 4, 8, 16)


def build(channels: int = 64, depth: int = 30, seed: int = 0) -> onnx.ModelProto:
    """The batch model: ``x [1, channels, S]`` in, ``[1, channels, T]`` out, T less than S by twice the sum of all dilations."""
    b = Builder(seed, gain=2.0)
    y = "x"
    for i in range(depth):
        y = b("Relu", b.conv(y, channels, channels, KERNEL, dilations=[DILATIONS[i % len(DILATIONS)]]))
    return b.model("chain", {"x": [1, channels, "S"]}, {y: [1, channels, "T"]})


if __name__ == "__main__":
    import sys

    onnx.save(build(), sys.argv[1])
