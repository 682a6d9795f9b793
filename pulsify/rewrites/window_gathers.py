"""Windows gathered by number as stretches cut whole: the frames of a front-end, the taps of one window.

``Gather(x, [[a + s*p + k]])``, k in ``0..K``, K = rest + count*s: with the frames as rows of blocks of s, a window is the begin
of one block and count whole ones (as in _row_windows.py, on any wire). A Gather takes 5 ns for each number it copies.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.dim import DimLike
from pulsify.graph import Graph
from pulsify.rewrites._row_windows import GATHERED, stride
from pulsify.rewrites._rows import Rows, each

__all__ = ["apply"]

#: Numbers of one window from which on a Slice costs less.
_TAKEN = 16


def apply(g: Graph) -> int:
    return each(g, ("Gather",), _rewrite)


def _rewrite(rows: Rows, node: ir.Node) -> bool:
    g, x, index, out = rows.g, node.inputs[0], node.inputs[1], node.outputs[0]
    shape = None if x is None else g.chunks.get(x)
    if x is None or shape is None or index is None or index.const_value is None or len(index.const_value.shape) not in (1, 2):
        return False
    axis = node.attributes.get_int("axis", 0) % len(shape)
    offsets = index.const_value.numpy()
    size = shape[axis]
    if not isinstance(size, int) or not offsets.size or sum(not isinstance(d, int) for d in shape) > 1:
        return False
    flat = offsets.ndim == 1
    offsets = np.where(offsets < 0, offsets + size, offsets).reshape(1, -1) if flat else np.where(offsets < 0, offsets + size, offsets)
    cut = _Cut(rows, x, list(shape), axis)
    frames, taps = offsets.shape
    if frames == 1:
        if taps < _TAKEN or np.any(np.diff(offsets) != 1):
            return False
        wire = cut.frames(int(offsets[0, 0]), taps, out.name or "window")
        if not flat:
            wire = cut.shaped(wire, [1, taps], out.name or "window")
    else:
        step = stride(offsets)
        if not taps > step > 1 or offsets.size < GATHERED:
            return False
        wire = cut.windows(offsets, step, out.name or "windows")
    if wire is x:
        return False
    rows.replace(out, wire)
    g.graph.remove(node, safe=True)
    return True


class _Cut:
    """Stretches of a wire along one axis."""

    def __init__(self, rows: Rows, x: ir.Value, shape: list[DimLike], axis: int):
        self.rows, self.x, self.shape, self.axis = rows, x, shape, axis

    def part(self, wire: ir.Value, first: int, n: int, axis: int, stem: str) -> ir.Value:
        (out,) = self.rows.node("Slice", [wire, *(self.rows.const([v]) for v in (first, first + n, axis))], stem)
        self.rows._loose(out, self.x)
        return out

    def frames(self, first: int, n: int, stem: str) -> ir.Value:
        """n frames from the first on."""
        return self.x if n == self.shape[self.axis] else self.part(self.x, first, n, self.axis, stem)

    def shaped(self, wire: ir.Value, sizes: list[int], stem: str) -> ir.Value:
        """The axis cut into axes of these sizes."""
        target = [*self.shape[: self.axis], *sizes, *self.shape[self.axis + 1 :]]
        (out,) = self.rows.node("Reshape", [wire, self.rows.const([d if isinstance(d, int) else -1 for d in target])], stem)
        self.rows._loose(out, self.x)
        return out

    def windows(self, offsets: np.ndarray, step: int, stem: str) -> ir.Value:
        """Windows ``[F, K]``, neighbours ``step`` apart."""
        frames, taps = offsets.shape
        (count, rest), first, axis = divmod(taps, step), int(offsets[0, 0]), self.axis
        parts = []
        if rest:
            begins = self.shaped(self.frames(first, frames * step, f"{stem}.cut"), [frames, step], f"{stem}.blocks")
            parts.append(self.part(begins, 0, rest, axis + 1, f"{stem}.begin"))
        n = frames + count - 1
        whole = self.shaped(self.frames(first + rest, n * step, f"{stem}.cut"), [n, step], f"{stem}.blocks")
        parts += [whole if count == 1 else self.part(whole, k, frames, axis, f"{stem}.block") for k in range(count)]
        (out,) = self.rows.node("Concat", parts, stem, axis=axis + 1)
        self.rows._loose(out, self.x)
        return out
