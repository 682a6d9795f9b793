"""The rules all matrix products share: float, quantised and fused ones differ in which inputs are the operands.

Region transform: ``out [a, b) <- in [a, b)`` along every axis that survives; time is never contracted.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.dim import DimLike
from pulsify.facts import Shape, WireFact
from pulsify.ops._families import AxisMap, AxisRule, broadcast, broadcast_axes
from pulsify.ops._rule import NodeView

__all__ = ["Gemm", "MatMul", "Product"]


class Product(AxisRule):
    """``left`` and ``right`` are the operands among the inputs."""

    status, note = "conditions", "time must not be contracted"

    def __init__(self, left: int = 0, right: int = 1):
        self.left, self.right = left, right

    def out_dtype(self, n: NodeView) -> ir.DataType:
        return n.fact(self.left).dtype

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        if k not in (self.left, self.right):
            return "its parameters change with time"
        return "it sums over time, and its result needs the whole stream"

    def hint(self, n: NodeView, k: int, axis: int) -> str:
        if k not in (self.left, self.right):
            return "only the operands of a product can stream"
        return "a sum over a bounded window of frames can be written as a convolution"

    @staticmethod
    def agree(n: NodeView, a: DimLike, b: DimLike) -> None:
        """Refuse operands whose inner dimensions cannot agree."""
        if a != b and isinstance(a, int) and isinstance(b, int):
            n.refuse(f"its inner dimensions are {a} and {b}")


class MatMul(Product):
    """Batched ``A @ B`` with numpy's rules for vectors and broadcasting."""

    def infer(self, n: NodeView) -> list[WireFact]:
        a, b = n.shape(self.left), n.shape(self.right)
        wide_a: Shape = (1, *a) if len(a) == 1 else a
        wide_b: Shape = (*b, 1) if len(b) == 1 else b
        self.agree(n, wide_a[-1], wide_b[-2])
        batch = broadcast(n, [wide_a[:-2], wide_b[:-2]])
        out = (*batch, *((wide_a[-2],) if len(a) > 1 else ()), *((wide_b[-1],) if len(b) > 1 else ()))
        return [WireFact(self.out_dtype(n), out)]

    def axes(self, n: NodeView) -> AxisMap:
        ra, rb = len(n.shape(self.left)), len(n.shape(self.right))
        batch = max(ra - 2, rb - 2, 0)
        out = []
        for o in range(batch):
            pairs = []
            for k, r in ((self.left, ra), (self.right, rb)):
                a = o - (batch - max(r - 2, 0))
                if a >= 0 and n.shape(k)[a] != 1:
                    pairs.append((k, a))
            out.append(tuple(pairs))
        if ra > 1:
            out.append(((self.left, ra - 2),))
        if rb > 1:
            out.append(((self.right, rb - 1),))
        return [out]


class Gemm(Product):
    """``alpha * A' @ B' + beta * C`` of matrices, each transposed where asked."""

    def __init__(self, left: int = 0, right: int = 1, bias: int = 2):
        super().__init__(left, right)
        self.bias = bias

    def infer(self, n: NodeView) -> list[WireFact]:
        a, b = n.shape(self.left), n.shape(self.right)
        rows, inner = (a[1], a[0]) if n.attr("transA", 0) else (a[0], a[1])
        inner_b, cols = (b[1], b[0]) if n.attr("transB", 0) else (b[0], b[1])
        self.agree(n, inner, inner_b)
        if n.optional(self.bias) is not None:
            broadcast(n, [(rows, cols), n.shape(self.bias)])
        return [WireFact(self.out_dtype(n), (rows, cols))]

    def axes(self, n: NodeView) -> AxisMap:
        row = 1 if n.attr("transA", 0) else 0
        col = 0 if n.attr("transB", 0) else 1
        bias = broadcast_axes(n, [self.bias], 2)
        return [[((self.left, row), *bias[0]), ((self.right, col), *bias[1])]]
