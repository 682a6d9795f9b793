"""Windows over frames as rows: gathered, cut as whole blocks, or the wire itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.rewrites._rows import Rows, RowView

__all__ = ["note", "shaped", "take"]


def note(rows: Rows, v: ir.Value, like: ir.Value, shape: Sequence[Any]) -> ir.Value:
    """A wire on the way: type and what it holds."""
    rows._loose(v, like)
    rows.g.chunks[v] = tuple(shape)
    return v


def take(rows: Rows, x: ir.Value, view: RowView, offsets: np.ndarray, stem: str) -> ir.Value:
    """Rows of K*C made of frames ``offsets [F, K]`` of x, which has the given frames."""
    frames, taps = offsets.shape
    step = _stride(offsets)
    if taps > step > 1 and taps % step == 0 and offsets[0, 0] == 0 and offsets[-1, -1] == view.frames - 1:
        return _blocks(rows, x, view, frames, taps // step, step, stem)
    every = offsets.size == view.frames and np.array_equal(offsets.reshape(-1), np.arange(view.frames))
    wire = x
    if not every:
        index = offsets.reshape(-1) if taps == 1 else offsets
        (wire,) = rows.node("Gather", [x, rows.const(index, stem="frames")], f"{stem}.frames", axis=view.axis)
        note(rows, wire, x, [frames, taps, view.channels])
    if taps == 1:
        return wire
    return shaped(rows, wire, frames, taps * view.channels, view, stem)


def _stride(offsets: np.ndarray) -> int:
    """How far windows of neighbouring frames are apart; 0 if there are none, or none such."""
    if len(offsets) < 2 or np.any(np.diff(offsets, axis=1) != 1) or np.any(np.diff(offsets[:, 0]) != offsets[1, 0] - offsets[0, 0]):
        return 0
    return int(offsets[1, 0] - offsets[0, 0])


def _blocks(rows: Rows, x: ir.Value, view: RowView, frames: int, count: int, step: int, stem: str) -> ir.Value:
    """Overlapping windows of ``count`` blocks of ``step`` frames: the blocks as rows, and as often beside themselves, each
    time one further."""
    blocks = shaped(rows, x, frames + count - 1, step * view.channels, view, f"{stem}.blocks")
    parts = []
    for k in range(count):
        (part,) = rows.node("Slice", [blocks, *(rows.const([v]) for v in (k, k + frames, view.axis))], f"{stem}.block")
        parts.append(note(rows, part, x, [frames, step * view.channels]))
    (out,) = rows.node("Concat", parts, stem, axis=view.axis + 1)
    return note(rows, out, x, [frames, count * step * view.channels])


def shaped(rows: Rows, wire: ir.Value, frames: int, width: int, view: RowView, stem: str) -> ir.Value:
    target = [*([] if view.batch is None else [-1]), frames, width]
    (out,) = rows.node("Reshape", [wire, rows.const(target)], stem)
    return note(rows, out, wire, [frames, width])
