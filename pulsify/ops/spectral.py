"""Spectra: STFT along time, DFT along other axes, and the static tables they are used with.

``STFT[.., j, f] = sum over k of in[hop*j + k] * window[k] * exp(-2*pi*i*f*k/K)``, 0 <= k < K: a window of K frames
with stride hop. Region transform on time: ``out [a, z) <- in [hop*a, hop*(z-1) + K)``; ``L_out = floor((L - K)/hop) + 1``.

``DFT`` is equivariant along every axis but the one it transforms: ``out [a, b) <- in [a, b)``. Along time it needs the
whole stream and is refused.

``Frames[.., j, k, ..] = in[.., hop*j + offset[k], ..]`` is how a Gather with an index matrix over time is written
(rewrites/frame_gathers.py): a window from the least offset to the greatest, picked from by the same indices every pulse.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim, DimLike, floor
from pulsify.facts import Need, Plan, Stream, Window, WireFact
from pulsify.ops._families import AxisMap, AxisRule, same_axes
from pulsify.ops._rule import NodeView, Rule, register
from pulsify.ops._windows import Geometry, window_length, window_stream


class STFT(Rule):
    """Time along the signal, or in the batch. Hop, length and window are static."""

    status, note = "conditions", "hop and frame length known"

    def window(self, n: NodeView) -> Geometry:
        """The window over the signal's axis 1."""
        hop = n.const_ints(1)
        size = n.const_ints(3) if n.optional(3) is not None else None
        shape = n.shape(2) if n.optional(2) is not None else None
        if hop is None or hop[0] < 1:
            n.refuse(f"its frame_step is {'missing' if hop is None else hop[0]}")
        length: DimLike | None = size[0] if size is not None else shape[0] if shape else None
        if isinstance(length, Dim) or length is None:
            n.refuse(
                "the length of its frames is unknown",
                hint="give frame_length or the window as a constant when exporting the model",
            )
        if shape and shape[0] != length:
            n.refuse(f"its window holds {shape[0]} samples, its frames {length}")
        return Geometry(1, int(length), hop[0], 1, 0, 0)

    def infer(self, n: NodeView) -> list[WireFact]:
        x = n.shape(0)
        if not 2 <= len(x) <= 3:
            n.refuse(f"its signal has {len(x)} axes, not 2 or 3")
        g = self.window(n)
        bins = g.kernel // 2 + 1 if n.attr("onesided", 1) else g.kernel
        return [WireFact(n.fact(0).dtype, (x[0], window_length(n, x[1], g), bins, 2))]

    def plan(self, n: NodeView) -> Plan:
        for k in range(1, len(n.inputs)):
            if n.streaming(k):
                n.refuse("its window is as long as the stream", input=k, hint="use a window of fixed length")
        streams: list[Stream] = []
        for axis in n.streaming(0):
            if axis == 2:
                n.refuse("time is the axis of real and imaginary parts", axis=axis)
            streams.append(window_stream(1, self.window(n)) if axis == 1 else Stream(0, 0, (Need(0, 0),)))
        return Plan(tuple(streams))


class DFT(AxisRule):
    status, note = "conditions", "not along time"

    def axis_of(self, n: NodeView) -> int:
        """The axis transformed: an attribute (1 by default) up to opset 19, an input (-2 by default) since."""
        graph = n.node.graph
        opset = 18 if graph is None else graph.opset_imports.get("", 18)
        if opset < 20:
            axis = n.attr("axis", 1)
        else:
            given = n.const_ints(2)
            axis = -2 if given is None else given[0]
        axis = n.axis(axis, len(n.shape(0)))
        if axis == len(n.shape(0)) - 1:
            n.refuse("it transforms the axis of real and imaginary parts")
        return axis

    def infer(self, n: NodeView) -> list[WireFact]:
        axis, shape = self.axis_of(n), list(n.shape(0))
        half, inverse = n.attr("onesided", 0), n.attr("inverse", 0)
        length = n.const_ints(1)
        size: DimLike = shape[axis] if length is None else length[0]
        if half and inverse and length is None:
            size = 2 * (size - 1)
        shape[axis] = floor(size * Fraction(1, 2)) + 1 if half and not inverse else size
        shape[-1] = 1 if half and inverse else 2
        return [WireFact(n.fact(0).dtype, tuple(shape))]

    def axes(self, n: NodeView) -> AxisMap:
        rank = len(n.shape(0))
        return [same_axes(rank, (self.axis_of(n), rank - 1))]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return "it transforms the whole stream at once"

    def hint(self, n: NodeView, k: int, axis: int) -> str:
        return "transform windows of the stream (STFT), or another axis"


