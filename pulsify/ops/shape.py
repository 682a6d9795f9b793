"""Shape arithmetic and tensors made from shapes: Shape, Size, ConstantOfShape, Range, Expand, Tile.

Their results are symbolic values, so that with every shape argument known the nodes that computed it are dead.
Region transform: a tensor every frame of which is known from its index alone is provided at any delay for free.
"""

from __future__ import annotations

from fractions import Fraction
from math import prod

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim, DimLike, floor
from pulsify.facts import MAX_ELEMS, Elems, Fill, Iota, Need, Plan, Shape, Stream, Value, WireFact
from pulsify.ops._families import AxisMap, AxisRule, axis_plan, broadcast, broadcast_axes, product
from pulsify.ops._rule import NodeView, Rule, elems_fact, register


def small(values: list[DimLike]) -> np.ndarray:
    """A 1-D object array (numpy must not look inside the expressions)."""
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def known_sizes(shape: Shape) -> tuple[int, ...] | None:
    """A shape as numbers, or None where a dimension is symbolic."""
    return None if any(isinstance(d, Dim) for d in shape) else tuple(int(d) for d in shape)


class FromShape(Rule):
    """Never streams itself: its value is an expression, written again where it is needed."""

    def plan(self, n: NodeView) -> Plan:
        return Plan((), kind="free")


class ShapeOf(FromShape):
    def infer(self, n: NodeView) -> list[WireFact]:
        shape = n.shape(0)
        start, end = n.attr("start", 0), n.attr("end", len(shape))
        dims = list(shape[slice(start, end)])
        return [elems_fact(ir.DataType.INT64, small(dims))]


class Size(FromShape):
    def infer(self, n: NodeView) -> list[WireFact]:
        out = np.empty((), dtype=object)
        out[()] = product(n.shape(0))
        return [elems_fact(ir.DataType.INT64, out)]


class ConstantOfShape(FromShape):
    def infer(self, n: NodeView) -> list[WireFact]:
        tensor = n.attr("value")
        dtype = ir.DataType.FLOAT if tensor is None else tensor.dtype
        value = 0.0 if tensor is None else tensor.numpy().reshape(-1)[0].item()
        f = n.fact(0)
        if f.elems() is None:
            rank = f.shape[0] if f.shape else None
            n.refuse(f"its shape ({rank} axes) is computed from data")
        shape = n.ints(0) or ()
        return [WireFact(dtype, tuple(shape), Fill(value))]


class Range(FromShape):
    """``out[j] = start + step*j``, ``max(ceil((limit - start)/step), 0)`` elements."""

    def infer(self, n: NodeView) -> list[WireFact]:
        parts = []
        for k in range(3):
            v = n.ints(k)
            assert v is not None
            parts.append(v[0])
        start, limit, step = parts
        if isinstance(step, Dim) or step == 0:
            n.refuse(f"its step {step} must be a known number")
        count = -floor((start - limit) * Fraction(1, step))
        if not n.assume.ge(count, 0, n.name):
            count = 0
        dtype = n.fact(0).dtype
        if isinstance(count, int) and count <= MAX_ELEMS:
            return [elems_fact(dtype, small([start + step * i for i in range(count)]))]
        return [WireFact(dtype, (count,), Iota(0, start, step))]


class Expand(AxisRule):
    """Broadcast to a shape. A streaming axis of the input is kept; one made from length 1 repeats the same frame."""

    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        target = n.ints(1)
        assert target is not None
        shape = broadcast(n, [n.shape(0), target])
        value: Value = f.value if isinstance(f.value, Fill) else None
        elems, sizes = f.elems(), known_sizes(shape)
        if elems is not None and sizes is not None and prod(sizes) <= MAX_ELEMS:
            value = Elems(np.broadcast_to(elems, sizes).copy())
        elif elems is not None and elems.size == 1:
            value = Fill(elems.reshape(-1)[0])
        elif isinstance(f.value, Iota):
            value = Iota(f.value.axis + len(shape) - f.rank, f.value.start, f.value.step)
        return [WireFact(f.dtype, shape, value)]

    def axes(self, n: NodeView) -> AxisMap:
        return [broadcast_axes(n, [0], n.outputs[0].rank)]

    def plan(self, n: NodeView) -> Plan:
        return axis_plan(self, n, dims=(1, "expand"))


class Tile(AxisRule):
    """Repeat along axes. Repeating the stream itself, or making one from a static tensor, is refused."""

    status, note = "conditions", "not along time"

    def repeats(self, n: NodeView) -> tuple[DimLike, ...]:
        out = n.ints(1)
        assert out is not None
        return out

    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        repeats = self.repeats(n)
        shape = tuple(d * r for d, r in zip(n.shape(0), repeats, strict=True))
        value: Value = f.value if isinstance(f.value, Fill) else None
        elems, sizes = f.elems(), known_sizes(shape)
        if elems is not None and sizes is not None and prod(sizes) <= MAX_ELEMS:
            value = Elems(np.tile(elems, [int(r) for r in repeats]))
        return [WireFact(f.dtype, shape, value)]

    def axes(self, n: NodeView) -> AxisMap:
        return [[((0, a),) if r == 1 else () for a, r in enumerate(self.repeats(n))]]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return f"it repeats the stream {self.repeats(n)[axis]} times"

    def plan(self, n: NodeView) -> Plan:
        dims = n.shape(0)
        live = n.streaming(0)
        for a in n.outputs[0].time_axes(n.symbol):
            if a not in live:
                if dims[a] != 1:
                    n.refuse(f"it repeats {dims[a]} static frames along time", axis=a)
                # Repeating one frame is broadcasting it.
                return Plan(
                    (*(Stream(0, b, (Need(0, b),)) for b in live), Stream(0, a, ())), dims=(1, "tile")
                )
        return axis_plan(self, n, dims=(1, "tile"))


register(ShapeOf(), "Shape")
register(Size(), "Size")
register(ConstantOfShape(), "ConstantOfShape")
register(Range(), "Range")
register(Expand(), "Expand")
register(Tile(), "Tile")
