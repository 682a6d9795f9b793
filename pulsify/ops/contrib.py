"""Operators of onnxruntime's own domain, com.microsoft: what its optimiser and its converters write.

Region transforms are those of what they stand for: activations frame by frame, ``FusedConv = act(Conv(x) + b)``,
``FusedMatMul = alpha * A' @ B'``, ``SkipLayerNormalization = LayerNormalization(x + skip + bias)`` over the last axis.
"""

from __future__ import annotations

from pulsify.dim import DimLike
from pulsify.facts import Plan, Shape, WireFact
from pulsify.ops._convolution import Convolution
from pulsify.ops._families import AxisMap, AxisRule, broadcast, broadcast_axes
from pulsify.ops._products import Gemm, MatMul
from pulsify.ops._rule import NodeView, Refused, register

MS = "com.microsoft"


class Activation(AxisRule):
    """Pointwise in all inputs, which broadcast."""

    def infer(self, n: NodeView) -> list[WireFact]:
        shapes = [n.shape(k) for k in range(len(n.inputs)) if n.inputs[k] is not None]
        return [WireFact(n.fact(0).dtype, broadcast(n, shapes))]

    def axes(self, n: NodeView) -> AxisMap:
        return [broadcast_axes(n, range(len(n.inputs)), n.outputs[0].rank)]


class FusedConv(Convolution):
    def plan(self, n: NodeView) -> Plan:
        if n.streaming(3):
            n.refuse("it adds a stream to its result", input=3, hint="export the model without operator fusion")
        return super().plan(n)


class FusedMatMul(MatMul):
    """The last two axes of either operand may come transposed."""

    def infer(self, n: NodeView) -> list[WireFact]:
        if n.attr("transBatchA", 0) or n.attr("transBatchB", 0):
            n.refuse("it transposes batch axes", hint="export the model without operator fusion")
        a, b = n.shape(0), n.shape(1)
        wide_a: Shape = (1, *a) if len(a) == 1 else self._turn(a, n.attr("transA", 0))
        wide_b: Shape = (*b, 1) if len(b) == 1 else self._turn(b, n.attr("transB", 0))
        self.agree(n, wide_a[-1], wide_b[-2])
        rows: tuple[DimLike, ...] = (wide_a[-2],) if len(a) > 1 else ()
        cols: tuple[DimLike, ...] = (wide_b[-1],) if len(b) > 1 else ()
        return [WireFact(n.fact(0).dtype, (*broadcast(n, [wide_a[:-2], wide_b[:-2]]), *rows, *cols))]

    @staticmethod
    def _turn(shape: Shape, turned: int) -> Shape:
        return (*shape[:-2], shape[-1], shape[-2]) if turned else shape

    def axes(self, n: NodeView) -> AxisMap:
        (out,) = super().axes(n)
        ra, rb = len(n.shape(0)), len(n.shape(1))
        if ra > 1 and n.attr("transA", 0):
            out[-1 if rb == 1 else -2] = ((0, ra - 1),)
        if rb > 1 and n.attr("transB", 0):
            out[-1] = ((1, rb - 2),)
        return [out]


class SkipNorm(AxisRule):
    """Statistics over the last axis of ``input + skip + bias``; the last output is that sum."""

    status, note = "conditions", "not with statistics over time"

    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        shape = broadcast(n, [n.shape(0), n.shape(1)])
        stats = WireFact(f.dtype, (*shape[:-1], 1))
        full = WireFact(f.dtype, shape)
        return [full, stats, stats, full][: len(n.node.outputs)]

    def axes(self, n: NodeView) -> AxisMap:
        row = broadcast_axes(n, (0, 1), n.outputs[0].rank)
        return [[*row[:-1], ()] for _ in n.outputs]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        if k > 1:
            return "its parameters change with time"
        return "it normalises over time, and every frame needs the statistics of the whole stream"


register(Activation(), "Gelu", "FastGelu", "BiasGelu", "QuickGelu", "ScaledSiLU", domain=MS)
register(FusedConv(), "FusedConv", domain=MS)
register(FusedMatMul(), "FusedMatMul", "TransposeMatMul", domain=MS)
register(Gemm(), "FusedGemm", domain=MS)
register(SkipNorm(), "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MS)

_ATTENTION = Refused(
    "attention over time looks at every frame of the stream",
    "export the model with attention as MatMul and Softmax over a bounded window of frames",
    domain=MS,
)
register(
    _ATTENTION, "Attention", "DecoderMaskedMultiHeadAttention", "DecoderMaskedSelfAttention", "GatedRelativePositionBias",
    "GroupQueryAttention", "LinearAttention", "LongformerAttention", "MultiHeadAttention", "PagedAttention", "QAttention",
    "RelativePositionBias", "SparseAttention",
)  # fmt: skip
register(
    Refused("it looks positions up from the start of the sequence", "apply the rotation as Mul and Add", domain=MS),
    "EmbedLayerNormalization", "QEmbedLayerNormalization", "RotaryEmbedding", "MRotaryEmbedding", "GemmaRotaryEmbedding",
)  # fmt: skip
register(
    Refused("it carries a state of its own between calls", "export it as a Conv padded on the left", domain=MS),
    "CausalConvWithState", "VarlenCausalConvWithState",
)  # fmt: skip
register(
    Refused("its channels are last", "export the model without layout optimisation", domain=MS),
    "NhwcConv", "NhwcFusedConv", "NhwcMaxPool",
)  # fmt: skip
register(
    Refused("it quantises by the extremes of the whole sequence", "export the LSTM in float", domain=MS),
    "DynamicQuantizeLSTM",
)  # fmt: skip
register(
    Refused("it is an older spelling of an operator of ai.onnx", "export with the operator of that name", domain=MS),
    "ExpandDims", "GatherND", "GridSample", "Pad", "Range", "Trilu", "Unique",
)  # fmt: skip
register(
    Refused("it generates a sequence of its own length", "stream the model it loops over", domain=MS),
    "BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch",
)  # fmt: skip
