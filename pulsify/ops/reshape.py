"""Axis movers: Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Identity-like relabelling of axes.

Region transform: ``out [a, b) <- in [a, b)`` on the moved time axis. A Reshape keeps time whole where some output
axis has the same length and the same number of elements before it.
"""

from __future__ import annotations

import numpy as np

from pulsify.dim import Dim, DimLike, exact_div, floor, symbols_of
from pulsify.facts import Elems, Fill, Iota, Plan, Shape, Value, WireFact
from pulsify.ops._families import AxisMap, AxisRule, axis_plan, product
from pulsify.ops._rule import NodeView, register


def reshaped_value(f: WireFact, shape: Shape, at: int | None) -> Value:
    """A known value under a new shape; ``at`` is where the axis of an iota went."""
    if isinstance(f.value, Fill):
        return f.value
    if isinstance(f.value, Iota):
        return None if at is None else Iota(at, f.value.start, f.value.step)
    elems = f.elems()
    if elems is not None and all(isinstance(d, int) for d in shape):
        return Elems(elems.reshape(tuple(int(d) for d in shape)))  # type: ignore[arg-type]
    return None


class AxisMover(AxisRule):
    """Each output axis is one input axis, or new with length 1."""

    def sources(self, n: NodeView) -> list[int | None]:
        raise AssertionError

    def infer(self, n: NodeView) -> list[WireFact]:
        f, shape = n.fact(0), n.shape(0)
        sources = self.sources(n)
        out = tuple(1 if a is None else shape[a] for a in sources)
        at = sources.index(f.value.axis) if isinstance(f.value, Iota) and f.value.axis in sources else None
        if isinstance(f.value, Elems) or f.elems() is not None:
            return [WireFact(f.dtype, out, self._elems(f, sources, out))]
        return [WireFact(f.dtype, out, reshaped_value(f, out, at))]

    def _elems(self, f: WireFact, sources: list[int | None], out: Shape) -> Value:
        elems = f.elems()
        assert elems is not None
        kept = [a for a in sources if a is not None]
        dropped = [a for a in range(elems.ndim) if a not in kept]
        moved = np.transpose(elems, [*kept, *dropped])
        return Elems(moved.reshape(tuple(int(d) for d in out)))  # type: ignore[arg-type]

    def axes(self, n: NodeView) -> AxisMap:
        return [[() if a is None else ((0, a),) for a in self.sources(n)]]


class Transpose(AxisMover):
    def sources(self, n: NodeView) -> list[int | None]:
        rank = len(n.shape(0))
        return [n.axis(a, rank) for a in n.attr("perm", tuple(range(rank))[::-1])]


class Squeeze(AxisMover):
    def sources(self, n: NodeView) -> list[int | None]:
        shape = n.shape(0)
        axes = n.ints_attr_or_input("axes", 1)
        gone = {a for a, d in enumerate(shape) if d == 1} if axes is None else {n.axis(a, len(shape)) for a in axes}
        for a in gone:
            if shape[a] != 1 and (not isinstance(shape[a], Dim) or n.symbol in symbols_of(shape[a])):
                n.refuse(f"it squeezes axis {a}, which is {shape[a]} long", axis=a)
        return [a for a in range(len(shape)) if a not in gone]


class Unsqueeze(AxisMover):
    def sources(self, n: NodeView) -> list[int | None]:
        axes = n.ints_attr_or_input("axes", 1) or ()
        rank = len(n.shape(0)) + len(axes)
        new = {n.axis(a, rank) for a in axes}
        rest = iter(range(len(n.shape(0))))
        return [None if a in new else next(rest) for a in range(rank)]


class Reshape(AxisRule):
    status, note = "conditions", "time must stay whole: not merged, split or folded"

    def target(self, n: NodeView) -> Shape:
        """The output shape, -1 and 0 resolved."""
        shape = n.shape(0)
        wanted = n.ints(1)
        assert wanted is not None
        keep = n.attr("allowzero", 0) == 0
        out: list[DimLike | None] = []
        for i, d in enumerate(wanted):
            if d == 0 and keep:
                if i >= len(shape):
                    n.refuse(f"it copies axis {i} of an input of rank {len(shape)}")
                out.append(shape[i])
            else:
                out.append(None if d == -1 else d)
        known = product([d for d in out if d is not None])
        total = product(shape)
        if None in out:
            hole = self._quotient(n, total, known, wanted)
            out[out.index(None)] = hole
        elif not n.assume.eq(total, known, n.name, must=True):
            self._baked(n, total, known, wanted)
        return tuple(d for d in out if d is not None)

    def _quotient(self, n: NodeView, total: DimLike, known: DimLike, wanted: Shape) -> DimLike:
        if known == 0:
            return 0
        whole = exact_div(total, known)
        if whole is not None:
            return whole
        if isinstance(known, int) and isinstance(total, Dim):
            if n.assume.divides(known, total, n.name):
                return floor(total // known)
            # The symbolic part may divide alone: N*(S//3) by 3*N and the like are left to exact_div.
        return self._baked(n, total, known, wanted)

    def _baked(self, n: NodeView, total: DimLike, known: DimLike, wanted: Shape) -> DimLike:
        n.refuse(
            f"the time axis is baked in: it reshapes {total} elements to [{', '.join(map(str, wanted))}], "
            f"which holds {known} (times a whole number)",
            hint="export the model with a dynamic time axis, or write -1 for time in this node's target shape",
        )

    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        out = self.target(n)
        at = self._follow(n.shape(0), out, f.value.axis) if isinstance(f.value, Iota) else None
        return [WireFact(f.dtype, out, reshaped_value(f, out, at))]

    @staticmethod
    def _follow(shape: Shape, out: Shape, axis: int) -> int | None:
        """The output axis with the same length and as many elements before it."""
        ahead = product(shape[:axis])
        so_far: DimLike = 1
        for o, d in enumerate(out):
            if d == shape[axis] and so_far == ahead:
                return o
            so_far = so_far * d
        return None

    def axes(self, n: NodeView) -> AxisMap:
        shape, out = n.shape(0), n.outputs[0].shape
        assert out is not None
        pairs: list[list[tuple[int, int]]] = [[] for _ in out]
        for a in n.streaming(0):
            o = self._follow(shape, out, a)
            if o is not None:
                pairs[o].append((0, a))
        return [[tuple(p) for p in pairs]]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        out = ", ".join(map(str, n.outputs[0].shape or ()))
        return f"it does not keep time whole: [{', '.join(map(str, n.shape(0)))}] becomes [{out}]"

    def plan(self, n: NodeView) -> Plan:
        return axis_plan(self, n, dims=(1, "reshape"))


class Flatten(Reshape):
    note = "time must be the first axis, or alone on its side"

    def target(self, n: NodeView) -> Shape:
        shape = n.shape(0)
        axis = n.attr("axis", 1)
        axis = axis + len(shape) if axis < 0 else axis
        return product(shape[:axis]), product(shape[axis:])

    def plan(self, n: NodeView) -> Plan:
        return axis_plan(self, n)


register(Transpose(), "Transpose")
register(Squeeze(), "Squeeze")
register(Unsqueeze(), "Unsqueeze")
register(Reshape(), "Reshape")
register(Flatten(), "Flatten")
