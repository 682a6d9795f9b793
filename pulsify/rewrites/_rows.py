"""Frames as rows: a wire ``[1, C, n]`` (or any other order of its axes) as the matrix ``[n, C]``, one frame a row.

With a batch it is ``[N, n, C]``. A wire has such a form if it streams on one axis and, besides time and batch, only one
axis is longer than 1: the channels. In that form a convolution over time is one matrix product of windows laid out as
rows (im2col), a transposed convolution another, and what only moves axes is nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.dim import DimLike, sym
from pulsify.facts import AxisRegion, WireFact
from pulsify.graph import DOMAIN, Graph, NodeBuilder, StateSlot, sort, tensor_fact

__all__ = ["RowView", "Rows", "each", "row_view"]


@dataclass(frozen=True, slots=True)
class RowView:
    """Where a wire's frames and channels are. ``channel`` is None where there is one channel and no axis for it.

    ``frames`` (history included) and ``channels`` are what one pulse holds per row of the batch; ``length`` is the
    batch model's number of frames.
    """

    rank: int
    time: int
    channel: int | None
    batch: int | None
    frames: int
    channels: int
    region: AxisRegion
    length: DimLike

    @property
    def plain(self) -> bool:
        """Whether the wire is in row form as it is."""
        return self.channel is not None and self.order == list(range(self.rank))

    @property
    def axis(self) -> int:
        """The time axis in row form."""
        return 0 if self.batch is None else 1

    @property
    def order(self) -> list[int]:
        """The axes that are not 1, in row order."""
        return [a for a in (self.batch, self.time, self.channel) if a is not None]

    @property
    def layout(self) -> list[str]:
        """The order the data lie in, axes of length 1 left out."""
        named = [(self.batch, "batch"), (self.time if self.frames > 1 else None, "time")]
        named.append((self.channel if self.channels > 1 else None, "channel"))
        return [name for a, name in sorted((a, name) for a, name in named if a is not None)]

    @property
    def transposed(self) -> bool:
        """Whether the data lie in another order than in row form."""
        return self.layout != [k for k in ("batch", "time", "channel") if k in self.layout]


def row_view(g: Graph, v: ir.Value | None) -> RowView | None:
    """The row form of a wire, or None if it has none. Pulses of a dynamic size have none."""
    if v is None:
        return None
    regions, chunk = g.regions.get(v), g.chunks.get(v)
    fact = g.facts.get(v)
    if not regions or len(regions) != 1 or chunk is None or fact is None or fact.shape is None:
        return None
    ((time, region),) = regions.items()
    frames = chunk[time]
    if region.rows != 1 or not isinstance(frames, int) or frames < 1:
        return None
    batch = g.batch_axis(fact.shape)
    if g.batch is not None and batch is None:
        return None
    channel, channels = None, 1
    for a, d in enumerate(chunk):
        if a in (time, batch) or d == 1:
            continue
        if not isinstance(d, int) or d < 1 or channel is not None:
            return None
        channel, channels = a, d
    return RowView(len(chunk), time, channel, batch, frames, channels, region, fact.shape[time])


def each(g: Graph, ops: Collection[str], rewrite: Callable[[Rows, ir.Node], bool], backwards: bool = False) -> int:
    """Offer a rewrite every node of these standard operators that is still there; how many it took."""
    rows = Rows(g)
    nodes = [node for node in g.graph if node.op_type in ops and not node.domain]
    count = sum(rewrite(rows, node) for node in (reversed(nodes) if backwards else nodes) if node.graph is not None)
    if count:
        sort(g.graph)
    return count


class Rows:
    """Makes nodes in row form; converts wires between their own form and that one, each once."""

    def __init__(self, g: Graph):
        self.g = g
        #: Row form of a wire, by the wire.
        self.form: dict[ir.Value, ir.Value] = {}

    @cached_property
    def build(self) -> NodeBuilder:
        g = self.g
        taken = {v.name for n in g.graph for v in n.outputs if v.name} | {n.name for n in g.graph if n.name}
        return NodeBuilder(g.graph, taken | {v.name for v in g.graph.outputs if v.name})

    @cached_property
    def slots(self) -> dict[str, StateSlot]:
        """The states by their id."""
        return {slot.state.id: slot for slot in self.g.slots}

    def const(self, array: np.ndarray | Sequence[int], dtype: object = np.int64, stem: str = "const") -> ir.Value:
        """A constant with its fact; equal small ones are shared."""
        value = self.build.const(array, stem, dtype)
        return self._known(value)

    def weight(self, array: np.ndarray, stem: str) -> ir.Value:
        """A constant of its own."""
        return self._known(self.build.initializer(ir.Tensor(np.ascontiguousarray(array)), stem))

    def _known(self, value: ir.Value) -> ir.Value:
        if value not in self.g.facts:
            assert value.const_value is not None
            self.g.facts[value] = tensor_fact(value.const_value)
        return value

    def node(self, op: str, inputs: Sequence[ir.Value | None], stem: str, outputs: int = 1, domain: str = "", **attributes: Any) -> list[ir.Value]:
        """A new node; its wires are declared by :meth:`declare`."""
        return list(self.build.node(op, inputs, stem, attributes, domain=domain, num_outputs=outputs).outputs)

    def declare(self, v: ir.Value, dtype: ir.DataType, view: RowView, channels: int) -> ir.Value:
        """What a wire in row form holds: the frames of ``view``, and its own number of channels."""
        rows: tuple[DimLike, ...] = () if view.batch is None else (sym(self.g.batch or ""),)
        v.type = ir.TensorType(dtype)
        self.g.facts[v] = WireFact(dtype, (*rows, view.length, channels))
        self.g.regions[v] = {view.axis: view.region}
        self.g.chunks[v] = (*rows, view.frames, channels)
        return v

    def to_rows(self, v: ir.Value, view: RowView) -> ir.Value:
        """The wire in row form."""
        if v not in self.form:
            self.form[v] = self._to_rows(v, view)
        return self.form[v]

    def static(self, v: ir.Value, like: RowView) -> ir.Value:
        """Static frames whose axes lie like those of a stream, in row form."""
        shape = self.g.facts[v].shape
        assert shape is not None
        view = replace(like, frames=int(shape[like.time]))  # type: ignore[arg-type]
        if v not in self.form:
            self.form[v] = self._moved(v, view)
            if self.form[v] is not v:
                rows: tuple[DimLike, ...] = () if view.batch is None else (shape[view.batch],)
                self.g.facts[self.form[v]] = WireFact(self.g.facts[v].dtype, (*rows, view.frames, view.channels))
        return self.form[v]

    def leave(self, wire: ir.Value, old: ir.Value, view: RowView) -> None:
        """Static frames in row form take the place of ``old``, whose axes lie like those of a stream."""
        self._loose(wire, old)
        self.replace(old, self.from_rows(wire, old, view))

    def _to_rows(self, v: ir.Value, view: RowView) -> ir.Value:
        wire = self._moved(v, view)
        return wire if wire is v else self.declare(wire, self.g.facts[v].dtype, view, view.channels)

    def _moved(self, v: ir.Value, view: RowView) -> ir.Value:
        if view.plain:
            return v
        wire, stem = v, f"{v.name}.rows"
        if view.transposed:
            # Axes of length 1 go first: a runtime moves one axis of many fast, and several of them element by element.
            axes = sorted(view.order)
            if len(axes) < view.rank:
                wire = self._shaped(v, v, view, axes, f"{stem}.plain")
            (wire,) = self.node("Transpose", [wire], stem, perm=[axes.index(a) for a in view.order])
            self._loose(wire, v)
        if not view.transposed or view.channel is None:
            target = ([] if view.batch is None else [-1]) + [view.frames, view.channels]
            (wire,) = self.node("Reshape", [wire, self.const(target)], stem)
        wire.type = ir.TensorType(self.g.facts[v].dtype)
        return wire

    def _shaped(self, wire: ir.Value, like: ir.Value, view: RowView, axes: Sequence[int], stem: str) -> ir.Value:
        """A wire with these axes of the view, none of which is left out or added that is longer than 1."""
        sizes = {view.batch: -1, view.time: view.frames, view.channel: view.channels}
        (out,) = self.node("Reshape", [wire, self.const([sizes.get(a, 1) for a in axes])], stem)
        self._loose(out, like)
        return out

    def _loose(self, wire: ir.Value, like: ir.Value) -> None:
        """A wire on the way: only its type is known."""
        dtype = self.g.facts[like].dtype
        wire.type = ir.TensorType(dtype)
        self.g.facts[wire] = WireFact(dtype, None)

    def from_rows(self, wire: ir.Value, like: ir.Value, view: RowView) -> ir.Value:
        """A wire in row form as the wire ``like`` was."""
        stem = f"{like.name}.frames"
        if view.plain:
            return wire
        if not view.transposed:
            shape = [1] * view.rank
            for a, d in zip(view.order, ([] if view.batch is None else [-1]) + [view.frames, view.channels]):
                shape[a] = d
            (out,) = self.node("Reshape", [wire, self.const(shape)], stem)
            return out
        if view.channel is None:
            wire = self._shaped(wire, like, view, view.order, f"{stem}.narrow")
        axes = sorted(view.order)
        (wire,) = self.node("Transpose", [wire], stem, perm=[view.order.index(a) for a in axes])
        return self._shaped(wire, like, view, range(view.rank), stem) if len(axes) < view.rank else wire

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Readers of ``old`` read ``new``, which holds the same and takes over its name as an output of the graph."""
        g = self.g
        if old.is_graph_output():
            name = old.name
            if new.is_graph_input() or new.is_graph_output():
                (new,) = self.node("Identity", [new], f"{name}.out")
            old.name = self.build.unique(f"{name}.old")
            new.name = name
        if new not in g.facts or g.facts[new].shape is None:
            new.type = old.type
            for known in (g.facts, g.chunks, g.regions):
                if old in known:
                    known[new] = known[old]  # type: ignore[index,assignment]
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        g.forget(old)

    def pseudo(self, op: str, inputs: Sequence[ir.Value], stem: str, outputs: int = 1, **attributes: Any) -> list[ir.Value]:
        """A new pseudo-operator."""
        return self.node(op, inputs, stem, outputs, domain=DOMAIN, **attributes)
