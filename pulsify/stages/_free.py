"""Wires made from nothing: every frame known from its index alone, so they are made for the delay they are read at.

A position in time belongs to a row of the batch: streams start when they like. Where a model has a batch, such wires
are therefore computed for all rows at once, as if they were one long stream: time axes hold the ``N*n`` positions of N
rows, and a batch axis holds 1. No operator along the way need know, for each makes a frame of a frame. What a reader
gets is cut into rows again: its time axis becomes n, and N goes to the batch axis of the tensor it meets,
``[.., N, .., n, ..]``. A static input with a batch axis meets positions of its own row only: it is repeated n times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import onnx_ir as ir

from pulsify.dim import Dim, DimLike, sym, symbols_of
from pulsify.facts import AxisRegion, Fill, Iota, Plan, WireFact
from pulsify.graph import DOMAIN, shape_attribute
from pulsify.ops._rule import find
from pulsify.ops.elementwise import Pointwise

if TYPE_CHECKING:
    from pulsify.stages._wires import Wires

__all__ = ["Free"]

INT64 = ir.DataType.INT64


class Free:
    """Makes wires whose every frame is known from its index, at the delay their reader wants."""

    def __init__(self, b: Wires, node: ir.Node):
        self.b, self.node = b, node

    def make(self, v: ir.Value, axis: int, delay: int, batch_axis: int | None, rank: int) -> ir.Value:
        """Wire v with frames ``[n*T - delay, ..)`` on its time axis, to broadcast against a tensor of that rank
        whose batch axis is given."""
        b, g = self.b, self.b.g
        right = None if batch_axis is None else rank - batch_axis
        rows = g.batch is not None and self._rows(v)
        key = ("free", v, delay, right) if rows else ("free", v, delay)
        if key not in b.made:
            b.made[key] = self._unfold(v, axis, delay, right) if rows else _Chain(self, delay, False).make(v)
        return b.made[key]

    def _rows(self, v: ir.Value) -> bool:
        """Whether rows of the batch differ in this wire."""
        b, g = self.b, self.b.g
        key = ("rows", v)
        if key not in b.varies:
            fact, node = g.facts[v], v.producer()
            if isinstance(fact.value, (Fill, Iota)) or node is None:
                b.varies[key] = isinstance(fact.value, Iota)
            else:
                plan = b.s.plans[node]
                sources = [s for k, s in enumerate(node.inputs) if s is not None and (plan.dims is None or plan.dims[0] != k)]
                b.varies[key] = any(
                    self._rows(s) if g.time_axes(s) else self.batched(s) and not isinstance(g.facts[s].value, Fill)
                    for s in sources
                )
        return b.varies[key]

    def batched(self, v: ir.Value) -> bool:
        """Whether a shape mentions the batch."""
        g = self.b.g
        return any(g.batch in symbols_of(d) for d in g.facts[v].shape or ())

    def _unfold(self, v: ir.Value, axis: int, delay: int, right: int | None) -> ir.Value:
        """The rows of a wire apart again, N where the reader has its batch axis."""
        b, g = self.b, self.b.g
        fact, shape = g.facts[v], g.facts[v].shape
        assert shape is not None and g.batch is not None
        own, r = g.batch_axis(shape), len(shape)
        if own is not None:
            right = r - own
        elif right is None or not isinstance(find(self.node.domain, self.node.op_type), Pointwise):
            raise b.refuse(self.node, "it uses positions in time without a batch axis, and each stream has its own", v)
        wide = max(r, right)
        full: list[DimLike] = [*(1,) * (wide - r), *shape]
        time, batch = axis + wide - r, wide - right
        if time == batch or (own is None and full[batch] != 1):
            raise b.refuse(self.node, "it uses positions in time together with another axis", v)
        long = _Chain(self, delay, True).make(v)
        region = AxisRegion(b.s.rates[v, axis], delay)
        n = sym(g.batch)
        full[batch] = n
        # The axes as they lie: N just before the frames.
        order = [a for a in range(wide) if a not in (time, batch)]
        order[len([a for a in order if a < time]) :] = [batch, time, *(a for a in order if a > time)]
        final = [-1 if a == time else d for a, d in enumerate(full)]
        at = {time: region}
        if [a for a in order if full[a] != 1] != [a for a in range(wide) if full[a] != 1]:
            target = b.dims([final[a] for a in order], f"{v.name}.rows", self.node, None)
            long = b.op("Reshape", [long, target], f"{v.name}.rows", WireFact(fact.dtype, None))
            perm = [order.index(a) for a in range(wide)]
            return b.op("Transpose", [long], f"{v.name}.row", WireFact(fact.dtype, tuple(full)), at, perm=perm)
        target = b.dims(final, f"{v.name}.rows", self.node, None)
        return b.op("Reshape", [long, target], f"{v.name}.row", WireFact(fact.dtype, tuple(full)), at)


class _Chain:
    """The nodes a wire made from nothing is computed by, at one delay; ``flat``: all rows' positions in a row."""

    def __init__(self, free: Free, delay: int, flat: bool):
        self.free, self.b, self.node = free, free.b, free.node
        self.delay, self.flat = delay, flat

    def make(self, v: ir.Value) -> ir.Value:
        b, g = self.b, self.b.g
        key = ("chain", v, self.delay, self.flat)
        if key in b.made:
            return b.made[key]
        fact, axes = g.facts[v], g.time_axes(v)
        if len(axes) != 1 or fact.shape is None:
            raise b.refuse(self.node, f"it uses positions on the time axes {', '.join(map(str, axes))} at once", v)
        if self.flat and g.batch in symbols_of(fact.shape[axes[0]]):
            raise b.refuse(self.node, "its positions in time are merged with the batch", v)
        if isinstance(fact.value, Fill):
            b.made[key] = self._fill(v, fact, axes[0])
        elif isinstance(fact.value, Iota):
            if fact.value.axis != axes[0]:
                raise b.refuse(self.node, "it counts along one axis and streams along another", v)
            b.made[key] = self._iota(v, fact, fact.value, axes[0])
        else:
            self._nodes(v, axes[0])
        return b.made[key]

    def _declare(self, v: ir.Value, wire: ir.Value) -> ir.Value:
        """A copy of v: its fact where time is one pulse of one row, nothing where it is all rows'."""
        fact = self.b.g.facts[v]
        if self.flat:
            return self.b.declare(wire, WireFact(fact.dtype, None))
        return self.b.declare(wire, fact, {a: self._region(v, a) for a in self.b.g.time_axes(v)})

    def _region(self, v: ir.Value, axis: int) -> AxisRegion:
        return AxisRegion(self.b.s.rates[v, axis], self.delay, rows=self.b.g.rows(v, axis))

    def _op(self, op: str, inputs: list[ir.Value | None], stem: str, dtype: ir.DataType, **attributes: object) -> ir.Value:
        return self.b.op(op, inputs, stem, WireFact(dtype, None), None, "", **attributes)

    def _index(self, v: ir.Value, axis: int) -> ir.Value:
        """The index of every frame: ``[n]``, or ``[N*n]``."""
        b, g = self.b, self.b.g
        region = AxisRegion(b.s.rates[v, axis], self.delay)
        key = ("index", region, self.flat)
        if key not in b.made:
            shape: list[DimLike] = [b.new.frames(region)]
            if self.flat and g.batch is not None:
                shape.insert(0, sym(g.batch))
            row = b.op(
                "Position", [], f"{v.name}.position", WireFact(INT64, None), None, DOMAIN, rate=str(region.rate),
                delay=region.delay, shape=shape_attribute(shape), time=len(shape) - 1, batch=0 if self.flat else -1,
            )  # fmt: skip
            b.made[key] = self._op("Reshape", [row, b.const([-1])], "positions", INT64) if self.flat else row
        return b.made[key]

    def _dims(self, v: ir.Value, axis: int, dims: Sequence[DimLike | None], stem: str) -> ir.Value:
        """A shape: N is 1 where rows are flat, and None stands for the frames."""
        b, g = self.b, self.b.g
        flat = sym(g.batch) if self.flat and g.batch is not None else None
        sizes: list[DimLike | None] = [1 if flat is not None and d == flat else d for d in dims]
        frames = b.new.frames(self._region(v, axis))
        if not self.flat:
            sizes = [frames if d is None else d for d in sizes]
        known = [d for d in sizes if d is not None]
        if len(known) == len(sizes):
            return b.dims(known, stem, self.node, None)
        unit = WireFact(INT64, (1,))
        count = b.op("Shape", [self._index(v, axis)], f"{stem}.frames", unit)
        parts: list[ir.Value | None] = [count if d is None else b.dims([d], stem, self.node, None) for d in sizes]
        return parts[0] if len(parts) == 1 else b.op("Concat", parts, stem, WireFact(INT64, (len(parts),)), axis=0)  # type: ignore[return-value]

    def _fill(self, v: ir.Value, fact: WireFact, axis: int) -> ir.Value:
        b = self.b
        assert fact.shape is not None and isinstance(fact.value, Fill)
        if isinstance(fact.value.value, Dim):
            raise b.refuse(self.node, f"it is filled with {fact.value.value}, which depends on the stream's length", v)
        one = b.const(fact.value.value, "fill", fact.dtype.numpy())
        dims = self._dims(v, axis, [None if a == axis else d for a, d in enumerate(fact.shape)], f"{v.name}.shape")
        return self._declare(v, self._op("Expand", [one, dims], v.name or "fill", fact.dtype))

    def _iota(self, v: ir.Value, fact: WireFact, iota: Iota, axis: int) -> ir.Value:
        b = self.b
        assert fact.shape is not None
        if isinstance(iota.start, Dim) or isinstance(iota.step, Dim):
            raise b.refuse(self.node, f"it counts from {iota.start}, which depends on the stream's length", v)
        row, kind = self._index(v, axis), fact.dtype.numpy()
        if fact.dtype != INT64:
            row = self._op("Cast", [row], f"{v.name}.cast", fact.dtype, to=fact.dtype)
        if iota.step != 1:
            row = self._op("Mul", [row, b.const(iota.step, "step", kind)], f"{v.name}.scaled", fact.dtype)
        if iota.start != 0:
            row = self._op("Add", [row, b.const(iota.start, "start", kind)], f"{v.name}.from", fact.dtype)
        others = [a for a in range(fact.rank) if a != axis]
        if others:
            row = self._op("Unsqueeze", [row, b.const(others)], f"{v.name}.row", fact.dtype)
        wide = [1 if a == axis or self._is_row(d) else d for a, d in enumerate(fact.shape)]
        if any(d != 1 for d in wide):
            row = self._op("Expand", [row, b.dims(wide, f"{v.name}.shape", self.node, None)], f"{v.name}.wide", fact.dtype)
        return row if row is self._index(v, axis) else self._declare(v, row)

    def _is_row(self, d: DimLike) -> bool:
        return self.flat and self.b.g.batch is not None and d == sym(self.b.g.batch)

    def _nodes(self, v: ir.Value, axis: int) -> None:
        """Copy the node that makes v, all its outputs."""
        b, g = self.b, self.b.g
        node = v.producer()
        assert node is not None
        plan = b.s.plans[node]
        inputs: list[ir.Value | None] = []
        spread = False
        if self.flat and not self.free.batched(v) and any(s is not None and self.free.batched(s) for s in node.inputs):
            raise b.refuse(node, "it mixes the rows of a batch, and each stream has its own positions in time", v)
        for k, source in enumerate(node.inputs):
            if source is None or (plan.dims is not None and plan.dims[0] == k):
                inputs.append(None)
            elif g.time_axes(source):
                inputs.append(self.make(source))
            elif source in b.running:
                raise b.feedback(node, source)
            elif self.flat and self.free.batched(source):
                inputs.append(self._spread(source, node, v, axis))
                spread = True
            else:
                inputs.append(b.static(source, node))
        if plan.dims is not None:
            inputs[plan.dims[0]] = self._target(node, plan, inputs, v, axis, spread)
        attributes = {**node.attributes, **plan.attributes}
        new = b.build.node(
            node.op_type, inputs, v.name or "free", attributes, domain=node.domain, num_outputs=len(node.outputs)
        )
        for old, wire in zip(node.outputs, new.outputs, strict=True):
            b.made["chain", old, self.delay, self.flat] = self._declare(old, wire)

    def _target(
        self, node: ir.Node, plan: Plan, inputs: list[ir.Value | None], v: ir.Value, axis: int, spread: bool
    ) -> ir.Value:
        """The shape input of a node; ``spread``: its data are as many frames already."""
        b, g = self.b, self.b.g
        assert plan.dims is not None and node.inputs[0] is not None
        if not self.flat:
            return b.target(node, plan, inputs)
        style = plan.dims[1]
        shape, source = g.facts[v].shape, g.facts[node.inputs[0]].shape
        assert shape is not None and source is not None
        stem = f"{v.name}.shape"
        if style == "reshape":
            return self._dims(v, axis, [-1 if a == axis else d for a, d in enumerate(shape)], stem)
        wide = (*(1,) * (len(shape) - len(source)), *source)
        dims: list[DimLike | None] = []
        for a, (d, w) in enumerate(zip(shape, wide, strict=True)):
            if d == w:
                dims.append(1)
            elif w == 1:
                dims.append((1 if spread else None) if a == axis else d)
            else:
                raise b.refuse(node, f"it repeats {w} entries to {d} beside positions in time")
        return self._dims(v, axis, dims, stem)

    def _count(self, v: ir.Value, axis: int, frames: DimLike) -> ir.Value:
        """Frames of a pulse of one row."""
        if not isinstance(frames, Dim):
            return self.b.const([int(frames)])
        rows = self._index(v, axis).producer()
        assert rows is not None
        return self.b.op("Shape", [rows.inputs[0]], "positions.frames", WireFact(INT64, (1,)), start=1, end=2)

    def _spread(self, source: ir.Value, node: ir.Node, v: ir.Value, axis: int) -> ir.Value:
        """A static wire with a batch axis as one frame for each position: N goes to the time axis, n times each."""
        b, g = self.b, self.b.g
        shape, out = g.facts[source].shape, g.facts[v].shape
        assert shape is not None and out is not None
        spreads = isinstance(find(node.domain, node.op_type), Pointwise) or node.op_type in ("Expand", "Tile")
        batch = g.batch_axis(shape)
        lead = len(out) - len(shape)
        full: list[DimLike] = [*(1,) * lead, *shape]
        if not spreads or batch is None or lead < 0 or full[axis] != 1:
            raise b.refuse(node, f"it uses {source.name!r}, of which each stream has its own, together with positions", source)
        key = ("spread", source, len(out), axis, b.s.rates[v, axis])
        if key in b.made:
            return b.made[key]
        dtype, batch = g.facts[source].dtype, batch + lead
        wire = b.static(source, node)
        frames = b.new.frames(self._region(v, axis))
        if lead:
            wire = self._op("Unsqueeze", [wire, b.const(list(range(lead)))], f"{source.name}.wide", dtype)
        # [.., N, .., 1, ..] -> [.., N, n, ..] -> [.., 1, .., N*n, ..]
        order = [a for a in range(len(full)) if a != batch]
        order.insert(order.index(axis), batch)
        if order != list(range(len(full))):
            wire = self._op("Transpose", [wire], f"{source.name}.turned", dtype, perm=order)
        one = self._count(v, axis, frames)
        sizes: list[ir.Value | None] = [one if a == axis else b.const([1]) for a in order]
        repeat = self._op("Concat", sizes, f"{source.name}.repeat", INT64, axis=0) if len(sizes) > 1 else one
        wire = self._op("Expand", [wire, repeat], f"{source.name}.repeated", dtype)
        target = [1 if a == batch else -1 if a == axis else d for a, d in enumerate(full)]
        wire = self._op("Reshape", [wire, b.dims(target, f"{source.name}.flat", node, None)], f"{source.name}.rows", dtype)
        b.made[key] = wire
        return wire

