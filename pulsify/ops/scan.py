"""Scan: ``(h_{j+1}, y[j]) = body(h_j, x[j])`` for frames j of the scan inputs; finals ``h_L``.

Region transform over time: ``y [a, b) <- x [a, b)`` and everything before, one state per carried value. The operator
stays as it is and steps over one pulse; its final values are the next pulse's initial ones. What is no frame of the
stream must not move them: a mask is scanned along, and the body keeps a carried value where it says so::

    h' = Where(mask[j], body(h, x[j]), h)

for warm-up frames after a delay, and for frames after the end where a final value is read.

Loop over frames, as exporters write it, is a Scan (rewrites/loops_as_scans.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir

from pulsify.facts import Elems, Fill, Need, Plan, Stream, WireFact
from pulsify.ops._infer import infer_subgraph, timed
from pulsify.ops._rule import NodeView, Rule, register

#: Types of carried values that common runtimes can mask.
MASKED = {"FLOAT", "DOUBLE", "FLOAT16", "INT64", "INT32", "UINT8", "BOOL"}


@dataclass(frozen=True)
class Layout:
    """How many values are carried, and which axis each scan input and output steps along, and whether backwards."""

    carried: int
    in_axes: tuple[int, ...]
    out_axes: tuple[int, ...]
    backwards: bool


def layout(node: ir.Node, ranks: list[int], out_ranks: list[int]) -> Layout:
    """``ranks`` of the scan inputs, ``out_ranks`` of the stacked outputs."""
    a = node.attributes
    ins, outs = len(ranks), len(out_ranks)

    def many(name: str, count: int) -> list[int]:
        return list(a.get_ints(name, [])) or [0] * count

    in_axes = tuple(x % r for x, r in zip(many("scan_input_axes", ins), ranks, strict=True))
    out_axes = tuple(x % r for x, r in zip(many("scan_output_axes", outs), out_ranks, strict=True))
    backwards = any(many("scan_input_directions", ins) + many("scan_output_directions", outs))
    return Layout(len(node.inputs) - ins, in_axes, out_axes, backwards)


class Scan(Rule):
    status, note = "conditions", "forward over time, the body free of time; may start with frame 0 of a stream; not over another axis of a stream"

    def infer(self, n: NodeView) -> list[WireFact]:
        count = n.attr("num_scan_inputs")
        carried = len(n.inputs) - count
        xs = [n.shape(carried + k) for k in range(count)]
        body: ir.Graph = n.attr("body")
        lay = layout(n.node, [len(x) for x in xs], [1] * (len(body.outputs) - carried))
        steps = [x[a] for x, a in zip(xs, lay.in_axes, strict=True)]
        for s in steps[1:]:
            if s != steps[0] and not n.assume.eq(s, steps[0], n.name):
                n.refuse(f"it steps over {steps[0]} frames of one input and {s} of another")
        if not n.assume.ge(steps[0], 1, n.name):
            n.refuse("it never has a frame to read")
        first = [WireFact(n.fact(k).dtype, n.shape(k)) for k in range(carried)]
        frames = [
            WireFact(n.fact(carried + k).dtype, tuple(d for i, d in enumerate(x) if i != a))
            for k, (x, a) in enumerate(zip(xs, lay.in_axes, strict=True))
        ]
        made = infer_subgraph(n, body, [*first, *frames])
        for k, (old, new) in enumerate(zip(first, made, strict=False)):
            if new.shape != old.shape or new.dtype != old.dtype:
                n.refuse(f"its carried value {n.wires[k]!r} changes its shape from {_show(old)} to {_show(new)}", input=k)
        stacked = []
        for k, f in enumerate(made[carried:]):
            if f.shape is None:
                n.refuse(f"the rank of its scan output {k} is unknown")
            axes = n.attr("scan_output_axes") or (0,) * (len(made) - carried)
            axis = n.axis(axes[k], len(f.shape) + 1)
            stacked.append(WireFact(f.dtype, (*f.shape[:axis], steps[0], *f.shape[axis:])))
        return [*first, *stacked]

    def plan(self, n: NodeView) -> Plan:
        count = n.attr("num_scan_inputs")
        carried = len(n.inputs) - count
        lay = layout(n.node, [n.fact(carried + k).rank for k in range(count)], [f.rank for f in n.outputs[carried:]])
        for v, f in n.outer.items():
            if timed(f, n.symbol):
                n.refuse(f"its body reads {v.name!r}, which has time, from outside", hint="scan that input as well")
        for k in range(carried):
            if timed(n.fact(k), n.symbol):
                n.refuse(f"its carried value {n.wires[k]!r} has time", input=k, hint="carry values without time")
            if n.fact(k).dtype.name not in MASKED:
                n.refuse(f"its carried value {n.wires[k]!r} is {n.fact(k).dtype.name}, which cannot be masked", input=k)
        needs = tuple(Need(carried + k, a) for k, a in enumerate(lay.in_axes))
        for k, a in enumerate(lay.in_axes):
            if n.streaming(carried + k) != (a,):
                self._elsewhere(n, carried + k, a)
        if lay.backwards:
            n.refuse(
                "it runs backwards from the end of the stream", axis=lay.in_axes[0], hint="scan forwards", input=carried
            )
        ends = any(v.uses() or v.is_graph_output() for v in n.node.outputs[:carried])
        streams = tuple(Stream(carried + k, a, needs) for k, a in enumerate(lay.out_axes))
        return Plan(
            streams, kind="custom", lower=lambda low: _lower(low, lay, ends), ends=ends, memory=True,
            consumes=needs if ends or not streams else (),
        )  # fmt: skip

    def _elsewhere(self, n: NodeView, k: int, axis: int) -> NoReturn:
        if not n.streaming(k):
            n.refuse(f"its input {n.wires[k]!r} has {n.shape(k)[axis]} static frames beside a stream", input=k)
        n.refuse(
            f"it steps over axis {axis} of {n.wires[k]!r}, and time is inside its body",
            axis=n.streaming(k)[0],
            input=k,
            hint="unroll the steps over the other axis",
        )


def _show(f: WireFact) -> str:
    return f"{f.dtype.name} {'?' if f.shape is None else '[' + ', '.join(map(str, f.shape)) + ']'}"


def _zero(f: WireFact) -> bool:
    if isinstance(f.value, Fill):
        return bool(f.value.value == 0)
    if isinstance(f.value, Elems):
        return all(v == 0 for v in f.value.array.flat)
    array = f.array()
    return array is not None and not np.any(array)


def _lower(low: Any, lay: Layout, ends: bool) -> list[ir.Value]:
    pasts, olds = [], []
    for k in range(lay.carried):
        f = low.facts[k]
        past = low.state(f"carried_{k}", f.shape, f.dtype, "recurrent")
        old = past
        if not _zero(f):
            started = low.started(max(f.rank, 1), low.batch_axis(f.shape))
            old = low.op("Where", [started, past, low.inputs[k]], "initial")
            old = low.op("Squeeze", [old, low.const([0])], "initial") if f.rank == 0 else old
        pasts.append(past)
        olds.append(old)
    frames = list(low.inputs[lay.carried :])
    # The inputs arrive together: the latest of them sets the place.
    at = max(range(len(frames)), key=lambda k: low.delay(lay.carried + k, lay.in_axes[k]))
    late = low.must_begin(lay.carried + at, lay.in_axes[at])
    attributes: dict[str, Any] = {}
    if (late or ends) and lay.carried:
        axis = lay.in_axes[at]
        frames.append(low.valid(lay.carried + at, axis, start=late, end=ends))
        body = low.attributes()["body"].as_graph()
        _keep(low, body, lay.carried, low.facts[lay.carried + at].rank - 1)
        attributes = {
            "body": ir.AttrGraph("body", body),
            "num_scan_inputs": len(frames),
            "scan_input_axes": [*lay.in_axes, axis],
            "scan_input_directions": None,
        }
    outputs = low.clone([*olds, *frames], **attributes)
    for past, new in zip(pasts, outputs, strict=False):
        low.store(past, new)
    return list(outputs)


def _keep(low: Any, body: ir.Graph, carried: int, rank: int) -> None:
    """Give the body one more scan input: which rows have a frame. The others keep what they carry."""
    names = {v.name for v in (*body.inputs, *body.initializers.values())} | {v.name for n in body for v in n.outputs}

    def fresh(stem: str) -> str:
        name = stem
        while name in names:
            name += "_"
        names.add(name)
        return name

    mask = ir.Value(name=fresh("pulsify.real"), type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape([None] * rank))
    old = list(body.inputs[:carried])
    body.inputs.append(mask)
    for k in range(carried):
        f = low.facts[k]
        rows = low.batch_axis(f.shape)
        shape = np.array([-1 if a == rows else 1 for a in range(f.rank)], dtype=np.int64)
        target = ir.Value(name=fresh(f"pulsify.shape_{k}"), type=ir.TensorType(ir.DataType.INT64), const_value=ir.tensor(shape))
        target.shape = ir.Shape(shape.shape)
        body.register_initializer(target)
        per_row = ir.Node("", "Reshape", [mask, target], outputs=[ir.Value(name=fresh(f"pulsify.real_{k}"))])
        new = ir.Value(name=fresh(f"pulsify.next_{k}"), type=ir.TensorType(f.dtype))
        keep = ir.Node("", "Where", [per_row.outputs[0], body.outputs[k], old[k]], outputs=[new])
        body.extend([per_row, keep])
        body.outputs[k] = new




class Loop(Rule):
    """What is left of loops once those over frames are scans."""

    status, note = "conditions", "once per frame, reading frame i of streams; carried values without time"

    def infer(self, n: NodeView) -> list[WireFact]:
        self._refuse(n)

    def plan(self, n: NodeView) -> Plan:
        self._refuse(n)

    def _refuse(self, n: NodeView) -> NoReturn:
        timely = ", ".join(repr(v.name) for v, f in n.outer.items() if timed(f, n.symbol))
        n.refuse(
            "it is not a loop over frames that reads frame i in step i"
            + (f": its body reads {timely} otherwise, or its number of steps differs" if timely else ""),
            hint="export the loop as Scan, or as LSTM, GRU or RNN",
        )


register(Scan(), "Scan")
register(Loop(), "Loop")
