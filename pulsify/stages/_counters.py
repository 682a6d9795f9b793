"""Where a pulse lies in the stream: counters, frame indices and masks, in standard ONNX.

Two counters per batch row serve a whole model, both in frames of the stream symbol: ``position``, the frames sent
before this pulse, and ``frames``, the real ones so far (the running sum V of ``valid_frames``). Frame k of a pulse on
a wire of rate r and delay d has the index ``i = position*r - d + k``; it is real if and only if ``0 <= i < L(V)``.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim, DimLike, parse, sym, symbols_of
from pulsify.errors import Refusal
from pulsify.facts import Splice, State
from pulsify.graph import Graph, NodeBuilder, StateSlot
from pulsify.stages._expressions import write_expression

__all__ = ["Counters"]

I64 = ir.DataType.INT64


class Counters:
    """Emits each counter, index and mask once."""

    def __init__(self, g: Graph, build: NodeBuilder):
        self.g, self.build = g, build
        self.slots: list[StateSlot] = []
        self.valid_frames: ir.Value | None = None
        self._made: dict[object, ir.Value] = {}
        self._lengths: dict[DimLike, ir.Value] = {}
        #: Masks asked for, by what those computed together have in common.
        self._expected: dict[object, dict[Any, None]] = {}

    def _once(self, key: object, make) -> ir.Value:  # type: ignore[no-untyped-def]
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _counter(self, name: str, origin: str) -> StateSlot:
        batch = self.g.batch
        state = State(name, I64, (batch if batch is not None else 1,), None, 0 if batch is not None else None, "counter", origin)
        past = ir.Value(name=self.build.unique(f"past_{name}"), type=ir.TensorType(I64))
        slot = StateSlot(state, past)
        self.slots.append(slot)
        return slot

    def position(self) -> ir.Value:
        """Frames sent before this pulse, per row: ``[N]``."""

        def make() -> ir.Value:
            slot = self._counter("position", "frames sent")
            assert slot.past is not None
            slot.present = self.build.op("Add", [slot.past, self.pulse()], "present_position")
            return slot.past

        return self._once("position", make)

    def _sent(self) -> ir.Value:
        """Frames sent, this pulse included, per row: ``[N]``."""
        self.position()
        (present,) = (slot.present for slot in self.slots if slot.state.id == "position")
        assert present is not None
        return present

    def real(self) -> ir.Value:
        """Real frames so far, this pulse included, per row: V ``[N]``."""

        def make() -> ir.Value:
            slot = self._counter("frames", "real frames received")
            slot.present = self.build.op("Add", [slot.past, self.fresh()], "present_frames")
            return slot.present

        return self._once("real", make)

    def fresh(self) -> ir.Value:
        """Real frames of this pulse, per row: ``valid_frames`` ``[N]``."""
        if self.valid_frames is None:
            self.valid_frames = ir.Value(name=self.build.unique("valid_frames"), type=ir.TensorType(I64))
        return self.valid_frames

    def _plain(self, rate: Fraction, delay: int, length: DimLike) -> bool:
        """Whether a wire's real frames are the stream's own: the first ``valid_frames * r`` of every pulse. (Until the
        stream ends every pulse is full, so ``position = V`` before it; afterwards ``valid_frames`` is 0.)"""
        return delay == 0 and length == sym(self.g.symbol) * rate

    def pulse(self) -> ir.Value:
        """Frames of the stream symbol in this pulse: ``[1]``."""
        assert self.g.pulse is not None
        if isinstance(self.g.pulse.size, int):
            return self.build.const([self.g.pulse.size])

        def make() -> ir.Value:
            for v in self.g.graph.inputs:
                for axis, region in self.g.regions.get(v, {}).items():
                    size = self.build.op("Shape", [v], "pulse.size", start=axis, end=axis + 1)
                    return size if region.rate == 1 else self._scaled(size, 1 / region.rate, "pulse.frames")
            raise AssertionError("no streaming input")

        return self._once("pulse", make)

    def _scaled(self, value: ir.Value, rate: Fraction, stem: str) -> ir.Value:
        """value * rate, exact because pulses are multiples of every denominator."""
        if rate.numerator != 1:
            value = self.build.op("Mul", [value, self.build.const([rate.numerator])], stem)
        if rate.denominator != 1:
            value = self.build.op("Div", [value, self.build.const([rate.denominator])], stem)
        return value

    def started(self, rank: int, batch_axis: int | None) -> ir.Value:
        """Whether a row has had a pulse before: bool, shaped to broadcast."""
        key = ("started", rank, batch_axis)

        def make() -> ir.Value:
            if self.g.batch is None:  # of the rank of what it chooses between, which a runtime's Where is fast for
                return self.build.op("Greater", [self.position(), self.build.const(np.zeros([1] * rank), "never")], "started")
            flag = self._once("flag", lambda: self.build.op("Greater", [self.position(), self.build.const([0])], "started"))
            return self._place(flag, rank, batch_axis)

        return self._once(key, make)

    def _beside(self, row: ir.Value, rank: int, batch_axis: int | None) -> ir.Value:
        """A per-row value as operand beside something of the given rank: ``[1]``, without a batch, is one as it is."""
        return row if self.g.batch is None else self._place(row, rank, batch_axis)

    def _place(self, row: ir.Value, rank: int, batch_axis: int | None) -> ir.Value:
        """A per-row value ``[N]`` as ``[1, .., N, .., 1]``."""
        key = ("place", row, rank, batch_axis)
        axes = [a for a in range(rank) if a != (batch_axis if batch_axis is not None else rank - 1)]
        if not axes:
            return row
        return self._once(key, lambda: self.build.op("Unsqueeze", [row, self.build.const(axes)], f"{row.name}.row"))

    def _start(self, rate: Fraction) -> ir.Value:
        """``position * rate``: the index of the chunk's first frame at delay 0, per row."""
        return self._once(("start", rate), lambda: self._scaled(self.position(), rate, "start"))

    def _steps(self, rate: Fraction, offset: int, sign: int, rank: int, axis: int, more: int = 0) -> ir.Value:
        """``offset + sign*k`` for the frames k of a pulse (and ``more``), along an axis of a tensor of the given rank."""
        assert self.g.pulse is not None
        if isinstance(self.g.pulse.size, int):
            n = int(self.g.pulse.size * rate) + more
            return self.build.const((offset + sign * np.arange(n)).reshape([n if a == axis else 1 for a in range(rank)]), "steps")

        def make() -> ir.Value:
            size = self._size(rate, more)
            zero, one = (self.build.const(v, f"int_{v}") for v in (0, 1))
            steps = self._once(("range", rate, more), lambda: self.build.op("Range", [zero, size, one], "frames.index"))
            if sign < 0:
                steps = self.build.op("Neg", [steps], "frames.back")
            if offset:
                steps = self.build.op("Add", [steps, self.build.const([offset])], "frames.from")
            axes = [a for a in range(rank) if a != axis]
            return self.build.op("Unsqueeze", [steps, self.build.const(axes)], "frames.row") if axes else steps

        return self._once(("steps", rate, offset, sign, rank, axis, more), make)

    def _size(self, rate: Fraction, more: int) -> ir.Value:
        """Frames of a wire per pulse and ``more``: a scalar."""
        assert self.g.pulse is not None
        if isinstance(self.g.pulse.size, int):
            return self.build.const(int(self.g.pulse.size * rate) + more, "frames")
        n = self._frames(rate)
        if not more:
            return n
        return self._once(
            ("size", rate, more), lambda: self.build.op("Add", [n, self.build.const(more, "more")], "frames.count")
        )

    def source(
        self, rate: Fraction, delay: int, overlap: int, splice: Splice, length: DimLike, history: int, kept: int,
        rank: int, axis: int, batch_axis: int | None,
    ) -> ir.Value:  # fmt: skip
        """Where frames ``i`` in ``[n*T - delay - overlap, ..)`` of a spliced wire lie in a region of its source that
        begins at ``n*T - history`` and holds ``kept`` frames besides the pulse: int64 ``[.., N, .., n + overlap, ..]``.

        ``j = i - before``; for ``edge`` ``clip(j, 0, L(V) - 1)``, for ``reflect`` ``|j|`` and ``last - |last - j|``, both
        counted from the region's first frame. A ``join`` is looked up in its first frames, the region and its last ones.
        """
        first, ends = splice.before > 0, splice.after != 0
        key = (
            "source", rate, delay, overlap, splice.mode, splice.before, ends, length if ends else None, history, kept,
            rank, axis, batch_axis, splice.after if splice.mode == "join" else None,
        )  # fmt: skip

        def make() -> ir.Value:
            begin = self._beside(self._start(rate), rank, batch_axis)
            from_ = -delay - overlap - splice.before
            j = self.build.op("Add", [begin, self._steps(rate, from_, 1, rank, axis, overlap)], "source.frame")
            most = self._size(rate, kept - 1)
            if splice.mode == "join":
                out = self._steps(rate, from_ + history + splice.before, 1, rank, axis, overlap)
                if first:
                    early = self.build.op("Less", [j, self.build.const([0])], "source.first")
                    table = self.build.op("Add", [j, self.build.const([splice.before])], "source.early")
                    out = self.build.op("Where", [early, table, out], "source")
                if ends:
                    past = self.build.op("Sub", [j, self._beside(self._length(length), rank, batch_axis)], "source.past")
                    late = self.build.op("GreaterOrEqual", [past, self.build.const([0])], "source.last")
                    table = self.build.op("Add", [past, self._size(rate, kept + splice.before)], "source.late")
                    out = self.build.op("Where", [late, table, out], "source")
                most = self._size(rate, kept - 1 + splice.before + int(splice.after))  # type: ignore[arg-type]
            else:
                if first:
                    reflect = splice.mode == "reflect"
                    j = self.build.op(*(("Abs", [j]) if reflect else ("Max", [j, self.build.const([0])])), "source.first")
                if ends:
                    last = self.build.op("Sub", [self._length(length), self.build.const([1])], "last")
                    last = self._beside(last, rank, batch_axis)
                    if splice.mode == "reflect":
                        gap = self.build.op("Abs", [self.build.op("Sub", [last, j], "source.gap")], "source.gap")
                        j = self.build.op("Sub", [last, gap], "source.last")
                    else:
                        j = self.build.op("Min", [j, last], "source.last")
                start = self.build.op("Sub", [begin, self.build.const([history])], "source.begin") if history else begin
                out = self.build.op("Sub", [j, start], "source")
            return self.build.op("Clip", [out, self.build.const(0, "int_0"), most], "source")

        return self._once(key, make)

    def index(self, rate: Fraction, delay: int, rank: int, axis: int, batch_axis: int | None) -> ir.Value:
        """The frame index of every frame of a pulse: int64 ``[.., N, .., n, ..]``."""
        key = ("index", rate, delay, rank, axis, batch_axis)
        if batch_axis is None and rank == 1:
            return self._once(key, lambda: self.build.op("Add", [self._start(rate), self._steps(rate, -delay, 1, 1, 0)], "index"))
        start = self._beside(self._start(rate), rank, batch_axis)
        return self._once(key, lambda: self.build.op("Add", [start, self._steps(rate, -delay, 1, rank, axis)], "index"))

    def valid(
        self, rate: Fraction, delay: int, length: DimLike, start: bool, end: bool, rank: int, axis: int,
        batch_axis: int | None, factor: ir.DataType | None = None,
    ) -> ir.Value:  # fmt: skip
        """Which frames of a pulse are real: ``i >= 0`` (start) and ``i < L(V)`` (end), bool ``[.., N, .., n, ..]``, or 1
        and 0 of the type ``factor``."""
        key = ("valid", rate, delay, length, start, end, rank, axis, batch_axis, factor)

        def make() -> ir.Value:
            together = self._expected.get(self._base(*key[1:]), {})
            if key in together and not (end and self._plain(rate, delay, length)):
                self._valid_together(list(together), rank, axis, batch_axis, factor)
                return self._made[key]
            tests = []
            if start:
                # position*r >= d - k
                first = self._beside(self._start(rate), rank, batch_axis)
                tests.append(self.build.op("GreaterOrEqual", [first, self._steps(rate, delay, -1, rank, axis)], "begun"))
            if end:
                # L(V) - position*r > k - d
                plain = self._plain(rate, delay, length)
                left = self._scaled(self.fresh(), rate, "real") if plain else self._left(rate, length)
                left = self._beside(left, rank, batch_axis)
                tests.append(self.build.op("Greater", [left, self._steps(rate, -delay, 1, rank, axis)], "going"))
            return self._factor(tests[0] if len(tests) == 1 else self.build.op("And", tests, "valid"), factor)

        return self._once(key, make)

    def _factor(self, valid: ir.Value, dtype: ir.DataType | None) -> ir.Value:
        return valid if dtype is None else self.build.op("Cast", [valid], "valid.factor", to=int(dtype))

    def expect(self, *place: Any) -> None:
        """Announce a call of :meth:`valid`: masks of one layout are computed together, with one comparison each of all
        their starts and ends, whatever their rates; those whose lengths are no multiple of the stream's (but for a constant)
        apart, by law. Pulses of a dynamic size keep each of theirs."""
        if self.g.pulse is not None and isinstance(self.g.pulse.size, int):
            self._expected.setdefault(self._base(*place), {})[("valid", *place)] = None

    def _base(
        self, rate: Fraction, delay: int, length: DimLike, start: bool, end: bool, rank: int, axis: int,
        batch_axis: int | None, factor: ir.DataType | None = None,
    ) -> object:  # fmt: skip
        """What masks that are computed together have in common."""
        alone = (rate, delay, length) if end and self._plain(rate, delay, length) else None
        law = None if not end or self._is_multiple(rate, length) else (rate, _varying(length))
        return rank, axis, batch_axis, factor, law, alone

    def _is_multiple(self, rate: Fraction, length: DimLike) -> bool:
        """Whether a wire has r frames for each of the stream, but for a constant."""
        return _varying(length) == sym(self.g.symbol) * rate

    def _valid_together(self, keys: list[Any], rank: int, axis: int, batch_axis: int | None, factor: ir.DataType | None) -> None:
        """For the masks of all rates r, delays d and lengths ``r*V + c``, one after the other on the time axis, and cut apart:

            position >= ceil((d - k)/r)    and    V - position > floor((k - d - c)/r)

        which is ``i >= 0`` and ``i < L(V)`` for integers; where L is another law ``L0 + c``, it is
        ``L0(V) - position*r > k - d - c``.
        """
        pulse = self.g.pulse
        assert pulse is not None and isinstance(pulse.size, int)
        begins, ends, sizes = [], [], []
        for _, rate, delay, length, start, end, *_ in keys:
            n = int(pulse.size * rate)
            steps, always = np.arange(n), np.full(n, -(2**62))
            late = steps - delay - _constant(length)
            if end and self._is_multiple(rate, length):
                late = late * rate.denominator // rate.numerator
            begins.append(-((steps - delay) * rate.denominator // rate.numerator) if start else always)
            ends.append(late if end else always)
            sizes.append(n)
        shape = [-1 if a == axis else 1 for a in range(rank)]
        tests = []
        if any(key[4] for key in keys):
            first = self._beside(self.position(), rank, batch_axis)
            tests.append(self.build.op("GreaterOrEqual", [first, self.build.const(np.concatenate(begins).reshape(shape), "steps")], "begun"))
        if any(key[5] for key in keys):
            _, rate, _, length, *_ = next(key for key in keys if key[5])
            place = (Fraction(1), sym(self.g.symbol)) if self._is_multiple(rate, length) else (rate, _varying(length))
            left = self._beside(self._left(*place), rank, batch_axis)
            tests.append(self.build.op("Greater", [left, self.build.const(np.concatenate(ends).reshape(shape), "steps")], "going"))
        every = self._factor(tests[0] if len(tests) == 1 else self.build.op("And", tests, "valid"), factor)
        if len(keys) == 1:
            self._made[keys[0]] = every
            return
        parts = self.build.node("Split", [every, self.build.const(sizes, "frames")], "valid.of", {"axis": axis}, num_outputs=len(keys)).outputs
        self._made.update(zip(keys, parts, strict=True))

    def bound(self, rate: Fraction, delay: int, length: DimLike, end: bool) -> ir.Value:
        """The real frames of a pulse are ``[first, last)``: first is ``clip(d - start, 0, n)``, last (``end``)
        ``clip(L(V) - start + d, 0, n)``, with ``start = position*r``. Per row: ``[N]``."""
        assert self.g.pulse is not None
        plain = self._plain(rate, delay, length)
        key = ("bound", rate, delay, None if plain or not end else length, end)

        def make() -> ir.Value:
            zero, n = self.build.const(0, "int_0"), self._frames(rate)
            if not end:
                gap = self.build.op("Sub", [self.build.const([delay]), self._start(rate)], "before")
            elif plain:
                return self._scaled(self.fresh(), rate, "real")
            else:
                gap = self._left(rate, length)
                if delay:
                    gap = self.build.op("Add", [gap, self.build.const([delay])], "left")
            return self.build.op("Clip", [gap, zero, n], "last" if end else "first")

        return self._once(key, make)

    def kept(self, rate: Fraction, length: DimLike, count: int) -> tuple[ir.Value, ir.Value]:
        """Where the last ``count`` real frames lie in so many remembered ones and the pulse: ``[r, r + count)``, r the real
        frames of the pulse; ``[1]`` each, of a model without a batch."""
        real = self.bound(rate, 0, length, end=True)
        return real, self._once(("kept", real, count), lambda: self.build.op("Add", [real, self.build.const([count])], "last.end"))

    def kept_rows(self, rate: Fraction, length: DimLike, count: int, rank: int, axis: int, batch_axis: int) -> ir.Value:
        """The same per row of a batch: the numbers ``r .. r + count - 1``, int64 ``[.., N, .., count, ..]``."""
        row = self._place(self.bound(rate, 0, length, end=True), rank, batch_axis)
        steps = self.build.const(np.arange(count).reshape([-1 if a == axis else 1 for a in range(rank)]), "steps")
        return self._once(("kept", row, steps), lambda: self.build.op("Add", [row, steps], "last.index"))

    def _frames(self, rate: Fraction) -> ir.Value:
        """Frames of a wire per pulse: a scalar."""
        assert self.g.pulse is not None
        if isinstance(self.g.pulse.size, int):
            return self.build.const(int(self.g.pulse.size * rate), "frames")
        n = self._once(("n", rate), lambda: self._scaled(self.pulse(), rate, "frames.size"))
        return self._once(("n0", rate), lambda: self.build.op("Squeeze", [n], "frames.count"))

    def _left(self, rate: Fraction, length: DimLike) -> ir.Value:
        """``L(V) - position*r``, per row."""
        return self._once(
            ("left", rate, length), lambda: self.build.op("Sub", [self._length(length), self._start(rate)], "frames.left")
        )

    def count(self, rate: Fraction, delay: int, length: DimLike, rank: int, batch_axis: int | None) -> ir.Value:
        """Real frames of a wire that have come by, this pulse included: ``clip(min(n*(T+1) - d, L(V)), 0)``."""
        key = ("count", rate, delay, length)

        def make() -> ir.Value:
            if self._plain(rate, delay, length):
                return self._length(length)
            sent = self._once(("end", rate), lambda: self._scaled(self._sent(), rate, "sent"))
            come = self.build.op("Sub", [sent, self.build.const([delay])], "come") if delay else sent
            least = self.build.op("Min", [come, self._length(length)], "counted")
            return self.build.op("Max", [least, self.build.const([0])], "counted")

        return self._place(self._once(key, make), rank, batch_axis)

    def length(self, d: DimLike, rank: int, batch_axis: int | None) -> ir.Value:
        """A length law of V, shaped to broadcast."""
        return self._place(self._length(d), rank, batch_axis)

    def _length(self, d: DimLike) -> ir.Value:
        """A length law of V, per row."""
        if isinstance(d, Dim) and (symbols_of(d) != {self.g.symbol} or not d.is_integer):
            raise Refusal(f"cannot follow the length {d}", why=f"it depends on more than {self.g.symbol}")
        return write_expression(
            d,
            lambda name: self.real(),
            lambda v: self.build.const([v]),
            lambda op, inputs: self.build.op(op, inputs, "length"),
            self._lengths,
        )


def _constant(d: DimLike) -> int:
    """The constant term of a length law."""
    return int(d.terms.get((), 0)) if isinstance(d, Dim) else int(d)


def _varying(d: DimLike) -> DimLike:
    """A length law without its constant term."""
    return d - _constant(d)


@lru_cache
def parse_rate(text: str) -> Fraction:
    """A rate as attributes of pseudo-operators hold it."""
    return Fraction(text)


@lru_cache
def parse_length(text: str) -> DimLike:
    """A length law as attributes of pseudo-operators hold it."""
    return parse(text)
