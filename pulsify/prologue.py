"""The frames a negative delay announces: their values, known when converting.

A wire of delay d < 0 never sends its frames ``[0, -d)``. They come from padding alone, so they are the node run on
the padding: ``prologue(out) = node(prologue(in_0), ...)``. A buffer that reads them starts with them; where they are
all zero (the usual padding) that is free, because every state starts as zeros.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.facts import Plan, Stream, Window, WireFact
from pulsify.graph import Graph
from pulsify.rewrites.fold_constants import evaluate_node

__all__ = ["Prologues"]

#: Largest prologue evaluated when converting, in elements.
_LARGEST = 1 << 22


class Prologues:
    """Per wire, the frames it never sends: time on the wire's own time axis, 1 for every symbolic dimension."""

    def __init__(self) -> None:
        self._frames: dict[ir.Value, np.ndarray] = {}

    def get(self, value: ir.Value) -> np.ndarray | None:
        """The frames, or None where they are all zero (or there are none)."""
        frames = self._frames.get(value)
        return frames if frames is not None and frames.any() else None

    def extend(self, g: Graph, node: ir.Node, plan: Plan, stream: Stream, delay: int) -> bool:
        """Compute the frames ``[0, -delay)`` of an output. False where that needs what only running tells."""
        out = node.outputs[stream.output]
        fact = g.facts[out]
        if len(fact.time_axes(g.symbol)) != 1:
            return False
        if plan.kind == "pad":
            frames = self._pad(g, node, plan, stream, -delay)
        else:
            frames = self._evaluate(g, node, plan, stream, -delay)
        if frames is None:
            return False
        self._frames[out] = frames
        return True

    def _pad(self, g: Graph, node: ir.Node, plan: Plan, stream: Stream, count: int) -> np.ndarray | None:
        source = node.inputs[0]
        assert source is not None and plan.pad is not None
        fact = g.facts[node.outputs[0]]
        if plan.pad[0] != stream.axis:
            return None
        head = np.full(_shape(fact, stream.axis, min(plan.pad[1], count)), plan.pad_value, dtype=fact.dtype.numpy())
        inner = self._frames.get(source)
        if inner is not None:
            head = np.concatenate([head, inner.astype(head.dtype)], axis=stream.axis)
        return _take(head, stream.axis, count)

    def _evaluate(self, g: Graph, node: ir.Node, plan: Plan, stream: Stream, count: int) -> np.ndarray | None:
        arrays: list[np.ndarray | None] = []
        needs = {need.input: need for need in stream.needs}
        for k, value in enumerate(node.inputs):
            fact = g.fact(value)
            if value is None or fact is None:
                arrays.append(None)
            elif k in needs:
                w: Window = needs[k].window
                have = self._frames.get(value)
                # Frames [s*0 - b, s*(count-1) - b + span), b <= 0 for every operator that is not a Pad.
                last = w.stride * (-(-count // w.up) - 1) - w.before + w.span
                if have is None or w.before > 0 or have.shape[needs[k].axis] < last or have.size > _LARGEST:
                    return None
                cut = _take(have, needs[k].axis, last)
                arrays.append(np.take(cut, range(-w.before, last), axis=needs[k].axis))
            elif fact.const is not None:
                arrays.append(fact.array())
            elif plan.dims is not None and k == plan.dims[0]:
                arrays.append(np.asarray(_shape(g.facts[node.outputs[0]], stream.axis, count), dtype=np.int64))
            else:
                return None
        if plan.kind == "slice":
            return arrays[0]
        if plan.evaluate is not None:
            made = np.asarray(plan.evaluate(arrays)[stream.output])
            return made if made.shape[stream.axis] == count else None
        if plan.kind != "op":
            return None
        got = evaluate_node(node, arrays, g.graph.opset_imports)
        if got is None or got[stream.output].shape[stream.axis] != count:
            return None
        return got[stream.output]


def _shape(fact: WireFact, axis: int, count: int) -> tuple[int, ...]:
    return tuple(count if a == axis else d if isinstance(d, int) else 1 for a, d in enumerate(fact.shape or ()))


def _take(frames: np.ndarray, axis: int, count: int) -> np.ndarray:
    return np.take(frames, range(min(count, frames.shape[axis])), axis=axis)
