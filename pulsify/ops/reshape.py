"""Axis movers: Reshape, Flatten, Squeeze, Unsqueeze, Transpose, Identity-like relabelling of axes.

Region transform: ``out [a, b) <- in [a, b)`` on the moved time axis. A Reshape regroups frames where as many elements
are before the output axis as before the input's: with B elements per input frame, B' per output frame and
``B/B' = p/q`` reduced, ``out [p*t, p*(t+1)) <- in [q*t, q*(t+1))``. Stacking k frames is p/q = 1/k, splitting a frame
in k (interleaving channels in time) is k/1.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NoReturn

import numpy as np

from pulsify.dim import Dim, DimLike, exact_div, floor, split_rows, symbols_of
from pulsify.errors import Repair
from pulsify.facts import Elems, Fill, Iota, Need, Plan, Shape, Stream, Value, Window, WireFact
from pulsify.ops._families import AxisMap, AxisRule, product
from pulsify.ops._rule import NodeView, Rule, register
from pulsify.ops._unbake import as_transpose, free_constant, refuse_with_repair


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
        if not axes:  # an empty list, too: runtimes take it for none given
            return self._unnamed(n)
        gone = {n.axis(a, len(shape)) for a in axes}
        for a in gone:
            if shape[a] != 1 and (not isinstance(shape[a], Dim) or n.symbol in symbols_of(shape[a])):
                n.refuse(f"it squeezes axis {a}, which is {shape[a]} long", axis=a)
        return [a for a in range(len(shape)) if a not in gone]


    def _unnamed(self, n: NodeView) -> list[int | None]:
        """Without axes it takes away whatever is 1 long: of a stream, that must be known beforehand."""
        shape, time = n.shape(0), n.streaming(0)
        kept: list[int | None] = [a for a, d in enumerate(shape) if d != 1]
        for a, d in enumerate(shape):
            if not time or not isinstance(d, Dim):
                continue
            if a not in time or not n.assume.ge(d, 2, n.name):
                named = tuple(k for k in range(len(shape)) if k not in kept)
                refuse_with_repair(
                    n,
                    f"it names no axes, and takes away axis {a}, {d} long, wherever that is 1",
                    Repair(n.name, "Squeeze", named),
                    f"give it the axes {list(named)}",
                    axis=a,
                )
        return kept


class Unsqueeze(AxisMover):
    def sources(self, n: NodeView) -> list[int | None]:
        axes = n.ints_attr_or_input("axes", 1) or ()
        rank = len(n.shape(0)) + len(axes)
        new = {n.axis(a, rank) for a in axes}
        rest = iter(range(len(n.shape(0))))
        return [None if a in new else next(rest) for a in range(rank)]


class Reshape(Rule):
    status, note = "conditions", "time may be stacked, split, interleaved; nothing that varies faster may be in front"

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
        # Dimensions on both sides cancel: what is left is divided or compared, mostly frames by numbers.
        rest, fixed = list(shape), [d for d in out if d is not None]
        for d in [d for d in fixed if isinstance(d, Dim) and d in rest]:
            rest.remove(d)
            fixed.remove(d)
        total, known = product(rest), product(fixed)
        if None in out:
            out[out.index(None)] = self._quotient(n, total, known, wanted)
        elif not n.assume.eq(total, known, n.name, must=True):
            self._baked(n, total, known, wanted)
        return tuple(d for d in out if d is not None)

    def _quotient(self, n: NodeView, total: DimLike, known: DimLike, wanted: Shape) -> DimLike:
        if known == 0:
            return 0
        whole = exact_div(total, known)
        if whole is not None:
            return whole
        if isinstance(known, int) and isinstance(total, Dim) and n.assume.divides(known, total, n.name):
            return floor(total // known)
        return self._baked(n, total, known, wanted)

    def _baked(self, n: NodeView, total: DimLike, known: DimLike, wanted: Shape) -> DimLike:
        time = n.streaming(0)
        repair = as_transpose(n, time[0], wanted) if time else None
        repair = repair or free_constant(n, total, known, wanted)
        refuse_with_repair(
            n,
            f"the time axis is baked in: it reshapes {total} elements to [{', '.join(map(str, wanted))}], "
            f"which holds {known} (times a whole number)",
            repair,
            "export the model with a dynamic time axis, or write -1 for time in this node's target shape",
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

    def plan(self, n: NodeView) -> Plan:
        return Plan(self.streams(n), dims=(1, "reshape"))

    def streams(self, n: NodeView) -> tuple[Stream, ...]:
        """Each time axis of the input, found again in the output."""
        out = n.outputs[0].shape
        assert out is not None
        left = list(n.outputs[0].time_axes(n.symbol))
        streams = []
        for a in n.streaming(0):
            for o in left:
                window = self._window(n, out, a, o)
                if window is not None:
                    left.remove(o)
                    streams.append(Stream(0, o, (Need(0, a, window),)))
                    break
            else:
                self._mixed(n, a, out)
        return tuple(streams)

    @staticmethod
    def _window(n: NodeView, out: Shape, a: int, o: int) -> Window | None:
        """Frames of axis a regrouped as frames of axis o, in order: as many elements before both, and ``stride``
        frames of the input hold the elements of ``up`` frames of the output. Whole streams that follow each other on
        an axis (the batch merged in front of time) count as elements before."""
        shape = n.shape(0)
        ahead = product(shape[:a]) * split_rows(shape[a], n.symbol)[0]
        if ahead != product(out[:o]) * split_rows(out[o], n.symbol)[0]:
            return None
        inner, outer = product(shape[a + 1 :]), product(out[o + 1 :])
        if inner == outer:
            return Window()
        if inner == 0 or outer == 0:
            return None
        if isinstance(inner, int) and isinstance(outer, int):
            ratio = Fraction(inner, outer)
        else:
            more, less = exact_div(inner, outer), exact_div(outer, inner)
            if isinstance(more, int):
                ratio = Fraction(more)
            elif isinstance(less, int):
                ratio = Fraction(1, less)
            else:
                return None
        return Window(ratio.denominator, 0, ratio.denominator, ratio.numerator, whole=True)

    def _mixed(self, n: NodeView, a: int, out: Shape) -> NoReturn:
        shape = n.shape(0)
        front = product(shape[:a])
        text = f"[{', '.join(map(str, shape))}] becomes [{', '.join(map(str, out))}]"
        if front != 1 and any(d == front * shape[a] for d in out):
            n.refuse(
                f"it merges time with the {front} entries in front of it, so that whole streams follow each other: {text}",
                axis=a,
                hint=[
                    "keep time on an axis of its own through this part of the model",
                    *(["export the model with a batch of 1"] if isinstance(front, Dim) else []),
                ],
            )
        refuse_with_repair(
            n,
            f"it does not keep frames together: {text}",
            as_transpose(n, a, out),
            "time may be regrouped where it varies slowest: [T, C] -> [T/k, k*C] or [T*k, C/k]",
            axis=a,
        )


class Flatten(Reshape):
    note = "time must be the first axis, or alone on its side"

    def target(self, n: NodeView) -> Shape:
        shape = n.shape(0)
        axis = n.attr("axis", 1)
        axis = axis + len(shape) if axis < 0 else axis
        return product(shape[:axis]), product(shape[axis:])

    def plan(self, n: NodeView) -> Plan:
        return Plan(self.streams(n))


register(Transpose(), "Transpose")
register(Squeeze(), "Squeeze")
register(Unsqueeze(), "Unsqueeze")
register(Reshape(), "Reshape")
register(Flatten(), "Flatten")
