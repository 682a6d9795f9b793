"""What is known of a wire, and what a rule says of a node. Frozen data.

Units: a *frame* is one index of a wire's time axis; S counts frames of the stream symbol. ``n`` is the number of
frames a wire carries per pulse, ``n = P * rate``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from math import isfinite, prod
from numbers import Integral
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim, DimLike, floor_div, symbols_of

__all__ = ["UNIT", "AxisRegion", "Clipped", "Elems", "Fill", "Grid", "Iota", "Need", "Plan", "Shape", "Splice", "State", "Stream", "Window", "WireFact"]

Shape = tuple[DimLike, ...]

#: The types that hold the length of any stream.
_HOLD_LENGTHS = frozenset(ir.DataType[t] for t in ("INT64", "INT32", "UINT64", "UINT32", "FLOAT", "DOUBLE"))

#: Tensors up to this many elements carry their values symbolically.
MAX_ELEMS = 64


@dataclass(frozen=True, slots=True)
class Elems:
    """A small tensor whose every element is known: an object array of int, bool, Fraction or Dim."""

    array: np.ndarray

    @property
    def constant(self) -> bool:
        return not any(isinstance(e, Dim) for e in self.array.flat)


@dataclass(frozen=True, slots=True)
class Fill:
    """Every element is ``value``."""

    value: Any


@dataclass(frozen=True, slots=True)
class Iota:
    """Element at index i of ``axis`` is ``start + step*i``, whatever the other indices."""

    axis: int
    start: DimLike
    step: DimLike


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Element at index i of ``axis`` is ``step*i + offsets``, where ``offsets`` is an int array of length 1 there."""

    axis: int
    step: int
    offsets: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Clipped:
    """Element at index i is that of ``grid``, not below ``low`` and not above ``high`` where there is such a bound."""

    grid: Grid
    low: DimLike | None
    high: DimLike | None

    @property
    def axis(self) -> int:
        return self.grid.axis


Value = Elems | Fill | Iota | Grid | Clipped | None


@lru_cache(maxsize=65536)
def _time_axes(shape: Shape, symbol: str) -> tuple[int, ...]:
    return tuple(a for a, d in enumerate(shape) if isinstance(d, Dim) and symbol in symbols_of(d))


def _fits(dtype: ir.DataType, v: Any) -> bool:
    """Whether the type holds the number: a whole one as it is, a broken one as the finite number next to it, an expression
    of the stream's length as any recording makes it."""
    if dtype in (ir.DataType.BOOL, ir.DataType.UNDEFINED) or isinstance(v, (bool, float, np.floating)):
        return True
    if isinstance(v, Dim):
        return dtype in _HOLD_LENGTHS
    if dtype.is_integer():
        return bool(dtype.min <= v <= dtype.max and v == int(v))
    if not dtype.is_floating_point():
        return True
    try:
        with np.errstate(over="ignore"):
            held = float(np.asarray(float(v)).astype(dtype.numpy()))
    except OverflowError:
        return False
    return held == v if isinstance(v, Integral) else isfinite(held)


