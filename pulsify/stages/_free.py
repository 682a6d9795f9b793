"""Wires made from nothing: every frame known from its index alone, so they are made for the delay they are read at.

A position in time belongs to a row of the batch (streams start when they like), so a row of indices gains the batch
axis of the tensor it meets: shape ``[.., N, .., n, ..]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import onnx_ir as ir

from pulsify.dim import Dim, DimLike, sym
from pulsify.facts import AxisRegion, Fill, Iota, WireFact
from pulsify.graph import DOMAIN
from pulsify.ops._rule import find
from pulsify.ops.elementwise import Pointwise

if TYPE_CHECKING:
    from pulsify.stages._wires import Wires

__all__ = ["Free"]


class Free:
    """Makes wires whose every frame is known from its index, at the delay their reader wants."""

    def __init__(self, b: Wires, node: ir.Node):
        self.b, self.node = b, node

    def make(self, v: ir.Value, axis: int, delay: int, batch_axis: int | None, rank: int) -> ir.Value:
        """Wire v with frames ``[n*T - delay, ..)`` on its time axis, to broadcast against a tensor of that rank
        whose batch axis is given."""
        b, g = self.b, self.b.g
        right = None if batch_axis is None else rank - batch_axis
        key = (v, axis, delay, right)
        if key in b.made:
            return b.made[key]
        fact = g.facts[v]
        region = {axis: AxisRegion(b.s.rates[v, axis], delay)}
        if isinstance(fact.value, Fill):
            out = self._fill(v, fact, region)
        elif isinstance(fact.value, Iota):
            if fact.value.axis != axis:
                raise b.refuse(self.node, "it counts along one axis and streams along another", v)
            out = self._iota(v, fact, axis, region[axis], right)
        else:
            out = self._node(v, fact, axis, delay, batch_axis, rank, region)
        b.made[key] = out
        return out

    def _fill(self, v: ir.Value, fact: WireFact, region: Mapping[int, AxisRegion]) -> ir.Value:
        b = self.b
        assert fact.shape is not None and isinstance(fact.value, Fill)
        if isinstance(fact.value.value, Dim):
            raise b.refuse(self.node, f"it is filled with {fact.value.value}, which depends on the stream's length", v)
        one = b.const(fact.value.value, "fill", fact.dtype.numpy())
        shape = b.pulsed_shape(v, fact.shape, {a: r.rate for a, r in region.items()})
        dims = b.dims(list(shape), f"{v.name}.shape", self.node, None)
        return b.op("Expand", [one, dims], v.name or "fill", fact, region)

    def _iota(self, v: ir.Value, fact: WireFact, axis: int, region: AxisRegion, right: int | None) -> ir.Value:
        b, g = self.b, self.b.g
        iota = fact.value
        assert isinstance(iota, Iota) and fact.shape is not None
        if isinstance(iota.start, Dim) or isinstance(iota.step, Dim):
            raise b.refuse(self.node, f"it counts from {iota.start}, which depends on the stream's length", v)
        time = fact.rank - axis  # from the right, 1-based
        own = g.batch_axis(fact.shape)
        if own is not None:
            right = fact.rank - own
        if g.batch is not None and right is None:
            raise b.refuse(self.node, "it uses positions in time without a batch axis, and each stream has its own", v)
        wide = [a for a, d in enumerate(fact.shape) if d != 1 and a not in (axis, own)]
        if right == time or any(fact.rank - a == right for a in wide):
            raise b.refuse(self.node, "it uses positions in time together with another axis", v)
        rank = max(fact.rank, right or 0)
        shape: list[DimLike] = [1] * rank
        pulsed = list(shape)
        shape[rank - time], pulsed[rank - time] = fact.shape[axis], b.new.frames(region)
        if right is not None and g.batch is not None:
            shape[rank - right] = pulsed[rank - right] = sym(g.batch)
        at = {rank - time: region}
        row = b.op(
            "Position", [], f"{v.name}.position", WireFact(ir.DataType.INT64, tuple(shape)), at, DOMAIN,
            rate=str(region.rate), delay=region.delay, shape=[str(d) for d in pulsed], time=rank - time,
            batch=-1 if right is None else rank - right,
        )  # fmt: skip
        final = WireFact(fact.dtype, tuple(shape))
        if fact.dtype != ir.DataType.INT64:
            row = b.op("Cast", [row], f"{v.name}.cast", final, at, to=fact.dtype)
        if iota.step != 1:
            row = b.op("Mul", [row, b.const(iota.step, "step", fact.dtype.numpy())], f"{v.name}.scaled", final, at)
        if iota.start != 0:
            row = b.op("Add", [row, b.const(iota.start, "start", fact.dtype.numpy())], f"{v.name}.from", final, at)
        if wide:
            for a in wide:
                shape[rank - fact.rank + a] = pulsed[rank - fact.rank + a] = fact.shape[a]
            full = b.dims(list(pulsed), f"{v.name}.shape", self.node, None)
            row = b.op("Expand", [row, full], f"{v.name}.wide", WireFact(fact.dtype, tuple(shape)), at)
        return row

    def _node(
        self, v: ir.Value, fact: WireFact, axis: int, delay: int, batch_axis: int | None, rank: int,
        region: Mapping[int, AxisRegion],
    ) -> ir.Value:  # fmt: skip
        b, g = self.b, self.b.g
        node = v.producer()
        assert node is not None
        plan = b.s.plans[node]
        stream = next(s for s in plan.streams if node.outputs[s.output] is v and s.axis == axis)
        inputs: list[ir.Value | None] = []
        for k, source in enumerate(node.inputs):
            need = next((x for x in stream.needs if x.input == k), None)
            if plan.dims is not None and plan.dims[0] == k:
                inputs.append(None)
            elif need is None or source is None:
                if source in b.running:
                    raise b.feedback(node, source)
                inputs.append(b.static(source, node))
            else:
                row = self.make(source, need.axis, delay, batch_axis, rank)
                if not _follows_rows(node) and b.new.facts[row].shape != g.facts[source].shape:
                    raise b.refuse(node, "it uses positions in time, of which each stream has its own", source)
                inputs.append(row)
        if plan.dims is not None:
            inputs[plan.dims[0]] = b.target(node, plan, inputs)
        new = self._wider(v, fact, inputs, rank)
        at = {a + new.rank - fact.rank: r for a, r in region.items()}  # type: ignore[operator]
        return b.op(node.op_type, inputs, v.name or "free", new, at, node.domain, **dict(node.attributes))

    def _wider(self, v: ir.Value, fact: WireFact, inputs: list[ir.Value | None], rank: int) -> WireFact:
        """The fact of a copy whose inputs may have gained a batch axis."""
        assert fact.shape is not None
        shapes = [self.b.new.facts[i].shape for i in inputs if i is not None]
        wide = max([len(fact.shape), *(len(s) for s in shapes if s is not None)])
        shape: list[DimLike] = [*(1,) * (wide - len(fact.shape)), *fact.shape]
        for s in shapes:
            for i, d in enumerate(s or (), wide - len(s or ())):
                if shape[i] == 1:
                    shape[i] = d
        return WireFact(fact.dtype, tuple(shape))


def _follows_rows(node: ir.Node) -> bool:
    """Pointwise operators broadcast over a batch axis their input gained; others would mistake it."""
    return isinstance(find(node.domain, node.op_type), Pointwise)
