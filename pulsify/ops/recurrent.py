"""Recurrence: ``Y[j] = h_{j+1}``, ``h_{j+1} = f(x[j], h_j)``, with ``h_0`` given or zero. Finals: ``Y_h = h_L``, ``Y_c = c_L``.

Region transform over time: ``Y [a, b) <- x [a, b)`` and everything before, one state per initial state. The operator
stays as it is; its final state is the next pulse's initial one. What is no frame of the stream must not move the
state, and the operator itself can leave frames out, by row (``sequence_lens``, behind the last real frame only). The
real frames ``[first, last)`` of a pulse are brought to the front backwards and read backwards::

    first = 0   lens = last                     forward
    last = n    lens = n - first                x, Y flipped; direction reverse
    neither     lens = last - first             x, Y with ``[0, last)`` reversed; direction reverse

``first`` matters after a delay, ``last`` where a final state is read. A row without a real frame keeps its state.

Over another axis, with time in its batch (axis 1), every frame is a sequence of its own: ``Y [a, b) <- x [a, b)``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.dim import DimLike
from pulsify.facts import Elems, Fill, Need, Plan, Stream, WireFact
from pulsify.ops._families import AxisMap, AxisRule, axis_plan, same_axes
from pulsify.ops._rule import NodeView, register

#: Inputs: x, W, R, B, sequence_lens, initial_h, initial_c, P.
LENS, H0, C0 = 4, 5, 6
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
START, FIRST = -1, -((1 << 63) - 1)


def full_lens(f: WireFact, length: DimLike) -> bool:
    """Whether a sequence_lens is provably the sequence length for every row."""
    if isinstance(f.value, Fill):
        return bool(f.value.value == length)
    elems = f.elems()
    return elems is not None and all(e == length for e in elems.flat)


class Recurrent(AxisRule):
    status, note = "conditions", "over time forward, all frames of a row; over other axes in any direction"

    def infer(self, n: NodeView) -> list[WireFact]:
        x, r = n.shape(0), n.shape(2)
        if len(x) != 3 or len(r) != 3:
            n.refuse(f"its input has {len(x)} axes and its recurrence weights {len(r)}, both must have 3")
        direction = n.attr("direction", "forward")
        if direction not in ("forward", "reverse", "bidirectional"):
            n.refuse(f"its direction {direction!r} is none of forward, reverse, bidirectional")
        hidden = n.attr("hidden_size", r[2])
        if r[2] != hidden or r[1] != GATES[n.op] * hidden:
            n.refuse(f"its hidden size is {hidden}, and its recurrence weights are {r[1]} by {r[2]}")
        for length in x[:2]:
            # Runtimes have no answer, or none at all, to a sequence of no frames.
            if not n.assume.ge(length, 1, n.name):
                n.refuse("it never has a frame to read")
        d = 2 if direction == "bidirectional" else 1
        frames, rows = (x[1], x[0]) if n.attr("layout", 0) else (x[0], x[1])
        y: tuple[DimLike, ...] = (frames, d, rows, hidden)
        last: tuple[DimLike, ...] = (d, rows, hidden)
        if n.attr("layout", 0):
            y, last = (rows, frames, d, hidden), (rows, d, hidden)
        dtype = n.fact(0).dtype
        for k in (H0, C0):
            f = n.optional(k)
            if f is not None and f.shape is not None and f.shape != last:
                n.refuse(
                    f"its initial state {n.wires[k]!r} is {_show(f.shape)}, and its state {_show(last)}",
                    input=k,
                    hint="give the batch axes of the model's inputs one name, or fix them",
                )
        shapes = [y, last, last]
        return [WireFact(dtype, s) for s in shapes[: len(n.node.outputs)]]

    def axes(self, n: NodeView) -> AxisMap:
        """Time in the batch: rows are independent."""
        at = 0 if n.attr("layout", 0) else 1
        given = ((0, at), (LENS, 0), (H0, at), (C0, at))
        rows = tuple((k, a) for k, a in given if n.optional(k) is not None)
        last: list[tuple[tuple[int, int], ...]] = [(), rows, ()] if at else [rows, (), ()]
        return [[(), (), rows, ()] if at else [rows, (), (), ()], last, last][: len(n.outputs)]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        if k == 0 and axis == 2:
            return "it mixes all features of a frame, and time is the feature axis"
        return f"its input {n.wires[k]!r} changes with time"

    def plan(self, n: NodeView) -> Plan:
        time = n.attr("layout", 0)
        if time not in n.streaming(0):
            return axis_plan(self, n)
        if n.streaming(0) != (time,):
            n.refuse("it has time on its sequence axis and on another", axis=time)
        direction = n.attr("direction", "forward")
        if direction != "forward":
            n.refuse(
                "it runs backwards from the end of the stream"
                if direction == "reverse"
                else "one of its two directions runs backwards from the end of the stream",
                axis=time,
                hint="train a forward model, or one whose backward part sees a bounded window of frames",
            )
        for k in range(1, len(n.inputs)):
            for a in n.streaming(k):
                n.refuse(self.consumed(n, k, a), axis=a, input=k)
        if n.optional(LENS) is not None:
            n.refuse(
                f"its sequence lengths {n.wires[LENS]!r} are not known to be the length of the stream, {n.shape(0)[time]}",
                axis=time,
                hint="leave sequence_lens out: the pulsed model is told of the end of each stream by valid_frames",
            )
        ends = any(v.uses() or v.is_graph_output() for v in n.node.outputs[1:])
        need = (Need(0, time),)
        return Plan(
            (Stream(0, time, need),), kind="custom", lower=lambda low: _lower(low, ends), ends=ends, memory=True,
            consumes=need if ends else (),
        )  # fmt: skip


def _show(shape: tuple[DimLike, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _zero(f: WireFact) -> bool:
    if isinstance(f.value, (Fill, Elems)):
        values = [f.value.value] if isinstance(f.value, Fill) else list(f.value.array.flat)
        return all(v == 0 for v in values)
    array = f.array()
    return array is not None and not np.any(array)


def _lower(low: Any, ends: bool) -> list[ir.Value]:
    """One pulse. Inside, frames come before rows (layout 0)."""
    layout = low.node.attributes.get_int("layout", 0)
    inputs = [*low.inputs, *(None,) * (8 - len(low.inputs))]
    x, r, dtype = low.facts[0].shape, low.facts[2].shape, low.facts[0].dtype
    rows = x[0 if layout else 1]
    if layout:
        for k in (0, H0, C0):
            inputs[k] = None if inputs[k] is None else low.op("Transpose", [inputs[k]], "swapped", perm=[1, 0, 2])
    shape = (1, rows, r[2])
    roles = ("h", "c")[: 2 if low.node.op_type == "LSTM" else 1]
    pasts = [low.state(role, shape, dtype, "recurrent") for role in roles]
    olds = []
    for k, past in zip((H0, C0), pasts, strict=False):
        f = low.facts[k] if k < len(low.facts) else None
        if f is None or _zero(f):
            olds.append(past)
        else:
            started = low.started(3, low.batch_axis(shape))
            olds.append(low.op("Where", [started, past, inputs[k]], "initial"))
    y, news = _run(low, inputs, olds, layout, rows, ends)
    for past, new in zip(pasts, news, strict=True):
        low.store(past, new)
    if layout:
        swapped = [low.op("Transpose", [new], "rows", perm=[1, 0, 2]) for new in news]
        return [low.op("Transpose", [y], "rows", perm=[2, 0, 1, 3]), *swapped]
    return [y, *news]


def _run(
    low: Any, inputs: list[Any], olds: list[ir.Value], time: int, rows: DimLike, ends: bool
) -> tuple[ir.Value, list[ir.Value]]:
    """Y and the states after the real frames of a pulse."""
    late = low.must_begin(0, time)
    n = low.frames(0, time)
    if not late and not ends:
        y, *news = _op(low, inputs, None, olds)
        return y, news
    first = low.bound(0, time, end=False) if late else None
    last = low.bound(0, time, end=True) if ends else None
    lens = _lens(low, inputs[0], first, last, n)
    if isinstance(rows, int) and rows > 1:
        lens, last = (
            None if v is None else low.shared(("rows", v, rows), lambda v=v: low.op("Expand", [v, low.const([rows])], "rows"))
            for v in (lens, last)
        )
    steps = low.shared(("steps", lens), lambda: low.op("Cast", [lens], "steps", to=ir.DataType.INT32))
    if first is None or n == 1:
        y, *news = _op(low, inputs, steps, olds)
    else:
        x = _backwards(low, inputs[0], last)
        y, *news = _op(low, [x, *inputs[1:]], steps, olds, direction="reverse")
        if low.node.outputs[0].uses() or low.node.outputs[0].is_graph_output():
            y = _backwards(low, y, last, squeeze=True)
    if last is not None or not isinstance(n, int) or low.delay(0, time) >= n:
        some = low.shared(("some", lens), lambda: _some(low, lens))
        news = [low.op("Where", [some, new, old], "next") for new, old in zip(news, olds, strict=True)]
    return y, news


def _lens(low: Any, x: Any, first: Any, last: Any, n: DimLike) -> Any:
    """How many frames of a pulse are real, per row."""
    if first is None:
        return last

    def make() -> Any:
        size = last
        if size is None:
            size = low.const([n]) if isinstance(n, int) else low.op("Shape", [x], "frames", start=0, end=1)
        lens = low.op("Sub", [size, first], "lens")
        return lens if last is None else low.op("Max", [lens, low.const([0])], "lens")

    return low.shared(("lens", first, last, n), make)


def _some(low: Any, lens: Any) -> Any:
    """Which rows have a real frame, as a state is shaped."""
    return low.op("Unsqueeze", [low.op("Greater", [lens, low.const([0])], "some"), low.const([0, 2])], "some")


def _op(low: Any, inputs: list[Any], steps: ir.Value | None, olds: list[ir.Value], **attributes: Any) -> list[ir.Value]:
    """The operator with given lengths and initial states, all its outputs."""
    given = [*inputs[:LENS], steps, *olds, *inputs[H0 + len(olds) :]]
    while given[-1] is None:
        given.pop()
    return list(low.clone(given, 1 + len(olds), layout=None, **attributes))


def _backwards(low: Any, wire: Any, last: Any, squeeze: bool = False) -> Any:
    """Frames last-1 down to 0, then the rest, per row; all of them without ``last``. ``squeeze``: rows on axis 2."""
    if last is None:
        bounds = [low.const([v]) for v in (START, FIRST, 0, -1)]
        return low.op("Slice", [wire, *bounds], "flipped")
    if squeeze:
        wire = low.op("Squeeze", [wire, low.const([1])], "rows")
    wire = low.op("ReverseSequence", [wire, last], "turned", time_axis=0, batch_axis=1)
    if squeeze:
        wire = low.op("Unsqueeze", [wire, low.const([1])], "turned")
    return wire


class ReverseSequence(AxisRule):
    """``out[j, r] = in[lens[r]-1-j, r]`` for j < lens[r]; the rest stays."""

    status, note = "conditions", "not along time"

    def infer(self, n: NodeView) -> list[WireFact]:
        f = n.fact(0)
        return [WireFact(f.dtype, f.shape)]

    def axes(self, n: NodeView) -> AxisMap:
        time, batch = n.attr("time_axis", 0), n.attr("batch_axis", 1)
        axes = same_axes(len(n.shape(0)), (time,))
        axes[batch] = (*axes[batch], (1, 0))
        return [axes]

    def consumed(self, n: NodeView, k: int, axis: int) -> str:
        return "it reverses time, and a stream has no last frame to begin with"

    def hint(self, n: NodeView, k: int, axis: int) -> str:
        return "train a forward model"


register(Recurrent(), *GATES)
register(ReverseSequence(), "ReverseSequence")
