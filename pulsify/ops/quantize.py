"""Quantised operators: ``q = saturate(round(x / scale) + zero_point)``, and arithmetic on such integers.

Parameters (scales and zero points) are static: per tensor, per channel, or per block of another axis than time; a
parameter with a value for every frame streams along. Region transforms are those of the float operators: frame by
frame, windows for convolutions and pools, products that do not contract time. What a window sees outside the stream
is the zero point of its input. Wires and their states keep the narrow type.

Results are bit for bit those of the batch model: sums are of integers, and every frame is rounded on its own.
An operator that takes its scale from its input (DynamicQuantizeLinear) would need the whole stream: refused over time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import onnx_ir as ir

from pulsify.dim import DimLike
from pulsify.facts import Plan, Shape, WireFact
from pulsify.ops._convolution import Convolution
from pulsify.ops._families import AxisMap, AxisRule, broadcast, broadcast_axes, same_axes
from pulsify.ops._products import Gemm, MatMul
from pulsify.ops._rule import NodeView, register
from pulsify.ops._windows import Geometry, geometry, window_length, window_stream

MS = "com.microsoft"
PARAMETERS = "its scale or zero point changes with time"


def zero_point(n: NodeView, k: int) -> Any:
    """The zero point of a padded input: the number that stands for 0.0."""
    f = n.optional(k)
    if f is None:
        return 0
    array = f.array()
    if array is None or array.size != 1:
        n.refuse(
            "it pads along time with its zero point, which is not one constant",
            input=k,
            hint="export with constant quantisation parameters, or pad the stream before feeding it",
        )
    return array.reshape(-1)[0]


class Linear(AxisRule):
    """QuantizeLinear and DequantizeLinear: parameters scalar, one per index of ``axis``, or one per block of it."""

    status, note = "conditions", "no scale per index of time, unless it streams"

    def __init__(self, quantize: bool):
        self.quantize = quantize

    def out_dtype(self, n: NodeView) -> ir.DataType:
        given = n.attr("output_dtype", 0)
        if self.quantize:
            zero = n.optional(2)
            return zero.dtype if zero is not None else ir.DataType(given) if given else ir.DataType.UINT8
        return ir.DataType(given) if given else n.fact(1).dtype

    def layout(self, n: NodeView) -> tuple[str, int]:
        """(``tensor``, ``axis`` or ``block``; the axis)."""
        scale, rank = n.shape(1), len(n.shape(0))
        if n.attr("block_size", 0):
            return "block", n.axis(n.attr("axis", 1), rank)
        if len(scale) == 0 or scale == (1,):
            return "tensor", 0
        if len(scale) != 1:
            n.refuse(f"its scale has {len(scale)} axes", input=1)
        return "axis", n.axis(n.attr("axis", 1), rank)

    def infer(self, n: NodeView) -> list[WireFact]:
        x, scale = n.shape(0), n.shape(1)
        kind, axis = self.layout(n)
        if kind == "block":
            self._block(n, x, scale, axis)
        elif kind == "axis":
            broadcast(n, [x, (scale[0], *(1,) * (len(x) - axis - 1))])
        return [WireFact(self.out_dtype(n), x)]

    def _block(self, n: NodeView, x: Shape, scale: Shape, axis: int) -> None:
        if len(scale) != len(x):
            n.refuse(f"its scale has {len(scale)} axes, its input {len(x)}", input=1)
        if axis in n.streaming(0):
            n.refuse(f"it has a scale per block of {n.attr('block_size')} frames of time", axis=axis)
        for a in n.streaming(0):
            if a not in n.streaming(1):
                n.refuse(f"it has a scale for each of {scale[a]} frames of time", axis=a, hint="use a scale per channel")

    def axes(self, n: NodeView) -> AxisMap:
        kind, axis = self.layout(n)
        out = same_axes(len(n.shape(0)))
        given = [k for k in (1, 2) if n.optional(k) is not None]
        if kind == "axis":
            out[axis] = (*out[axis], *((k, 0) for k in given))
        elif kind == "block":
            out = [row if a == axis else (*row, *((k, a) for k in given)) for a, row in enumerate(out)]
        return [out]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return PARAMETERS


class Pointwise(AxisRule):
    """Frame by frame on the inputs ``data``; the rest are parameters."""

    def __init__(self, *data: int):
        self.data = data

    def infer(self, n: NodeView) -> list[WireFact]:
        return [WireFact(n.fact(self.data[-1]).dtype, broadcast(n, [n.shape(k) for k in self.data]))]

    def axes(self, n: NodeView) -> AxisMap:
        return [broadcast_axes(n, self.data, n.outputs[0].rank)]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return PARAMETERS


class Softmax(Pointwise):
    """Before opset 13 over all axes from ``axis`` on, then over that axis alone."""

    status, note = "conditions", "not with statistics over time"

    def axes(self, n: NodeView) -> AxisMap:
        rank = len(n.shape(0))
        axis = n.axis(n.attr("axis", -1), rank)
        return [same_axes(rank, range(axis, rank) if n.attr("opset", 13) < 13 else (axis,))]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return PARAMETERS if k else "it normalises over time, and every frame needs the whole stream"


class Concat(AxisRule):
    """Inputs come in threes (data, scale, zero point) behind the two parameters of the output."""

    status, note = "conditions", "not along time"

    def data(self, n: NodeView) -> Sequence[int]:
        return range(2, len(n.inputs), 3)

    def infer(self, n: NodeView) -> list[WireFact]:
        shapes = [n.shape(k) for k in self.data(n)]
        axis = n.axis(n.attr("axis"), len(shapes[0]))
        total: DimLike = 0
        for s in shapes:
            total = total + s[axis]
        rest = broadcast(n, [(*s[:axis], 1, *s[axis + 1 :]) for s in shapes])
        return [WireFact(n.fact(2).dtype, (*rest[:axis], total, *rest[axis + 1 :]))]

    def axes(self, n: NodeView) -> AxisMap:
        rank = n.outputs[0].rank
        axis = n.axis(n.attr("axis"), rank)
        for a in n.outputs[0].time_axes(n.symbol):
            for k in self.data(n):
                if a != axis and a not in n.streaming(k):
                    n.refuse(f"its input {n.wires[k]!r} has a fixed length of {n.shape(k)[a]} on the time axis", axis=a)
        return [[() if a == axis else tuple((k, a) for k in self.data(n)) for a in range(rank)]]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return "it joins tensors along time" if k in self.data(n) else PARAMETERS


class Conv(Convolution):
    """Padded with the zero point of the data."""

    status, note = "conditions", "time not in the channels; a constant zero point where padded along time"

    def __init__(self, data: int, weight: int, zero: int, dtype: ir.DataType | int):
        """``dtype``: the type of the result, or the input that has it."""
        super().__init__(data, weight)
        self.zero, self.dtype = zero, dtype

    def windows(self, n: NodeView) -> list[Geometry]:
        if n.attr("channels_last", 0):
            n.refuse("its channels are last", hint="export the model without layout optimisation")
        return super().windows(n)

    def pad_value(self, n: NodeView) -> Any:
        return zero_point(n, self.zero)

    def out_dtype(self, n: NodeView) -> ir.DataType:
        return self.dtype if isinstance(self.dtype, ir.DataType) else n.fact(self.dtype).dtype


class AveragePool(AxisRule):
    """Windows as of AveragePool. Along time without padding, or with padding that counts."""

    status, note = "conditions", "along time: padding only where it counts, no ceil_mode"
    data = 0

    def windows(self, n: NodeView) -> list[Geometry]:
        if n.attr("channels_last", 0):
            n.refuse("its channels are last", hint="export the model without layout optimisation")
        return geometry(n, n.attr("kernel_shape"))

    def pad_value(self, n: NodeView) -> Any:
        if not n.attr("count_include_pad", 0):
            n.refuse(
                "it averages fewer frames at the ends of the stream (count_include_pad is 0)",
                axis=n.streaming(0)[0],
                hint="export with count_include_pad=1, or without padding along time",
            )
        return zero_point(n, 2)

    def infer(self, n: NodeView) -> list[WireFact]:
        x, ceil = n.shape(0), bool(n.attr("ceil_mode", 0))
        spatial = [window_length(n, x[g.axis], g, ceil) for g in self.windows(n)]
        return [WireFact(n.fact(0).dtype, (*x[:2], *spatial))]

    def plan(self, n: NodeView) -> Plan:
        streams = []
        windows = {g.axis: g for g in self.windows(n)}
        for k in range(1, len(n.inputs)):
            if n.streaming(k):
                n.refuse(PARAMETERS, input=k)
        for axis in n.streaming(0):
            g = windows.get(axis, Geometry(axis, 1, 1, 1, 0, 0))
            if n.attr("ceil_mode", 0) and g.stride > 1:
                n.refuse("its last window is cut short (ceil_mode is 1)", axis=axis, hint="export with ceil_mode=0")
            streams.append(window_stream(axis, g))
        return Plan(tuple(streams))


class GlobalAveragePool(AxisRule):
    status, note = "conditions", "not over time"

    def infer(self, n: NodeView) -> list[WireFact]:
        x = n.shape(0)
        kept = self._kept(n)
        return [WireFact(n.fact(0).dtype, tuple(d if a in kept else 1 for a, d in enumerate(x)))]

    @staticmethod
    def _kept(n: NodeView) -> tuple[int, int]:
        return (0, len(n.shape(0)) - 1) if n.attr("channels_last", 0) else (0, 1)

    def axes(self, n: NodeView) -> AxisMap:
        return [same_axes(len(n.shape(0)), [a for a in range(len(n.shape(0))) if a not in self._kept(n)])]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return PARAMETERS if k else "it averages over time, and its result needs the whole stream"

    def hint(self, n: NodeView, k: int, axis: int) -> str:
        return "" if k else "average over a window of frames (a pool with a kernel), or dequantise before the mean"


class IntegerMatMul(MatMul):
    """``dtype``: the type of the result, or the input that has it."""

    def __init__(self, left: int, right: int, dtype: ir.DataType | int):
        super().__init__(left, right)
        self.dtype = dtype

    def out_dtype(self, n: NodeView) -> ir.DataType:
        return self.dtype if isinstance(self.dtype, ir.DataType) else n.fact(self.dtype).dtype


class DynamicMatMul(IntegerMatMul):
    """Its left operand is quantised by its own extremes."""

    note = "its left operand must not stream: its scale is taken over all of it"

    def plan(self, n: NodeView) -> Plan:
        if n.streaming(0):
            _refuse_dynamic(n)
        return super().plan(n)


class QGemm(Gemm):
    def out_dtype(self, n: NodeView) -> ir.DataType:
        zero = n.optional(8)
        return zero.dtype if zero is not None else ir.DataType.FLOAT


class Blockwise(MatMul):
    """Weights of N columns packed by blocks of K: ``A [.., K] -> [.., N]``."""

    note = "time must not be contracted; weights are static"

    def infer(self, n: NodeView) -> list[WireFact]:
        a = n.shape(0)
        if a[-1] != n.attr("K"):
            n.refuse(f"its inner dimensions are {a[-1]} and {n.attr('K')}", axis=len(a) - 1)
        return [WireFact(n.fact(0).dtype, (*a[:-1], n.attr("N")))]

    def axes(self, n: NodeView) -> AxisMap:
        return [same_axes(len(n.shape(0)), (len(n.shape(0)) - 1,))]


class DynamicQuantize(AxisRule):
    """Scale and zero point from the extremes of the whole input."""

    status, note = "conditions", "not over time: its scale sees the whole stream"

    def infer(self, n: NodeView) -> list[WireFact]:
        u8 = ir.DataType.UINT8
        return [WireFact(u8, n.shape(0)), WireFact(ir.DataType.FLOAT, ()), WireFact(u8, ())]

    def plan(self, n: NodeView) -> Plan:
        _refuse_dynamic(n)


def _refuse_dynamic(n: NodeView) -> NoReturn:
    n.refuse(
        "its scale is taken from the extremes of all frames, those to come included",
        axis=n.streaming(0)[0] if n.streaming(0) else None,
        hint="quantise statically (calibrate the scale), or keep this part of the model in float",
    )


INT32 = ir.DataType.INT32
for _domain in ("", MS):
    register(Linear(quantize=True), "QuantizeLinear", domain=_domain)
    register(Linear(quantize=False), "DequantizeLinear", domain=_domain)
    register(Conv(0, 3, zero=2, dtype=7), "QLinearConv", domain=_domain)
register(Conv(0, 1, zero=2, dtype=INT32), "ConvInteger")
register(IntegerMatMul(0, 3, dtype=7), "QLinearMatMul")
register(IntegerMatMul(0, 1, dtype=INT32), "MatMulInteger")
register(IntegerMatMul(0, 1, dtype=INT32), "MatMulInteger16", domain=MS)
register(IntegerMatMul(0, 1, dtype=2), "MatMulIntegerToFloat", domain=MS)
register(DynamicMatMul(0, 1, dtype=0), "DynamicQuantizeMatMul", domain=MS)
register(DynamicQuantize(), "DynamicQuantizeLinear")
register(QGemm(0, 3, bias=6), "QGemm", domain=MS)
register(Blockwise(), "MatMulNBits", "MatMulBnb4", domain=MS)
register(Pointwise(0), "QLinearSigmoid", "QLinearLeakyRelu", domain=MS)
register(Pointwise(0, 3), "QLinearAdd", "QLinearMul", domain=MS)
register(Pointwise(0, 1, 4), "QLinearWhere", domain=MS)
register(Softmax(0), "QLinearSoftmax", domain=MS)
register(Concat(), "QLinearConcat", domain=MS)
register(AveragePool(), "QLinearAveragePool", domain=MS)
register(GlobalAveragePool(), "QLinearGlobalAveragePool", domain=MS)
