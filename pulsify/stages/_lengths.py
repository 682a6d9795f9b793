"""The stream's length as data of static nodes: V, the real frames so far, in place of S.

A node that no time reaches may compute with the length (a sum divided by S). Its result is then a running one. Each
row of a batch has its own V, so a number of the batch model becomes a row of numbers ``[N]``, placed along the batch
axis of the tensor it meets.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from math import lcm

import onnx_ir as ir

from pulsify.dim import Dim, DimLike, sym, symbols_of
from pulsify.facts import Elems, Fill, Shape, WireFact
from pulsify.graph import DOMAIN
from pulsify.ops._rule import find
from pulsify.ops.elementwise import Pointwise
from pulsify.stages._expressions import write_expression
from pulsify.stages._wires import Wires

__all__ = ["Lengths"]

INT64 = ir.DataType.INT64


class Lengths:
    """Static nodes that compute with the stream's length."""

    def __init__(self, b: Wires):
        self.b = b
        #: Numbers computed from the length: one per row, ``[N]``.
        self._rows: dict[ir.Value, ir.Value] = {}
        self._sizes: dict[DimLike, ir.Value] = {}

    def late(self, v: ir.Value | None) -> bool:
        """Whether a static wire holds numbers known only from the length of the stream."""
        if v is None:
            return False
        value = self.b.g.facts[v].value
        elems = value.array.flat if isinstance(value, Elems) else (value.value,) if isinstance(value, Fill) else ()
        return v in self._rows or any(isinstance(e, Dim) and self.b.g.symbol in symbols_of(e) for e in elems)

    def inputs(self, node: ir.Node) -> tuple[list[ir.Value | None], bool]:
        """The inputs of a node that reads such a wire; and whether its own result is again a number per row."""
        b, (out, *more) = self.b, node.outputs
        fact = b.g.facts[out]
        spread = node.op_type == "Expand" and not node.domain
        if more or fact.shape is None or not (spread or isinstance(find(node.domain, node.op_type), Pointwise)):
            raise b.refuse(node, "it uses the stream's length other than in arithmetic", node.inputs[0])
        batch = b.g.batch_axis(fact.shape)
        wires: list[ir.Value | None] = []
        alone = b.g.batch is not None and batch is None
        for v in node.inputs:
            if not self.late(v):
                if alone and v is not None and not _single(b.g.facts[v]):
                    raise b.refuse(node, "it uses the stream's length without a batch axis, and each stream has its own", v)
                wires.append(b.static(v, node))
            else:
                assert v is not None
                wires.append(self._placed(v, node, fact, batch))
        if alone and (spread or any(d != 1 for d in fact.shape)):
            raise b.refuse(node, "it uses the stream's length without a batch axis, and each stream has its own", out)
        return wires, alone

    def keep(self, v: ir.Value, wire: ir.Value) -> None:
        """The number per row that ``v`` has become."""
        self._rows[v] = wire
        self.b.declare(wire, WireFact(self.b.g.facts[v].dtype, (sym(self.b.g.batch or ""),)))

    def value(self, v: ir.Value, node: ir.Node) -> ir.Value:
        """The wire as it is at V: one number filling a tensor, or numbers without a batch."""
        b, fact = self.b, self.b.g.facts[v]
        assert fact.shape is not None
        if isinstance(fact.value, Fill):
            row = self._row(self._number(fact.value.value, fact.dtype, node), v, fact.shape, node)
            return b.op("Expand", [row, b.dims(list(fact.shape), f"{v.name}.shape", node, None)], f"{v.name}.now", fact)
        assert isinstance(fact.value, Elems)
        if b.g.batch is not None:
            raise b.refuse(node, "it uses the stream's length without a batch axis, and each stream has its own", v)
        parts = [self._number(d, fact.dtype, node) for d in fact.value.array.reshape(-1)]
        flat = parts[0]
        if len(parts) > 1:
            flat = b.op("Concat", list(parts), f"{v.name}.now", WireFact(fact.dtype, (len(parts),)), axis=0)
        return self._shaped(flat, fact)

    def _placed(self, v: ir.Value, node: ir.Node, out: WireFact, batch: int | None) -> ir.Value:
        b, fact = self.b, self.b.g.facts[v]
        if b.g.batch is None:
            return self.value(v, node)
        assert out.shape is not None
        if isinstance(fact.value, Fill) and fact.shape is not None and b.g.batch_axis(fact.shape) is not None:
            return self.value(v, node)
        if fact.shape is None or any(d != 1 for d in fact.shape):
            raise b.refuse(node, "it uses several numbers computed from the stream's length, and each stream has its own", v)
        row = self._rows.get(v)
        if row is None:
            assert isinstance(fact.value, Elems | Fill)
            number = fact.value.value if isinstance(fact.value, Fill) else fact.value.array.reshape(-1)[0]
            row = self._number(number, fact.dtype, node)
        return row if batch is None else self._row(row, v, out.shape, node)

    def _row(self, row: ir.Value, v: ir.Value, shape: Shape, node: ir.Node) -> ir.Value:
        """A row of numbers along the batch axis of a shape."""
        b = self.b
        batch = b.g.batch_axis(shape)
        if b.g.batch is not None and batch is None:
            raise b.refuse(node, "it uses the stream's length without a batch axis, and each stream has its own", v)
        axes = [a for a in range(len(shape)) if a != batch]
        if batch is None or not axes:
            return row
        dtype = b.g.facts[v].dtype
        placed = tuple(d if a == batch else 1 for a, d in enumerate(shape))
        return b.op("Unsqueeze", [row, b.const(axes)], f"{v.name}.row", WireFact(dtype, placed))

    def _shaped(self, wire: ir.Value, fact: WireFact) -> ir.Value:
        if fact.shape is not None and len(fact.shape) == 1:
            return wire
        assert fact.shape is not None
        shape = self.b.const([int(d) for d in fact.shape])
        return self.b.op("Reshape", [wire, shape], f"{wire.name}.shaped", WireFact(fact.dtype, fact.shape))

    def _number(self, d: DimLike | Fraction, dtype: ir.DataType, node: ir.Node) -> ir.Value:
        """One number, per row. A fraction is an integer divided, as the batch model would."""
        b = self.b
        whole: Mapping[object, Fraction] = d.terms if isinstance(d, Dim) else {(): Fraction(d)}  # type: ignore[assignment]
        den = lcm(1, *(Fraction(c).denominator for c in whole.values()))
        if b.g.batch is not None and not symbols_of(d) <= {b.g.symbol}:  # type: ignore[arg-type]
            raise b.refuse(node, f"it uses {d}, the size of a whole batch, and its streams start and end on their own")
        shape: tuple[DimLike, ...] = (sym(b.g.batch) if b.g.batch is not None else 1,)

        def leaf(name: str) -> ir.Value:
            if name != b.g.symbol:
                return b._leaf(name, node)
            text = [str(s) for s in shape]
            at = 0 if b.g.batch is not None else -1
            return b.op("Length", [], "length", WireFact(INT64, shape), None, DOMAIN, length=name, shape=text, batch=at)

        wire = write_expression(
            d * den, leaf, lambda v: b.const([v]),
            lambda op, inputs: b.op(op, list(inputs), "length", WireFact(INT64, shape)), self._sizes,
        )  # fmt: skip
        if b.new.facts[wire].shape != shape:
            wire = b.op("Expand", [wire, b.dims(list(shape), "rows", node, None)], "length", WireFact(INT64, shape))
        if dtype != INT64:
            wire = b.op("Cast", [wire], "length", WireFact(dtype, shape), to=dtype)
        if den != 1:
            wire = b.op("Div", [wire, b.const(den, "den", dtype.numpy())], "length", WireFact(dtype, shape))
        return wire


def _single(fact: WireFact) -> bool:
    return fact.shape is not None and all(d == 1 for d in fact.shape)
