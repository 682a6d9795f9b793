"""Lookup: ``out[.., i, ..] = data[.., indices[i], ..]``, by tuples of indices (GatherND) or element by element.

Region transform: time may run through the indices (an embedding), or through any axis of the data that is not looked
up: ``out [a, b) <- in [a, b)``. What garbage frames hold is no index: rewrites/guard_operands.py keeps it in range.
"""

from __future__ import annotations

import numpy as np

from pulsify.dim import Dim
from pulsify.facts import MAX_ELEMS, Elems, Iota, Value, WireFact
from pulsify.ops._families import AxisMap, AxisRule
from pulsify.ops._rule import NodeView, register


class Gather(AxisRule):
    status, note = "conditions", "along time: windows, clipped to the stream or not, and frames at constant indices for static outputs"

    def axis_of(self, n: NodeView) -> int:
        return n.axis(n.attr("axis", 0), len(n.shape(0)))

    def infer(self, n: NodeView) -> list[WireFact]:
        axis = self.axis_of(n)
        data, index = n.shape(0), n.shape(1)
        count, rows = n.fact(1).value, data[axis]
        if isinstance(count, Iota) and isinstance(rows, int) and isinstance(count.start, int) and isinstance(count.step, int):
            # A table as long as the longest stream the batch model is defined for.
            n.assume.limit(count.start + count.step * (index[count.axis] - 1), rows - 1, n.name)
        return [WireFact(n.fact(0).dtype, (*data[:axis], *index, *data[axis + 1 :]), self._value(n, axis))]

    def _value(self, n: NodeView, axis: int) -> Value:
        index = n.fact(1).elems()
        f = n.fact(0)
        if index is None or index.size > MAX_ELEMS or any(isinstance(i, Dim) for i in index.flat):
            return None
        where = index.astype(np.int64)
        if isinstance(f.value, Iota) and axis == f.value.axis and f.rank == 1 and (where >= 0).all():
            return Elems(np.asarray(f.value.start + f.value.step * where.astype(object), dtype=object))
        elems = f.elems()
        if elems is None:
            return None
        taken = np.take(elems, where, axis=axis)
        if np.shape(taken) == ():
            box = np.empty((), dtype=object)
            box[()] = taken
            taken = box
        return Elems(taken)

    def axes(self, n: NodeView) -> AxisMap:
        axis = self.axis_of(n)
        data, index = len(n.shape(0)), len(n.shape(1))
        return [
            [
                *(((0, a),) for a in range(axis)),
                *(((1, a),) for a in range(index)),
                *(((0, a),) for a in range(axis + 1, data)),
            ]
        ]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return "it looks frames up by index along time"

    def hint(self, n: NodeView, k: int, axis: int) -> str:
        return "look up windows, frames hop*j + k of window j; of a stream padded by a Pad where they reach beyond its ends"


class Lookup(AxisRule):
    """Shared by the lookups whose data and indices have axes in common."""

    status, note = "conditions", "not along a streaming axis of the data"

    def both(self, n: NodeView, axis: int) -> tuple[tuple[int, int], ...]:
        """An axis that data and indices share frame by frame."""
        data, index = n.shape(0)[axis], n.shape(1)[axis]
        streams = axis in n.streaming(0), axis in n.streaming(1)
        if any(streams) and not (all(streams) and n.assume.eq(data, index, n.name)):
            n.refuse(
                f"it has {data} frames of data and looks up {index} of them",
                axis=axis,
                input=0 if streams[0] else 1,
                hint="give data and indices the same time axis",
            )
        return ((0, axis), (1, axis))

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return "it looks frames up by index along time"


class GatherElements(Lookup):
    """``out[i, j, k] = data[i, indices[i, j, k], k]`` for axis 1."""

    def infer(self, n: NodeView) -> list[WireFact]:
        return [WireFact(n.fact(0).dtype, n.shape(1))]

    def axes(self, n: NodeView) -> AxisMap:
        rank = len(n.shape(0))
        axis = n.axis(n.attr("axis", 0), rank)
        return [[((1, a),) if a == axis else self.both(n, a) for a in range(rank)]]


class GatherND(Lookup):
    """``out[b, i, j] = data[b, indices[b, i], j]``: tuples of indices behind ``batch_dims`` shared axes."""

    def depth(self, n: NodeView) -> tuple[int, int]:
        """(axes shared, axes looked up)."""
        depth = n.shape(1)[-1]
        if isinstance(depth, Dim):
            n.refuse(f"its indices are tuples of {depth}")
        return n.attr("batch_dims", 0), int(depth)

    def infer(self, n: NodeView) -> list[WireFact]:
        shared, depth = self.depth(n)
        data, index = n.shape(0), n.shape(1)
        return [WireFact(n.fact(0).dtype, (*index[:-1], *data[shared + depth :]))]

    def axes(self, n: NodeView) -> AxisMap:
        shared, depth = self.depth(n)
        own = [((1, a),) for a in range(shared, len(n.shape(1)) - 1)]
        tail = [((0, a),) for a in range(shared + depth, len(n.shape(0)))]
        return [[*(self.both(n, a) for a in range(shared)), *own, *tail]]


register(Gather(), "Gather")
register(GatherElements(), "GatherElements")
register(GatherND(), "GatherND")
