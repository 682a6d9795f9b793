"""The layers of a Conformer (Gulati et al., 2020) that stream: two half-step feed-forward layers around a causal convolution
module, without attention. As exported with nothing folded: batch normalisation is a node of its own.

It shows normalisations over channels, factors of layers, a gated linear unit and depthwise convolutions with long kernels. With
``rms`` the normalisations are by the root mean square, spelled out as exporters do. ``python -m models.conformer conformer.onnx``
writes it.
"""

from __future__ import annotations

import numpy as np
import onnx

from models.builder import Builder

CHANNELS, KERNEL, BLOCKS, WIDER = 144, 31, 4, 4


def build(channels: int = CHANNELS, blocks: int = BLOCKS, rms: bool = False, seed: int = 0) -> onnx.ModelProto:
    """The batch model: features ``x [1, S, channels]`` in, an embedding of that shape out."""
    b = Builder(seed)
    y = "x"
    for _ in range(blocks):
        y = b("Add", y, _half(b, _feed_forward(b, _norm(b, y, channels, rms), channels)))
        y = b("Add", y, _convolution(b, _norm(b, y, channels, rms), channels))
        y = b("Add", y, _half(b, _feed_forward(b, _norm(b, y, channels, rms), channels)))
        y = _norm(b, y, channels, rms)
    return b.model("conformer", {"x": [1, "S", channels]}, {y: [1, "S", channels]})


def _norm(b: Builder, x: str, channels: int, rms: bool) -> str:
    scale = b.constant(np.ones(channels))
    if not rms:
        return b("LayerNormalization", x, scale, b.bias(channels), axis=-1)
    mean = b("ReduceMean", b("Pow", x, b.constant(2.0)), b.ints(-1))
    return b("Mul", b("Mul", x, b("Reciprocal", b("Sqrt", b("Add", mean, b.constant(1e-5))))), scale)


def _half(b: Builder, x: str) -> str:
    return b("Mul", x, b.constant(0.5))


def _swish(b: Builder, x: str) -> str:
    return b("Mul", x, b("Sigmoid", x))


def _linear(b: Builder, x: str, into: int, out: int) -> str:
    return b("Add", b("MatMul", x, b.weight(into, out, fan=into)), b.bias(out))


def _feed_forward(b: Builder, x: str, channels: int) -> str:
    return _linear(b, _swish(b, _linear(b, x, channels, WIDER * channels)), WIDER * channels, channels)


def _convolution(b: Builder, x: str, channels: int) -> str:
    """Pointwise and gated, depthwise over the frames so far, normalised by running statistics, pointwise."""
    y = b.conv(b("Transpose", x, perm=[0, 2, 1]), channels, 2 * channels, 1)
    half, gate = b.many("Split", y, outputs=2, axis=1, num_outputs=2)
    y = b("Mul", half, b("Sigmoid", gate))
    y = b("Conv", y, b.weight(channels, 1, KERNEL), b.bias(channels), group=channels, pads=[KERNEL - 1, 0])
    ones = b.constant(np.ones(channels))
    y = b("BatchNormalization", y, ones, b.bias(channels), b.bias(channels), ones)
    return b("Transpose", b.conv(_swish(b, y), channels, channels, 1), perm=[0, 2, 1])


if __name__ == "__main__":
    import sys

    onnx.save(build(rms="rms" in sys.argv[2:]), sys.argv[1])
