"""A vocoder like the generator of HiFi-GAN (Kong, Kim and Bae, 2020), third of its size: 80 mel bands in, 256 samples per
frame out, by transposed convolutions of stride 8, 8 and 4, each followed by residual blocks of kernels 3 and 7.

It shows rates that rise inside a network, padding on both sides, and many small buffers.
``python -m models.hifigan hifigan.onnx`` writes it.
"""

from __future__ import annotations

import onnx

from models.builder import Builder

MELS, CHANNELS, RATES, KERNELS, DILATIONS = 80, 64, (8, 8, 4), (3, 7), (1, 3, 5)


def build(channels: int = CHANNELS, seed: int = 0) -> onnx.ModelProto:
    """The batch model: ``mel [1, 80, S]`` in, ``[1, 1, 256*S]`` out."""
    b = Builder(seed)

    def same(x: str, into: int, out: int, kernel: int, dilation: int = 1) -> str:
        pad = (kernel - 1) * dilation // 2
        return b.conv(x, into, out, kernel, dilations=[dilation], pads=[pad, pad])

    def leaky(x: str) -> str:
        return b("LeakyRelu", x, alpha=0.1)

    y = same("mel", MELS, channels, 7)
    for rate in RATES:
        y = b.conv_transpose(leaky(y), channels, channels // 2, 2 * rate, strides=[rate], pads=[rate // 2, rate // 2])
        channels //= 2
        blocks = []
        for kernel in KERNELS:
            x = y
            for dilation in DILATIONS:
                inner = same(leaky(x), channels, channels, kernel, dilation)
                x = b("Add", x, same(leaky(inner), channels, channels, kernel))
            blocks.append(x)
        y = b("Mul", b("Add", *blocks), b.constant(0.5))
    y = b("Tanh", same(leaky(y), channels, 1, 7))
    return b.model("hifigan", {"mel": [1, MELS, "S"]}, {y: [1, 1, "T"]})


if __name__ == "__main__":
    import sys

    onnx.save(build(), sys.argv[1])
