"""Layers of a GRU or an LSTM between two projections, the middle of most denoisers and of transducers' prediction networks.

It shows what weights cost that are read once per frame. ``python -m models.recurrent LSTM recurrent.onnx`` writes one.
"""

from __future__ import annotations

import onnx

from models.builder import Builder

GATES = {"GRU": 3, "LSTM": 4}


def build(op: str = "GRU", hidden: int = 640, layers: int = 2, features: int = 256, seed: int = 0) -> onnx.ModelProto:
    """The batch model: features ``x [1, S, features]`` in, a mask of that shape out."""
    b = Builder(seed)
    h = b("Relu", b("Add", b("MatMul", "x", b.weight(features, hidden, fan=features)), b.bias(hidden)))
    h = b("Transpose", h, perm=[1, 0, 2])
    for _ in range(layers):
        k = GATES[op] * hidden
        biases = b("Unsqueeze", b.bias(2 * k), b.ints(0))
        h = b(op, h, b.weight(1, k, hidden, fan=hidden), b.weight(1, k, hidden, fan=hidden), biases, hidden_size=hidden)
        h = b("Squeeze", h, b.ints(1))
    h = b("Transpose", h, perm=[1, 0, 2])
    y = b("Sigmoid", b("Add", b("MatMul", h, b.weight(hidden, features, fan=hidden)), b.bias(features)))
    return b.model(op.lower(), {"x": [1, "S", features]}, {y: [1, "S", features]})


if __name__ == "__main__":
    import sys

    onnx.save(build(sys.argv[1]), sys.argv[2])