class Frames(Rule):
    """The gathered axis becomes those of the indices: ``offsets`` in the shape ``grid``, time (-1) among them."""

    domain, status = "pulsify", "pseudo"

    def time(self, n: NodeView) -> int:
        """Where time goes."""
        return int(n.attr("axis")) + list(n.attr("grid")).index(-1)

    def infer(self, n: NodeView) -> list[WireFact]:
        x, axis = n.shape(0), n.attr("axis")
        g, _ = self.window(n)
        grid = [window_length(n, x[axis], g) if d == -1 else d for d in n.attr("grid")]
        return [WireFact(n.fact(0).dtype, (*x[:axis], *grid, *x[axis + 1 :]))]

    def window(self, n: NodeView) -> tuple[Geometry, int]:
        """The window, and the first frame it begins with."""
        offsets = n.attr("offsets")
        low = min(offsets)
        return Geometry(n.attr("axis"), max(offsets) - low + 1, n.attr("hop"), 1, -low, 0), low

    def plan(self, n: NodeView) -> Plan:
        axis = n.attr("axis")
        g, low = self.window(n)
        streams = []
        for a in n.streaming(0):
            window = Window(g.stride, -low, g.kernel) if a == axis else Window()
            out = self.time(n) if a == axis else a if a < axis else a + len(n.attr("grid")) - 1
            streams.append(Stream(0, out, (Need(0, a, window),)))
        return Plan(
            tuple(streams),
            kind="window",
            lower=lambda w: [_gather(w, n, g)],
            evaluate=lambda arrays: [np.take(arrays[0], _indices(n, g, arrays[0].shape[axis] - g.kernel + 1), axis)],
        )


def _offsets(n: NodeView, g: Geometry) -> np.ndarray:
    """Where the frames of one window are, counted from its first."""
    return np.asarray(n.attr("offsets")).reshape([1 if d == -1 else d for d in n.attr("grid")]) + g.before


def _indices(n: NodeView, g: Geometry, limit: int) -> np.ndarray:
    """The indices of all windows that begin before ``limit``, in a region that begins with the first."""
    rows = np.arange(0, limit, g.stride).reshape([-1 if d == -1 else 1 for d in n.attr("grid")])
    return np.asarray(rows + _offsets(n, g))


def _gather(w: Any, n: NodeView, g: Geometry) -> Any:
    axis, grid = n.attr("axis"), n.attr("grid")
    along = [a for a in range(len(grid)) if grid[a] != -1]
    frames = w.frames(0, axis)
    if isinstance(frames, int):
        return w.op("Gather", [w.inputs[0], w.const(_indices(n, g, frames))], "frames", axis=axis)
    size = w.op("Squeeze", [w.op("Shape", [w.inputs[0]], "size", start=axis, end=axis + 1)], "size")
    # The region holds n*hop frames and what the last window reaches beyond them.
    limit = w.op("Sub", [size, w.const(g.kernel - 1)], "limit")
    rows = w.op("Range", [w.const(0), limit, w.const(g.stride)], "rows")
    rows = w.op("Unsqueeze", [rows, w.const(along)], "rows") if along else rows
    return w.op("Gather", [w.inputs[0], w.op("Add", [rows, w.const(_offsets(n, g))], "grid")], "frames", axis=axis)


class Static(Rule):
    """Tables that hold no time: their sizes are constants."""

    def plan(self, n: NodeView) -> Plan:
        n.refuse("its size depends on the length of the stream", hint="use a table of fixed size")


class WindowTable(Static):
    """HannWindow, HammingWindow, BlackmanWindow: ``[size]``."""

    def infer(self, n: NodeView) -> list[WireFact]:
        size = n.ints(0)
        assert size is not None
        return [WireFact(ir.DataType(n.attr("output_datatype", 1)), (size[0],))]


class MelWeightMatrix(Static):
    """``[dft_length // 2 + 1, num_mel_bins]``."""

    def infer(self, n: NodeView) -> list[WireFact]:
        bins, length = n.ints(0), n.ints(1)
        assert bins is not None and length is not None
        shape = (floor(length[0] * Fraction(1, 2)) + 1, bins[0])
        return [WireFact(ir.DataType(n.attr("output_datatype", 1)), shape)]


register(STFT(), "STFT")
register(DFT(), "DFT")
register(Frames(), "Frames")
register(WindowTable(), "HannWindow", "HammingWindow", "BlackmanWindow")
register(MelWeightMatrix(), "MelWeightMatrix")
