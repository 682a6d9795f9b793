"""Causal depthwise convolutions over time, which most streaming networks have in one of two settings.

``tcn``: between pointwise convolutions, channels before time, with growing dilations (Conv-TasNet, Luo and Mesgarani, 2019).
``mamba``: between projections, time before channels, with a SiLU behind and a gate beside it (Gu and Dao, 2023), without the
selective scan.

``python -m models.depthwise tcn tcn.onnx`` writes one.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx

from models.builder import Builder

__all__ = ["MODELS", "mamba", "tcn"]


def tcn(channels: int = 64, inner: int = 256, depth: int = 6, kernel: int = 3, batch: int | str = 1, seed: int = 0) -> onnx.ModelProto:
    """``x [batch, channels, S]`` in, the same out: ``depth`` residual blocks, the dilation doubled from each to the next."""
    b = Builder(seed, gain=2.0)
    x = "x"
    for k in range(depth):
        d = 1 << k
        y = b("Relu", b.conv(x, channels, inner, 1))
        y = b("Relu", b.conv(y, 1, inner, kernel, group=inner, pads=[(kernel - 1) * d, 0], dilations=[d]))
        x = b("Add", x, b.conv(y, inner, channels, 1))
    shape = [batch, channels, "S"]
    return b.model("tcn", {"x": shape}, {x: shape})


def mamba(width: int = 64, inner: int = 128, depth: int = 4, kernel: int = 4, batch: int | str = 1, seed: int = 0) -> onnx.ModelProto:
    """``x [batch, S, width]`` in, the same out. Convolutions are padded on both sides and cropped, as exporters write them."""
    b = Builder(seed)
    x = "x"
    for _ in range(depth):
        h = b("MatMul", x, b.weight(width, 2 * inner, fan=width))
        value, gate = b.many("Split", h, outputs=2, axis=-1, num_outputs=2)
        y = b.conv(b("Transpose", value, perm=[0, 2, 1]), 1, inner, kernel, group=inner, pads=[kernel - 1, kernel - 1])
        y = b("Slice", y, b.ints(0), b.ints(1 - kernel), b.ints(2))
        y = b("Transpose", b("Mul", y, b("Sigmoid", y)), perm=[0, 2, 1])
        y = b("Mul", y, b("Mul", gate, b("Sigmoid", gate)))
        x = b("Add", x, b("MatMul", y, b.weight(inner, width, fan=inner)))
    shape = [batch, "S", width]
    return b.model("mamba", {"x": shape}, {x: shape})


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {"tcn": tcn, "mamba": mamba}

if __name__ == "__main__":
    import sys

    onnx.save(MODELS[sys.argv[1]](), sys.argv[2])
