"""Windows over frames as rows: gathered, cut as whole blocks, or the wire itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.rewrites._rows import Rows, RowView

__all__ = ["GATHERED", "note", "shaped", "stride", "take"]

#: Frames gathered for windows from which on cutting them as blocks costs less.
GATHERED = 256


def note(rows: Rows, v: ir.Value, like: ir.Value, shape: Sequence[Any]) -> ir.Value:
    """A wire on the way: type and what it holds."""
    rows._loose(v, like)
    rows.g.chunks[v] = tuple(shape)
    return v


def take(rows: Rows, x: ir.Value, view: RowView, offsets: np.ndarray, stem: str) -> ir.Value:
    """Rows of K*C made of frames ``offsets [F, K]`` of x, which has the given frames."""
    frames, taps = offsets.shape
    step = stride(offsets)
    lines_up = taps % max(step, 1) == 0 and offsets[0, 0] == 0 and offsets[-1, -1] == view.frames - 1
    if taps > step > 1 and (lines_up or offsets.size >= GATHERED):
        return _blocks(rows, x, view, offsets, step, stem)
    every = offsets.size == view.frames and np.array_equal(offsets.reshape(-1), np.arange(view.frames))
    wire = x
    if not every:
        index = offsets.reshape(-1) if taps == 1 else offsets
        (wire,) = rows.node("Gather", [x, rows.const(index, stem="frames")], f"{stem}.frames", axis=view.axis)
        note(rows, wire, x, [frames, taps, view.channels])
    if taps == 1:
        return wire
    return shaped(rows, wire, frames, taps * view.channels, view, stem)


def stride(offsets: np.ndarray) -> int:
    """How far windows of neighbouring frames are apart; 0 if there are none, or none such."""
    if len(offsets) < 2 or np.any(np.diff(offsets, axis=1) != 1) or np.any(np.diff(offsets[:, 0]) != offsets[1, 0] - offsets[0, 0]):
        return 0
    return int(offsets[1, 0] - offsets[0, 0])


def _blocks(rows: Rows, x: ir.Value, view: RowView, offsets: np.ndarray, step: int, stem: str) -> ir.Value:
    """Windows of ``rest + count*step`` frames, ``step`` apart: the begin of a block of ``step`` frames, and ``count`` whole
    blocks of the frames ``rest`` further on."""
    frames, taps = offsets.shape
    (count, rest), width = divmod(taps, step), view.channels
    first, last = int(offsets[0, 0]), int(offsets[-1, -1])

    def blocks(at: int, n: int) -> ir.Value:
        wire = x
        if (at, n * step) != (0, view.frames):
            wire = part(x, at, at + n * step, view.axis, f"{stem}.cut", [n * step, width])
        return shaped(rows, wire, n, step * width, view, f"{stem}.blocks")

    def part(wire: ir.Value, a: int, b: int, axis: int, name: str, shape: list[int]) -> ir.Value:
        (out,) = rows.node("Slice", [wire, *(rows.const([v]) for v in (a, b, axis))], name)
        return note(rows, out, x, shape)

    parts = []
    if rest:
        parts.append(part(blocks(first, frames), 0, rest * width, view.axis + 1, f"{stem}.begin", [frames, rest * width]))
    whole = blocks(first + rest, frames + count - 1)
    assert first + rest + (frames + count - 1) * step == last + 1
    for k in range(count):
        parts.append(whole if count == 1 else part(whole, k, k + frames, view.axis, f"{stem}.block", [frames, step * width]))
    (out,) = rows.node("Concat", parts, stem, axis=view.axis + 1)
    return note(rows, out, x, [frames, taps * width])


def shaped(rows: Rows, wire: ir.Value, frames: int, width: int, view: RowView, stem: str) -> ir.Value:
    """The same numbers as ``frames`` rows of ``width``."""
    target = [*([] if view.batch is None else [-1]), frames, width]
    before = wire.producer()
    if before is not None and before.op_type == "Reshape" and not before.domain and before.inputs[0] is not None:
        wire = before.inputs[0]  # of two Reshapes, the last one tells
    (out,) = rows.node("Reshape", [wire, rows.const(target)], stem)
    return note(rows, out, wire, [frames, width])