@dataclass(frozen=True, slots=True)
class WireFact:
    """Type, shape and, where known, the value of one wire of the batch model.

    ``shape`` is None where the rank is unknown. ``const`` holds the tensor of a constant.
    """

    dtype: ir.DataType
    shape: Shape | None
    value: Value = None
    const: Any = None

    @property
    def rank(self) -> int:
        assert self.shape is not None
        return len(self.shape)

    def time_axes(self, symbol: str) -> tuple[int, ...]:
        """The axes whose length depends on the stream symbol."""
        return () if self.shape is None else _time_axes(self.shape, symbol)

    def array(self) -> np.ndarray | None:
        """The constant as numpy, or None."""
        return None if self.const is None else np.asarray(self.const.numpy())

    def elems(self) -> np.ndarray | None:
        """Known elements as an object array (constants included), or None."""
        if isinstance(self.value, Elems):
            return self.value.array
        if self.const is not None and self.shape is not None and self.const.size <= MAX_ELEMS:
            array = self.array()
            if array is not None and array.dtype.kind in "iub":
                return array.astype(object)
            if array is not None and array.dtype.kind == "f" and np.all(np.isfinite(array)):
                # A float constant as the exact rational it is; whole ones as int.
                flat = [int(v) if float(v).is_integer() else Fraction(float(v)) for v in array.flat]
                if any(isinstance(v, Fraction) and v.denominator > 4096 for v in flat):
                    return None  # an inexact decimal: its products with a length are not ours to round
                return np.array(flat, dtype=object).reshape(array.shape) if flat else array.astype(object)
        if isinstance(self.value, Fill):
            sizes = self.sizes()
            if sizes is not None and prod(sizes) <= MAX_ELEMS:
                return np.full(sizes, self.value.value, dtype=object)
        return None

    def fitting(self) -> WireFact:
        """The same, without a value where an element is no number of the type: arithmetic wraps, rounds or overflows there."""
        if self.value is None or isinstance(self.value, (Grid, Clipped)):
            return self
        numbers = self.value.array.flat if isinstance(self.value, Elems) else (self.value.start if isinstance(self.value, Iota) else self.value.value,)
        return self if all(_fits(self.dtype, v) for v in numbers) else WireFact(self.dtype, self.shape, const=self.const)

    def sizes(self) -> tuple[int, ...] | None:
        """The shape as numbers, or None where a dimension is symbolic."""
        if self.shape is None or any(isinstance(d, Dim) for d in self.shape):
            return None
        return tuple(int(d) for d in self.shape)


@dataclass(frozen=True, slots=True)
class AxisRegion:
    """What a wire holds at pulse T on one axis: frames ``[n*T - delay - overlap, n*(T+1) - delay)``, ``n = P*rate``.

    A negative delay announces frames: those of index < -delay are never sent (a buffer supplies them). A positive
    overlap is history that a buffer provides; a negative one leaves the first frames of the chunk out.
    """

    rate: Fraction
    delay: int
    overlap: int = 0
    #: Streams that follow each other on the axis, each with its n frames: the batch merged in front of time.
    rows: DimLike = 1


