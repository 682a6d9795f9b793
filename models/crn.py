"""A convolutional recurrent network for speech enhancement, after Tan and Wang (2018): an encoder of two-dimensional
convolutions that halve the frequency axis, a GRU over time, a decoder of transposed convolutions with skips, a mask.

It shows convolutions that are causal in time and wide in frequency, and a recurrent state. With ``ahead`` the first
convolution sees one frame ahead. ``python -m models.crn crn.onnx`` writes it.
"""

from __future__ import annotations

from itertools import pairwise

import onnx

from models.builder import Builder

BANDS, CHANNELS, HIDDEN = 161, (1, 16, 32, 64, 64), 256


def build(ahead: bool = False, seed: int = 0) -> onnx.ModelProto:
    """The batch model: magnitudes ``x [1, 1, S, 161]`` in, a mask of that shape out."""
    b = Builder(seed)
    y, skips, bands = "x", [], [BANDS]
    for i, (into, out) in enumerate(pairwise(CHANNELS)):
        kernel, right = (3, 1) if ahead and i == 0 else (2, 0)
        y = b("Elu", b.conv(y, into, out, kernel, 3, strides=[1, 2], pads=[1, 0, right, 0]))
        skips.append(y)
        bands.append((bands[-1] - 3) // 2 + 1)
    wide = CHANNELS[-1] * bands[-1]
    h = b("Reshape", b("Transpose", y, perm=[2, 0, 1, 3]), b.ints(0, 0, wide))
    h = b("GRU", h, b.weight(1, 3 * HIDDEN, wide, fan=wide), b.weight(1, 3 * HIDDEN, HIDDEN, fan=HIDDEN), hidden_size=HIDDEN)
    h = b("Squeeze", h, b.ints(1))
    h = b("Add", b("MatMul", h, b.weight(HIDDEN, wide, fan=HIDDEN)), b.bias(wide))
    h = b("Reshape", h, b.ints(0, 0, CHANNELS[-1], bands[-1]))
    y = b("Transpose", h, perm=[1, 2, 0, 3])
    for i in reversed(range(len(CHANNELS) - 1)):
        into, out = CHANNELS[i + 1], CHANNELS[i]
        y = b("Concat", y, skips[i], axis=1)
        more = bands[i] - 2 * (bands[i + 1] - 1) - 3
        y = b.conv_transpose(y, 2 * into, out, 1, 3, strides=[1, 2], output_padding=[0, more])
        y = b("Elu", y) if i else b("Sigmoid", y)
    return b.model("crn", {"x": [1, 1, "S", BANDS]}, {y: [1, 1, "S", BANDS]})


if __name__ == "__main__":
    import sys

    onnx.save(build("ahead" in sys.argv[2:]), sys.argv[1])
