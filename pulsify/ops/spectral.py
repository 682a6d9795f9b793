"""Spectra: STFT along time, DFT along other axes, and the static tables they are used with.

``STFT[.., j, f] = sum over k of in[hop*j + k] * window[k] * exp(-2*pi*i*f*k/K)``, 0 <= k < K: a window of K frames
with stride hop. Region transform on time: ``out [a, z) <- in [hop*a, hop*(z-1) + K)``; ``L_out = floor((L - K)/hop) + 1``.

``DFT`` is equivariant along every axis but the one it transforms: ``out [a, b) <- in [a, b)``. Along time it needs the
whole stream and is refused.
"""

from __future__ import annotations

from fractions import Fraction

import onnx_ir as ir

from pulsify.dim import Dim, DimLike, floor
from pulsify.facts import Need, Plan, Stream, WireFact
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
register(WindowTable(), "HannWindow", "HammingWindow", "BlackmanWindow")
register(MelWeightMatrix(), "MelWeightMatrix")
