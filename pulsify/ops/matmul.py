"""Products: MatMul, Gemm, Einsum, where time is not contracted.

Region transform: ``out [a, b) <- in [a, b)`` along every axis that survives. Both operands may stream: rows of one
and columns of the other give a wire with time on two axes.
"""

from __future__ import annotations

from pulsify.dim import DimLike
from pulsify.facts import Shape, WireFact
from pulsify.ops._families import AxisMap, AxisRule, broadcast, broadcast_axes
from pulsify.ops._rule import NodeView, register


class Product(AxisRule):
    status, note = "conditions", "time must not be contracted"

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return "it sums over time, and its result needs the whole stream"

    def hint(self, n: NodeView, k: int, axis: int) -> str:
        return "a sum over a bounded window of frames can be written as a convolution"


def contract(n: NodeView, a: DimLike, b: DimLike) -> None:
    """Refuse operands whose inner dimensions cannot agree."""
    if a != b and not (isinstance(a, int) and isinstance(b, int)):
        return
    if a != b:
        n.refuse(f"its inner dimensions are {a} and {b}")


class MatMul(Product):
    def infer(self, n: NodeView) -> list[WireFact]:
        a, b = n.shape(0), n.shape(1)
        wide_a: Shape = (1, *a) if len(a) == 1 else a
        wide_b: Shape = (*b, 1) if len(b) == 1 else b
        contract(n, wide_a[-1], wide_b[-2])
        batch = broadcast(n, [wide_a[:-2], wide_b[:-2]])
        out = (*batch, *((wide_a[-2],) if len(a) > 1 else ()), *((wide_b[-1],) if len(b) > 1 else ()))
        return [WireFact(n.fact(0).dtype, out)]

    def axes(self, n: NodeView) -> AxisMap:
        ra, rb = len(n.shape(0)), len(n.shape(1))
        batch = max(ra - 2, rb - 2, 0)
        out = []
        for o in range(batch):
            pairs = []
            for k, r in ((0, ra), (1, rb)):
                a = o - (batch - max(r - 2, 0))
                if a >= 0 and n.shape(k)[a] != 1:
                    pairs.append((k, a))
            out.append(tuple(pairs))
        if ra > 1:
            out.append(((0, ra - 2),))
        if rb > 1:
            out.append(((1, rb - 1),))
        return [out]


class Gemm(Product):
    def infer(self, n: NodeView) -> list[WireFact]:
        a, b = n.shape(0), n.shape(1)
        rows, inner = (a[1], a[0]) if n.attr("transA", 0) else (a[0], a[1])
        inner_b, cols = (b[1], b[0]) if n.attr("transB", 0) else (b[0], b[1])
        contract(n, inner, inner_b)
        if n.optional(2) is not None:
            broadcast(n, [(rows, cols), n.shape(2)])
        return [WireFact(n.fact(0).dtype, (rows, cols))]

    def axes(self, n: NodeView) -> AxisMap:
        row = 1 if n.attr("transA", 0) else 0
        col = 0 if n.attr("transB", 0) else 1
        bias = broadcast_axes(n, [2], 2)
        return [[((0, row), *bias[0]), ((1, col), *bias[1])]]


class Einsum(Product):
    def terms(self, n: NodeView) -> tuple[list[list[str]], list[str]]:
        """Labels of each operand's axes and of the output's; the axes of an ellipsis are '.0', '.1', ... from the
        right."""
        equation = n.attr("equation").replace(" ", "")
        left, _, right = equation.partition("->")
        operands = [_labels(t, len(n.shape(k))) for k, t in enumerate(left.split(","))]
        if "->" in equation:
            widest = max(sum(label[0] == "." for label in op) for op in operands)
            extra = len(right.replace("...", "")) + (widest if "..." in right else 0)
            return operands, _labels(right, extra)
        flat = [label for op in operands for label in op]
        dots = sorted({label for label in flat if label[0] == "."}, key=lambda d: -int(d[1:]))
        return operands, [*dots, *sorted(c for c in set(flat) if c[0] != "." and flat.count(c) == 1)]

    def infer(self, n: NodeView) -> list[WireFact]:
        operands, out = self.terms(n)
        dims: dict[str, DimLike] = {}
        for k, labels in enumerate(operands):
            for label, d in zip(labels, n.shape(k), strict=True):
                (dims[label],) = broadcast(n, [(dims.get(label, 1),), (d,)])
        return [WireFact(n.fact(0).dtype, tuple(dims[label] for label in out))]

    def axes(self, n: NodeView) -> AxisMap:
        operands, out = self.terms(n)
        rows = []
        for label in out:
            pairs = []
            for k, labels in enumerate(operands):
                if labels.count(label) > 1 and set(n.streaming(k)) & {
                    a for a, other in enumerate(labels) if other == label
                }:
                    n.refuse(f"it takes the diagonal of {self._show(n, label)}")
                if label in labels and n.shape(k)[labels.index(label)] != 1:
                    pairs.append((k, labels.index(label)))
            rows.append(tuple(pairs))
        return [rows]

    @staticmethod
    def _show(n: NodeView, label: str) -> str:
        return f"{label!r} in {n.attr('equation')!r}"


def _labels(term: str, rank: int) -> list[str]:
    if "..." not in term:
        return list(term)
    head, _, tail = term.partition("...")
    dots = rank - len(head) - len(tail)
    return [*head, *(f".{dots - 1 - i}" for i in range(dots)), *tail]


register(MatMul(), "MatMul")
register(Gemm(), "Gemm")
register(Einsum(), "Einsum")
