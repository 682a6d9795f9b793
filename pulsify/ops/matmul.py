"""Products: MatMul, Gemm, Einsum, where time is not contracted.

Region transform: ``out [a, b) <- in [a, b)`` along every axis that survives. Both operands may stream: rows of one
and columns of the other give a wire with time on two axes.
"""

from __future__ import annotations

from pulsify.dim import DimLike
from pulsify.facts import WireFact
from pulsify.ops._families import AxisMap, broadcast
from pulsify.ops._products import Gemm, MatMul, Product
from pulsify.ops._rule import NodeView, register


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
        streams = any(n.streaming(k) for k in range(len(operands)))
        for k, labels in enumerate(operands):
            for label, d in zip(labels, n.shape(k), strict=True):
                # onnx's own inference takes the length of a letter where it stands first, and runtimes believe it.
                if streams and label in out and dims.get(label) == 1 != d:
                    n.refuse(
                        f"{self._show(n, label)} has 1 element, and {d} of input {n.wires[k]!r}",
                        hint="leave the letter of an axis of length 1 out, behind a Squeeze",
                    )
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
