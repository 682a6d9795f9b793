"""The rule all convolutions share: float, quantised and fused ones differ in which inputs are data and weights.

Law: ``out[j] = sum_k w[k] * in[s*j - b + dilation*k]`` (+ bias). Region transform on a spatial time axis:
``out [a, e) <- in [s*a - b, s*(e-1) - b + w)``.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from pulsify.facts import Need, Plan, Stream, WireFact
from pulsify.ops._rule import NodeView, Rule
from pulsify.ops._windows import Geometry, geometry, window_length, window_stream

__all__ = ["Convolution"]


class Convolution(Rule):
    """Time on any spatial axis, or in the batch; never in the channels. Weights are static."""

    def __init__(self, data: int = 0, weight: int = 1):
        #: Which inputs are data and weights.
        self.data, self.weight = data, weight

    def windows(self, n: NodeView) -> list[Geometry]:
        w = n.shape(self.weight)
        kernel = n.attr("kernel_shape")
        if kernel is None:
            kernel = tuple(d if isinstance(d, int) else n.refuse("its kernel size is unknown") for d in w[2:])
        return geometry(n, kernel, self.data)

    def pad_value(self, n: NodeView) -> Any:
        """What a Pad split off along time holds."""
        return 0

    def out_dtype(self, n: NodeView) -> ir.DataType:
        return n.fact(self.data).dtype

    def infer(self, n: NodeView) -> list[WireFact]:
        x, w = n.shape(self.data), n.shape(self.weight)
        spatial = [window_length(n, x[g.axis], g) for g in self.windows(n)]
        return [WireFact(self.out_dtype(n), (x[0], w[0], *spatial))]

    def plan(self, n: NodeView) -> Plan:
        for k in range(len(n.inputs)):
            if k != self.data and n.streaming(k):
                n.refuse("its weights change with time", input=k, hint="only the data of a convolution can stream")
        streams: list[Stream] = []
        for axis in n.streaming(self.data):
            if axis == 0:
                streams.append(Stream(0, 0, (Need(self.data, 0),)))
            elif axis == 1:
                n.refuse(
                    "it mixes all channels, and time is the channel axis",
                    axis=1,
                    hint="give another axis as time, or export with time on a spatial axis",
                )
            else:
                (g,) = (g for g in self.windows(n) if g.axis == axis)
                streams.append(window_stream(axis, g, self.data))
        return Plan(tuple(streams))
