"""What a rule with memory builds its pulsed nodes with.

The builder hands a Lowering to ``Plan.lower``: the inputs as the plan asked for them (one pulse, with the history its
windows need), and ways to make nodes, states, masks and counts. Wires made here carry no batch fact; the stage
``pulse-v2-to-type`` types them and checks the outputs against their regions.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.dim import DimLike, sym
from pulsify.errors import Refusal
from pulsify.facts import State, WireFact
from pulsify.graph import DOMAIN, StateSlot, shape_attribute
from pulsify.stages._wires import Wires

__all__ = ["Lowering"]


class Lowering:
    """One node being lowered. ``inputs[k]`` is the pulsed wire of input k (None if absent)."""

    def __init__(self, wires: Wires, node: ir.Node, inputs: Sequence[ir.Value | None]):
        self._w = wires
        self.node = node
        self.inputs = tuple(inputs)
        self.facts = tuple(wires.g.fact(v) for v in node.inputs)
        self.outputs = tuple(wires.g.facts[v] for v in node.outputs)
        self.name = node.name or node.op_type

    # -- nodes -----------------------------------------------------------------------------------------------------

    def op(self, op: str, inputs: Sequence[ir.Value | None], stem: str = "", *, domain: str = "", **attributes: Any) -> ir.Value:
        """A new node with one output."""
        return self.ops(op, inputs, 1, stem, domain=domain, **attributes)[0]

    def ops(
        self, op: str, inputs: Sequence[ir.Value | None], n: int, stem: str = "", *, domain: str = "", **attributes: Any
    ) -> list[ir.Value]:
        """A new node with n outputs."""
        node = self._w.build.node(op, inputs, f"{self.name}.{stem or op.lower()}", attributes, domain=domain, num_outputs=n)
        for v in node.outputs:
            self._w.declare(v, WireFact(ir.DataType.UNDEFINED, None))
        return list(node.outputs)

    def clone(self, inputs: Sequence[ir.Value | None], n: int | None = None, **attributes: Any) -> list[ir.Value]:
        """The node itself on other inputs, some attributes replaced (None removes one)."""
        kept: dict[str, Any] = {**self.attributes(), **attributes}
        kept = {k: v for k, v in kept.items() if v is not None}
        count = len(self.node.outputs) if n is None else n
        return self.ops(self.node.op_type, inputs, count, "run", domain=self.node.domain, **kept)

    def shared(self, key: Hashable, make: Callable[[], ir.Value]) -> ir.Value:
        """A wire that other nodes need just so: made once."""
        made = self._w.made
        if ("shared", key) not in made:
            made["shared", key] = make()
        return made["shared", key]

    def attributes(self) -> dict[str, ir.Attr]:
        """The node's attributes; its subgraphs, copies of the node's, read the pulsed graph's wires."""
        return {a.name: a for a in self._w.attributes(self.node)}

    def const(self, array: Any, dtype: Any = np.int64) -> ir.Value:
        """A constant."""
        return self._w.const(array, "const", dtype)

    def dims(self, dims: Sequence[DimLike]) -> ir.Value:
        """A shape of ints and the batch symbol as an int64 tensor, computed at run time where not constant."""
        return self._w.dims(list(dims), f"{self.name}.dims", self.node, None)

    def take(self, wire: ir.Value, index: ir.Value, axis: int, shape: Sequence[DimLike]) -> ir.Value:
        """Frames of a wire of the given result shape by number, shaped like :meth:`valid`: every batch row its own."""
        batch = self._rows(shape)
        if batch is None:
            index = self.op("Reshape", [index, self.const([-1])], "index")
        fact = WireFact(ir.DataType.UNDEFINED, None)
        return self._w.take(wire, index, axis, batch, shape, f"{self.name}.frames", fact, None, self.node)

    # -- where we are ----------------------------------------------------------------------------------------------

    @property
    def batch(self) -> DimLike:
        """The batch dimension; 1 where there is none."""
        return 1 if self._w.g.batch is None else sym(self._w.g.batch)

    def batch_axis(self, shape: Sequence[DimLike] | None) -> int | None:
        """Which axis of a shape is the batch."""
        return self._w.g.batch_axis(shape)

    def frames(self, k: int, axis: int) -> DimLike:
        """Frames of input k per pulse, history not counted."""
        v = self.node.inputs[k]
        assert v is not None
        region = self._w.regions_of(v)[axis]
        return self._w.new.frames(region)

    def delay(self, k: int, axis: int) -> int:
        """The delay input k is read with: its own, or that of the buffer before this node."""
        v, wire = self.node.inputs[k], self.inputs[k]
        assert v is not None and wire is not None
        region = self._w.new.regions.get(wire, {}).get(axis)
        if region is not None:
            return region.delay
        return self._w.s.read((v, axis), self.node)

    def _place(self, k: int, axis: int) -> dict[str, Any]:
        """Attributes that place a mask on one pulse of input k."""
        v, fact = self.node.inputs[k], self.facts[k]
        assert v is not None and fact is not None and fact.shape is not None
        batch = self._rows(fact.shape)
        shape: list[DimLike] = [1] * fact.rank
        shape[axis] = self.frames(k, axis)
        if batch is not None:
            shape[batch] = self.batch
        return {
            "rate": str(self._w.s.rates[v, axis]), "delay": self.delay(k, axis), "length": str(fact.shape[axis]),
            "shape": shape_attribute(shape), "time": axis, "batch": -1 if batch is None else batch,
        }  # fmt: skip

    def _rows(self, shape: Sequence[DimLike]) -> int | None:
        batch = self._w.g.batch_axis(shape)
        if batch is None and self._w.g.batch is not None:
            raise Refusal(
                f"cannot pulsify {self.node.op_type} node {self.name!r}",
                why="it keeps a memory, and its batch axis is merged with another: streams start and end on their own",
                wire=", ".join(self._w.g.describe(v) for v in self.node.inputs[:1] if v is not None),
                hint="keep the batch on an axis of its own in front of this node",
            )
        return batch

    def must_begin(self, k: int, axis: int) -> bool:
        """Whether warm-up frames arrive that a memory must not see."""
        return self.delay(k, axis) > 0

    def valid(self, k: int, axis: int, *, start: bool, end: bool) -> ir.Value:
        """Which frames of a pulse of input k are real: bool, ``n`` long on the time axis, N on the batch axis, else 1.

        ``start`` tests index >= 0, ``end`` tests index < L(V). At least one must be asked for.
        """
        (out,) = self.ops("Valid", [], 1, "valid", domain=DOMAIN, start=int(start), end=int(end), **self._place(k, axis))
        return out

    def bound(self, k: int, axis: int, *, end: bool) -> ir.Value:
        """The real frames of a pulse of input k are ``[first, last)``: one of the two, in ``0..n``. Per row: int64
        ``[N]``, ``[1]`` without a batch axis. A row with no real frame has ``last <= first``."""
        place = self._place(k, axis) | {"shape": shape_attribute([self.batch]), "end": int(end)}
        if not end:
            place["length"] = "0"
        name = "last" if end else "first"
        return self.shared(str(place), lambda: self.op("Bound", [], name, domain=DOMAIN, **place))

    def count(self, k: int, axis: int, rank: int = 1, batch_axis: int | None = 0) -> ir.Value:
        """Real frames of input k so far, this pulse included, per row: int64, N on ``batch_axis`` and else 1."""
        place = self._place(k, axis)
        shape: list[DimLike] = [1] * rank
        if self._w.g.batch is not None and batch_axis is not None:
            shape[batch_axis] = self.batch
        place |= {"shape": shape_attribute(shape), "batch": -1 if batch_axis is None else batch_axis}
        return self.op("Count", [], "count", domain=DOMAIN, **place)

    def demand(self, output: int, axis: int) -> Any:
        """Which frames ``[low, high)`` of an output any output of the model depends on; None if none does."""
        return self._w.s.demand.get((self.node.outputs[output], axis))

    def length(self, law: DimLike, rank: int, batch_axis: int | None) -> ir.Value:
        """A length law as if the stream ended now, per row: int64, N on ``batch_axis`` and else 1."""
        shape: list[DimLike] = [1] * rank
        if self._w.g.batch is not None and batch_axis is not None:
            shape[batch_axis] = self.batch
        place = {"shape": shape_attribute(shape), "batch": -1 if batch_axis is None else batch_axis}
        return self.op("Length", [], "length", domain=DOMAIN, length=str(law), **place)

    def position(self, k: int, axis: int) -> ir.Value:
        """The index of every frame of a pulse of input k: int64, shaped like :meth:`valid`."""
        return self.op("Position", [], "position", domain=DOMAIN, **self._place(k, axis))

    def started(self, rank: int, batch_axis: int | None) -> ir.Value:
        """Whether a row has had a pulse before this one: bool, N on ``batch_axis`` and else 1."""
        shape: list[DimLike] = [1] * rank
        if self._w.g.batch is not None and batch_axis is not None:
            shape[batch_axis] = self.batch
        (out,) = self.ops(
            "Started", [], 1, "started", domain=DOMAIN, shape=shape_attribute(shape), batch=-1 if batch_axis is None else batch_axis
        )
        return out

    # -- memory ----------------------------------------------------------------------------------------------------

    def state(
        self, role: str, shape: Sequence[DimLike], dtype: ir.DataType, kind: str, *, axis: int | None = None
    ) -> ir.Value:
        """A new state, zero at the start; returns its past. ``shape`` holds ints and the batch symbol. Follow with
        :meth:`store`. ``kind`` is ``buffer``, ``recurrent``, ``cache``, ``accumulator`` or ``counter``."""
        sizes: list[int | str] = []
        for d in shape:
            if not isinstance(d, int) and d != self.batch:
                raise Refusal(
                    f"cannot pulsify {self.node.op_type} node {self.name!r}",
                    why=f"its state is [{', '.join(map(str, shape))}], and a state needs fixed sizes besides the batch",
                    hint=f"fix {d} in the model, or keep the batch on an axis of its own",
                )
            sizes.append(d if isinstance(d, int) else str(d))
        state = State(f"{self.name}.{role}", dtype, tuple(sizes), axis, self._rows(shape), kind, self.name)
        self._w.new.slots.append(StateSlot(state))
        return self.op(
            "State", [], role, domain=DOMAIN, id=state.id, dtype=int(dtype), shape=shape_attribute(sizes)
        )

    def last(self, k: int, axis: int, count: int) -> ir.Value:
        """The last ``count`` real frames of input k so far, this pulse included: a static wire. It is a memory of its own,
        or what a buffer of the same wire holds anyway."""
        shape = [count if a == axis else d for a, d in enumerate(self.facts[k].shape)]  # type: ignore[union-attr,arg-type]
        place = self._place(k, axis) | {"shape": shape_attribute(shape), "count": count, "axis": axis}
        return self.op("Last", [self.inputs[k]], "last", domain=DOMAIN, **place)

    def store(self, past: ir.Value, present: ir.Value) -> None:
        """The value a state has after this pulse."""
        producer = past.producer()
        assert producer is not None and producer.op_type == "State"
        id = producer.attributes.get_string("id")
        self._w.build.node("Store", [present], f"{id}.store", {"id": id}, domain=DOMAIN, outputs=[])
