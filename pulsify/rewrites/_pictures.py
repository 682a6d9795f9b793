"""Rows as pictures of one pixel per row, for products with weights of megabytes on runtimes with blocked convolutions.

A wire ``[.., K]`` of up to three axes is the picture ``[1, K, a, b]``; a product with ``W [K, N]`` is there a convolution
with the kernel ``W.T [N, K, 1, 1]``, which reads four blocks of 16 channels of its weights side by side, where a product of
matrices reads two: weights that come from behind the second cache arrive a tenth to a third faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.rewrites._rows import Rows

__all__ = ["ACTIVATIONS", "Pictures", "in_blocks"]

#: What a blocked convolution computes at once with what follows.
ACTIVATIONS = frozenset({"Relu", "Sigmoid", "Tanh"})

#: Input channels that a blocked convolution takes come in such parts.
_PART = 4

_TO_PICTURE, _TO_ROWS = (0, 3, 1, 2), (0, 2, 3, 1)


def in_blocks(channels: int) -> bool:
    """Whether a blocked convolution reads so many channels; another one takes several times as long as a product."""
    return channels % _PART == 0


class Pictures:
    """Makes pictures of wires, each once, and wires of pictures."""

    def __init__(self, rows: Rows):
        self.rows = rows
        self.known: dict[ir.Value, ir.Value] = {}
        self.kernels: dict[object, ir.Value] = {}

    def of(self, v: ir.Value, rank: int) -> ir.Value:
        """``[.., K]`` with this number of axes, two or three, as ``[1, K, a, b]``."""
        if v not in self.known and self._is_one(v):
            self.known[v] = self.node("Reshape", [v, self.rows.const([1, -1, 1, 1])], f"{v.name}.picture")
        elif v not in self.known:
            wide = self.node("Unsqueeze", [v, self.rows.const(list(range(4 - rank)))], f"{v.name}.wide")
            self.known[v] = self.node("Transpose", [wide], f"{v.name}.picture", perm=list(_TO_PICTURE))
        return self.known[v]

    def back(self, picture: ir.Value, rank: int, stem: str) -> ir.Value:
        """The inverse of :meth:`of`, which then knows the picture."""
        wide = self.node("Transpose", [picture], f"{stem}.wide", perm=list(_TO_ROWS))
        wire = self.node("Squeeze", [wide, self.rows.const(list(range(4 - rank)))], stem)
        self.known[wire] = picture
        return wire

    def _is_one(self, v: ir.Value) -> bool:
        """Whether the picture is known to be one pixel."""
        shape = self.rows.g.chunks.get(v)
        return shape is not None and all(d == 1 for d in shape[:-1])

    def split(self, picture: ir.Value, sizes: Sequence[int], axis: int, stem: str) -> list[ir.Value]:
        if len(sizes) == 1:
            return [picture]
        parts = self.rows.node("Split", [picture, self.rows.const(sizes)], stem, outputs=len(sizes), axis=axis)
        for part in parts:
            self.rows._loose(part, picture)
        return parts

    def kernel(self, weights: np.ndarray, stem: str, key: object) -> ir.Value:
        """``weights [N, K]`` as a kernel of one tap; one per key."""
        if key not in self.kernels:
            self.kernels[key] = self.rows.weight(weights[:, :, None, None], stem)
        return self.kernels[key]

    def conv(self, picture: ir.Value, kernel: ir.Value, bias: np.ndarray | None, stem: str) -> ir.Value:
        """The kernel times every pixel, plus ``bias [N]``."""
        given = [] if bias is None else [self.rows.weight(bias, f"{stem}.bias")]
        return self.node("Conv", [picture, kernel, *given], stem)

    def node(self, op: str, inputs: Sequence[ir.Value], stem: str, **attributes: Any) -> ir.Value:
        (out,) = self.rows.node(op, inputs, stem, **attributes)
        self.rows._loose(out, inputs[0])
        return out