@dataclass(frozen=True, slots=True)
class Window:
    """Output block q, the frames ``[up*q, up*(q+1))``, reads input frames ``[stride*q - before, stride*q - before + span)``.

    With input delay d the least output delay is ``up * ceil((d + span - stride - before) / stride)``, and an output of
    delay ``up*e`` reads ``stride*e + before - d`` frames behind the current input chunk. ``up`` is 1 but where an
    operator makes several frames of each. ``whole``: a part of a window at the end of a chunk must not be there (where
    False it is ignored).
    """

    stride: int = 1
    before: int = 0
    span: int = 1
    up: int = 1
    whole: bool = False

    @property
    def unit(self) -> bool:
        """Whether output frame j reads input frame j and no other."""
        return self is UNIT or self == UNIT

    def least_delay(self, delay: int) -> int:
        """up * ceil((delay + span - stride - before) / stride)."""
        return self.up * -(-(delay + self.span - self.stride - self.before) // self.stride)

    def end(self, high: DimLike) -> DimLike:
        """The first input frame that output frames before ``high`` read nothing from on:
        ``stride*(ceil(high / up) - 1) - before + span``."""
        return high if self.unit else self.stride * (-floor_div(-high, self.up) - 1) - self.before + self.span


UNIT = Window()


@dataclass(frozen=True, slots=True)
class Need:
    """What one output axis asks of one input axis."""

    input: int
    axis: int
    window: Window = UNIT


@dataclass(frozen=True, slots=True)
class Stream:
    """One time axis of one output, and all it needs."""

    output: int
    axis: int
    needs: tuple[Need, ...]


@dataclass(frozen=True, slots=True)
class Splice:
    """Frames beside a stream: ``out[i] = in[i - before]`` where that exists, and something known elsewhere.

    ``mode``
        ``edge``: ``in[clip(i - before, 0, L - 1)]``; ``reflect``: mirrored at both ends; ``join``: frames of the
        static inputs ``first`` (``before`` in all) and ``last``.
    """

    mode: str
    before: int
    after: DimLike
    first: tuple[int, ...] = ()
    last: tuple[int, ...] = ()

    def needs(self, frame: int) -> int:
        """The output frame that comes together with the last input frame that ``frame`` is made of."""
        if frame >= self.before or self.mode == "join":
            return frame
        return self.before if self.mode == "edge" else 2 * self.before - frame

    def behind(self, span: int, after: int) -> int:
        """How far behind input frame f its windows ``out [f, f + span)`` read, at most ``after`` frames past the stream:
        ``before + max(0, c*after + 1 - span)``, c = 1 for ``edge``, 2 for ``reflect``, 0 for ``join``.

        The first frame of a window comes from ``f - before``, its last, ``j = f - before + span - 1``, from none before
        ``j - c*after``: as ``L >= j + 1 - after``, ``L - 1 >= j - after`` and ``2*(L - 1) - j >= j - 2*after``. Those between
        lie between, and what is mirrored at the stream's begin lies ahead.
        """
        return self.before + max(0, {"edge": 1, "reflect": 2, "join": 0}[self.mode] * after + 1 - span)


@dataclass(frozen=True)
class Plan:
    """A rule's answer: for each time axis of each output, the input regions it needs.

    ``kind``
        ``op`` keeps the operator; ``pad`` and ``slice`` are bookkeeping on a wire (their pseudo-operators change the
        region, not the data); ``stride`` keeps every n-th frame; ``free`` makes frames from nothing (every frame
        known from its index alone); ``splice`` puts frames beside a stream; ``custom`` builds its own nodes with
        ``lower``; ``window`` does so too, and remembers nothing but what its windows read.
    ``attributes``
        replaces attributes of the pulsed node.
    ``dims``
        names an input that holds the shape of output 0, to be written again for a pulse, in the given style
        (``reshape``, ``expand``, ``tile``).
    ``pad``, ``pad_value``
        (axis, before, after) and the value of a ``pad``.
    ``splice``
        the frames a ``splice`` puts beside its input; its readers take what they need straight from the input.
    ``consumes``
        inputs read frame by frame, as they come, into a memory; their result is no stream.
    ``ends``
        a result depends on where the stream ends: what it reads must not run ahead of what is certain.
    ``last``
        all that is remembered of what is consumed are its last frames, so many.
    ``memory``
        every output frame depends on all input frames before it, back to frame 0.
    ``lower``
        builds the pulsed nodes of a ``custom`` plan: a function of the Lowering (stages/_lowering.py) that returns one
        wire per output of the node.
    ``evaluate``
        the first frames of the outputs, of a ``custom`` plan, from the first frames of the inputs: what a prologue
        needs to know where no operator of the standard says it.
    """

    streams: tuple[Stream, ...]
    kind: str = "op"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    dims: tuple[int, str] | None = None
    pad: tuple[int, int, DimLike] | None = None
    pad_value: Any = None
    splice: Splice | None = None
    consumes: tuple[Need, ...] = ()
    ends: bool = False
    last: int = 0
    memory: bool = False
    lower: Callable[[Any], Sequence[Any]] | None = None
    evaluate: Callable[[Sequence[Any]], Sequence[Any]] | None = None


@dataclass(frozen=True, slots=True)
class State:
    """One ``past_<id>`` -> ``present_<id>`` pair of the pulsed model. Zero-filled at the start.

    ``shape`` holds ints or the batch symbol. ``zeros_read`` tells whether a valid frame depends on the initial
    zeros (it is padding, a counter or a recurrent state) or never does (warm-up history: any content would do).
    """

    id: str
    dtype: ir.DataType
    shape: tuple[int | str, ...]
    axis: int | None
    batch_axis: int | None
    kind: str
    origin: str
    zeros_read: bool = True
