"""Families of operators a random graph is grown from. Each takes a wire and returns one; a family knows its shapes.

A wire is ``Wire(name, shape, time)``, shapes static besides time and batch; its length is not tracked: the compiler
infers it, and wires are merged only where :func:`lengths` (an independent count of lost frames) says they agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from tests.contexts import cut, pad
from tests.graphs import G

__all__ = ["ENDS", "FAMILIES", "MEMORIES", "Family", "Wire", "align", "head", "start"]


@dataclass(frozen=True)
class Wire:
    """``shape`` holds "T" on the time axis; ``extra`` frames more than the stream (negative: fewer), divided by
    ``stride`` first."""

    name: str
    shape: tuple[Any, ...]
    time: int
    extra: int = 0

    def at(self, name: str, extra: int = 0) -> Wire:
        return replace(self, name=name, extra=self.extra + extra)


Family = Callable[[st.DataObject, G, Wire], Wire]


def start(g: G, name: str, batch: Any, channels: int) -> Wire:
    return Wire(g.input(name, [batch, channels, "S"]), (batch, channels, "T"), 2)


def _channels_first(g: G, w: Wire) -> Wire:
    if w.time == 2 and len(w.shape) == 3:
        return w
    other = next(a for a in range(1, 3) if a != w.time)
    return Wire(g("Transpose", w.name, perm=[0, other, w.time]), (w.shape[0], w.shape[other], "T"), 2, w.extra)


def conv(data: st.DataObject, g: G, w: Wire) -> Wire:
    w = _channels_first(g, w)
    k, d = data.draw(st.integers(1, 4), "kernel"), data.draw(st.integers(1, 3), "dilation")
    reach = (k - 1) * d
    style = data.draw(st.sampled_from(["valid", "causal", "same", "any"]), "padding")
    before, after = {
        "valid": (0, 0), "causal": (reach, 0), "same": (reach // 2, reach - reach // 2),
        "any": (data.draw(st.integers(0, reach + 1)), data.draw(st.integers(0, reach + 1))),
    }[style]  # fmt: skip
    channels = w.shape[1]
    group = channels if data.draw(st.booleans(), "depthwise") else 1
    weight = g.weight(channels, channels // group, k)
    y = g("Conv", w.name, weight, g.weight(channels), dilations=[d], pads=[before, after], group=group)
    return w.at(y, before + after - reach)


def padding(data: st.DataObject, g: G, w: Wire) -> Wire:
    before, after = data.draw(st.integers(-2, 3), "before"), data.draw(st.integers(-2, 3), "after")
    value = data.draw(st.sampled_from([0.0, 0.0, 1.5]), "value")
    return w.at(pad(g, w.name, w.time, len(w.shape), before, after, value), before + after)


def slicing(data: st.DataObject, g: G, w: Wire) -> Wire:
    first, last = data.draw(st.integers(0, 3), "start"), data.draw(st.integers(0, 3), "end")
    return w.at(cut(g, w.name, w.time, first, last), -first - last)


def unary(data: st.DataObject, g: G, w: Wire) -> Wire:
    return w.at(g(data.draw(st.sampled_from(["Tanh", "Elu", "Sigmoid", "Abs", "Neg", "Softplus", "Exp"])), g("Tanh", w.name)))


def scale(data: st.DataObject, g: G, w: Wire) -> Wire:
    op = data.draw(st.sampled_from(["Add", "Mul", "Sub"]))
    rows = [1 if a == w.time or a == 0 or not isinstance(d, int) else d for a, d in enumerate(w.shape)]
    other = g.weight(*rows) if data.draw(st.booleans()) else g.const(np.float32(0.75))
    return w.at(g(op, other, w.name) if data.draw(st.booleans()) else g(op, w.name, other))


def swap(data: st.DataObject, g: G, w: Wire) -> Wire:
    """Time and channels change places."""
    shape = (w.shape[0], w.shape[2], w.shape[1])
    return Wire(g("Transpose", w.name, perm=[0, 2, 1]), shape, 3 - w.time, w.extra)


def gate(data: st.DataObject, g: G, w: Wire) -> Wire:
    """``x * mean over channels``: a reduction and a broadcast."""
    axis = 3 - w.time
    y = g(data.draw(st.sampled_from(["ReduceMean", "ReduceMax"])), w.name, g.ints(axis))
    return w.at(g("Mul", w.name, g("Sigmoid", y)))


def norm(data: st.DataObject, g: G, w: Wire) -> Wire:
    return w.at(g("Softmax", w.name, axis=3 - w.time))


def halves(data: st.DataObject, g: G, w: Wire) -> Wire:
    """Split the channels, treat the halves differently, join them."""
    axis, channels = 3 - w.time, w.shape[3 - w.time]
    if channels % 2:
        return w
    a, b = g("Split", w.name, n=2, axis=axis, num_outputs=2)
    lost = data.draw(st.integers(0, 2), "lost")
    half = replace(w, shape=tuple(channels // 2 if i == axis else d for i, d in enumerate(w.shape)))
    first = cut(g, a, w.time, lost)
    second = cut(g, g("Tanh", b), w.time, 0, lost) if lost else b
    return w.at(g("Concat", first, second, axis=axis), -lost) if half else w


def residual(data: st.DataObject, g: G, w: Wire) -> Wire:
    """A branch of one or two families around the wire, aligned and merged."""
    inner = w
    for _ in range(data.draw(st.integers(1, 2), "depth")):
        inner = data.draw(st.sampled_from([conv, unary, padding, slicing]), "branch")(data, g, inner)
    return align(data, g, inner, w)


def align(data: st.DataObject, g: G, a: Wire, b: Wire) -> Wire:
    """Merge two wires of any length, the longer cut at either end."""
    if a.time != b.time:
        b = swap(data, g, b)
    if a.extra < b.extra:
        a, b = b, a
    lost = a.extra - b.extra
    front = data.draw(st.integers(0, lost), "front")
    name = cut(g, a.name, a.time, front, lost - front) if lost else a.name
    return b.at(g(data.draw(st.sampled_from(["Add", "Mul"]), "merge"), name, b.name))


def recurrent(data: st.DataObject, g: G, w: Wire) -> Wire:
    """A recurrence over time, as wide as the wire."""
    op, gates = data.draw(st.sampled_from([("GRU", 3), ("LSTM", 4), ("RNN", 1)]), "recurrence")
    n = w.shape[3 - w.time]
    x = g("Transpose", w.name, perm=[w.time, 0, 3 - w.time])
    y = g(op, x, *(g.weight(1, gates * n, n) for _ in range(2)), g.weight(1, 2 * gates * n), hidden_size=n)
    return w.at(g("Transpose", g("Squeeze", y, g.ints(1)), perm=[1, 0, 2] if w.time == 1 else [1, 2, 0]))


def pool(data: st.DataObject, g: G, w: Wire) -> Wire:
    w = _channels_first(g, w)
    k = data.draw(st.integers(1, 4), "kernel")
    before, after = data.draw(st.integers(0, k - 1), "before"), data.draw(st.integers(0, k - 1), "after")
    op = data.draw(st.sampled_from(["MaxPool", "AveragePool"]), "pool")
    more = {"count_include_pad": data.draw(st.integers(0, 1), "count")} if op == "AveragePool" else {}
    return w.at(g(op, w.name, kernel_shape=[k], pads=[before, after], **more), before + after - k + 1)


def edges(data: st.DataObject, g: G, w: Wire) -> Wire:
    """The first and last frames repeated or mirrored."""
    before, after = data.draw(st.integers(0, 2), "before"), data.draw(st.integers(0, 2), "after")
    amounts = [0] * 6
    amounts[w.time], amounts[w.time + 3] = before, after
    mode = data.draw(st.sampled_from(["edge", "reflect"]), "mode")
    return w.at(g("Pad", w.name, g.ints(*amounts), mode=mode), before + after)


def sums(data: st.DataObject, g: G, w: Wire) -> Wire:
    x = g("Mul", w.name, g.const(np.float32(0.05)))
    y = g("CumSum", x, g.const(w.time, np.int64), exclusive=data.draw(st.integers(0, 1), "exclusive"))
    return w.at(g("Tanh", y))


def position(data: st.DataObject, g: G, w: Wire) -> Wire:
    """A sine of the frame's own index, added."""
    length = g("Gather", g("Shape", w.name), g.const(w.time, np.int64))
    index = g("Range", g.const(0, np.int64), length, g.const(1, np.int64))
    wave = g("Sin", g("Mul", g("Cast", index, to=1), g.const(np.float32(0.3))))
    return w.at(g("Add", w.name, g("Unsqueeze", wave, g.ints(0, 3 - w.time))))


def head(data: st.DataObject, g: G, w: Wire) -> str:
    """A summary of the whole stream behind a static layer."""
    op = data.draw(st.sampled_from(["ReduceMean", "ReduceMax", "ReduceSumSquare"]), "summary")
    y = g(op, g("Tanh", w.name), g.ints(w.time), keepdims=0)
    return g("MatMul", y, g.weight(w.shape[3 - w.time], 2))


#: Families that remember; padding in front of one costs the delay it could have taken back.
MEMORIES: dict[str, Family] = {"recurrent": recurrent, "sums": sums}

#: Families whose delay may be more than the least where they follow each other.
ENDS: dict[str, Family] = {"pool": pool, "edges": edges, "position": position}

FAMILIES: dict[str, Family] = {
    "conv": conv, "padding": padding, "slicing": slicing, "unary": unary, "scale": scale, "swap": swap, "gate": gate,
    "norm": norm, "halves": halves, "residual": residual,
}  # fmt: skip
