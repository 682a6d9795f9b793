"""Lookup: ``out[.., i, ..] = data[.., indices[i], ..]``.

Region transform: time may run through the indices (an embedding), or through any axis of the data but the gathered
one.
"""

from __future__ import annotations

import numpy as np

from pulsify.dim import Dim
from pulsify.facts import MAX_ELEMS, Elems, Iota, Value, WireFact
from pulsify.ops._families import AxisMap, AxisRule
from pulsify.ops._rule import NodeView, register


class Gather(AxisRule):
    status, note = "conditions", "not along a streaming axis of the data"

    def axis_of(self, n: NodeView) -> int:
        return n.axis(n.attr("axis", 0), len(n.shape(0)))

    def infer(self, n: NodeView) -> list[WireFact]:
        axis = self.axis_of(n)
        data, index = n.shape(0), n.shape(1)
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


register(Gather(), "Gather")
