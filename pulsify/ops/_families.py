"""Families that most operators belong to: an axis map is all such a rule has to give."""

from __future__ import annotations

from collections.abc import Sequence

from pulsify.dim import Dim, DimLike, symbols_of
from pulsify.errors import Refusal
from pulsify.facts import Need, Plan, Shape, Stream, WireFact
from pulsify.ops._rule import NodeView, Rule

__all__ = ["AxisMap", "AxisRule", "broadcast", "broadcast_axes", "product", "same_axes"]

#: Per output, per output axis: the (input, axis) pairs it follows frame by frame.
AxisMap = list[list[tuple[tuple[int, int], ...]]]


class AxisRule(Rule):
    """Operators equivariant along every axis they map: out[.., j, ..] depends on in[.., j, ..] alone.

    Region transform: ``out [a, b) <- in [a, b)``. A time axis that is not mapped is refused with :meth:`consumed`.
    """

    def axes(self, n: NodeView) -> AxisMap:
        """The axis map. Only called once the facts of inputs and outputs are known."""
        raise AssertionError(f"{type(self).__name__} has no axis map")

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        """Why a time axis that is not mapped cannot stream."""
        return "it mixes frames along the time axis"

    def hint(self, n: NodeView, k: int, axis: int) -> str | Sequence[str]:
        """What to do about it."""
        return ""

    def plan(self, n: NodeView) -> Plan:
        return axis_plan(self, n)


def axis_plan(rule: AxisRule, n: NodeView, **kw: object) -> Plan:
    """The plan of an axis map."""
    streams: list[Stream] = []
    mapped: set[tuple[int, int]] = set()
    given = [n.streaming(k) for k in range(len(n.inputs))]
    for o, axes in enumerate(rule.axes(n)):
        time = set(n.outputs[o].time_axes(n.symbol))
        for a, sources in enumerate(axes):
            live = tuple(Need(k, i) for k, i in sources if k < len(given) and i in given[k])
            for need in live:
                mapped.add((need.input, need.axis))
            if a in time:
                streams.append(Stream(o, a, live))
            elif live:
                n.refuse(
                    f"output {o} is {n.outputs[o].shape} and loses the time axis",
                    axis=live[0].axis,
                    input=live[0].input,
                )
    for k, time_axes in enumerate(given):
        for a in time_axes:
            if (k, a) not in mapped:
                n.refuse(rule.consumed(n, k, a), axis=a, input=k, hint=rule.hint(n, k, a))
    return Plan(tuple(streams), **kw)  # type: ignore[arg-type]


def same_axes(rank: int, but: Sequence[int] = (), k: int = 0) -> list[tuple[tuple[int, int], ...]]:
    """Input k's axes kept in place, except those in ``but``."""
    return [() if a in but else ((k, a),) for a in range(rank)]


def broadcast(n: NodeView, shapes: Sequence[Shape]) -> Shape:
    """Numpy broadcasting of symbolic shapes. Refuses dims that cannot agree, naming a baked time axis."""
    rank = max(len(s) for s in shapes)
    out: list[DimLike] = [1] * rank
    for s in shapes:
        for i, d in enumerate(s, rank - len(s)):
            out[i] = _merge(n, out[i], d, i)
    return tuple(out)


def _merge(n: NodeView, a: DimLike, b: DimLike, axis: int) -> DimLike:
    if a == b or b == 1:
        return a
    if a == 1:
        return b
    if not isinstance(a, Dim) and not isinstance(b, Dim):
        n.refuse(f"its inputs are {a} and {b} long on axis {axis} and do not broadcast", axis=axis)
    streams_a, streams_b = (n.symbol in symbols_of(d) for d in (a, b))
    if streams_a and streams_b:
        if n.assume.eq(a, b, n.name, must=True):
            return a
        n.refuse(f"its inputs are {a} and {b} frames long on axis {axis}", axis=axis)
    if streams_a or streams_b:
        length, other = (a, b) if streams_a else (b, a)
        if isinstance(other, Dim):
            n.refuse(
                f"one input is {length} long on axis {axis}, another {other}: they agree only by chance",
                axis=axis,
                hint=f"give both inputs the same time axis (--axis input:{axis} for each)",
            )
        try:
            n.refuse(
                f"the time axis is baked in: one input is {length} long on axis {axis}, another has {other} fixed",
                axis=axis,
                hint="export the model with a dynamic time axis, or slice that constant by the input's length",
            )
        except Refusal as e:
            e.baked = True
            raise
    # Two opaque dimensions that must agree for the model to run at all: keep the one that is a number.
    return a if not isinstance(a, Dim) else b if not isinstance(b, Dim) else a


def broadcast_axes(n: NodeView, inputs: Sequence[int], rank: int) -> list[tuple[tuple[int, int], ...]]:
    """The axis map of right-aligned broadcasting; an axis of length 1 is not followed."""
    out: list[tuple[tuple[int, int], ...]] = []
    for o in range(rank):
        pairs = []
        for k in inputs:
            f = n.optional(k)
            if f is None or f.shape is None:
                continue
            a = o - (rank - len(f.shape))
            if a >= 0 and f.shape[a] != 1:
                pairs.append((k, a))
        out.append(tuple(pairs))
    return out


def product(dims: Sequence[DimLike]) -> DimLike:
    """Product of dimensions."""
    total: DimLike = 1
    for d in dims:
        total = total * d
    return total


def unknown(f: WireFact) -> WireFact:
    """The same type with nothing known of its value."""
    return WireFact(f.dtype, f.shape)
