"""Wires in row form remember in one state: ``past [R, C]`` holds the history of every wire of C channels, one after the other.

A wire x of n frames per pulse with a history of H frames has the rows ``[at, at + H)``. What its readers need of it is
read for all wires at once, in front of everything else, and what is to be remembered is written at once behind it:

    past' = take(concat(past, x_1, x_2, ...), the last H_i rows of [past_i; x_i] for each i)

A window whose taps are each wholly past or wholly present (``P <= dilation``) is ``concat(past taps, x)``; any other is
taken from ``concat(past_i, x)``. Two nodes per wire at most are left of what was a Concat, Slices and a gathering of
windows. Bytes are those of the single buffers. A wire that is alone with more history than a pulse is joined with it once, for
its windows and for what is remembered; one or two wires of one window per pulse remember rows (_window_memory.py).

A long history is not moved at every pulse: its rows are rings. After T pulses, frame ``n*T - H + r`` of x is in row
``at + (n*T + r) mod H``, and so is, for what is written, frame ``n*T + r``. T is a counter of the model's, not of a row of
a batch, so models with a batch move theirs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from pulsify.graph import DOMAIN, Graph, StateSlot, sort
from pulsify.rewrites._memory import Memory, Reader, Source
from pulsify.rewrites._rings import Ring
from pulsify.rewrites._row_windows import take
from pulsify.rewrites._rows import Rows, RowView, row_view
from pulsify.rewrites._wide_rows import widened
from pulsify.rewrites._window_memory import is_window, remember

__all__ = ["apply", "without_rings"]

#: Bytes from which on a history is kept in rings.
_RING = 262144

#: So many windows cost less each with a history of its own than with one for all.
_APART = 2


def apply(g: Graph) -> int:
    return _share(g, rings=True)


def without_rings(g: Graph) -> int:
    """The same, every history moved at every pulse: no counter."""
    return _share(g, rings=False)


def _share(g: Graph, rings: bool) -> int:
    if g.pulse is None or not isinstance(g.pulse.size, int):
        return 0
    rows = Rows(g)
    groups = _groups(rows)
    used = {n.name for n in g.graph}
    shared: dict[str, ir.Value] = {}
    for (channels, *_), sources in groups.items():
        size = sum(s.history for s in sources) * channels * sources[0].slot.state.dtype.itemsize
        if rings and g.batch is None and size >= _RING:
            Ring(rows, sources, channels, used, shared).run()
        elif len(sources) <= _APART and all(map(is_window, sources)):
            for source in sources:
                remember(rows, source)
        else:
            Memory(rows, sources, channels, used, shared).run()
    for node in list(g.graph):
        if node.domain == DOMAIN and node.op_type == "Taps":
            _alone(rows, node)
    sort(g.graph)
    return sum(map(len, groups.values()))


def _groups(rows: Rows) -> dict[tuple[int, ir.DataType, bool], list[Source]]:
    """The wires in row form that have a history, those that may share a state together."""
    g = rows.g
    groups: dict[tuple[int, ir.DataType, bool], list[Source]] = {}
    for node in list(g.graph):
        if node.domain == DOMAIN and node.op_type == "Delay" and _plain(node) and node.inputs[0] is not None:
            view, before = _with_channel(row_view(g, node.inputs[0])), node.inputs[0].producer()
            # A history of a history reads what another one gives: it stays by itself.
            chained = before is not None and before.domain == DOMAIN and before.op_type == "Delay"
            if view is not None and view.plain and not chained:
                source = widened(rows, _source(node, view, rows.slots[node.name or ""]))
                state = source.slot.state
                groups.setdefault((source.view.channels, state.dtype, state.zeros_read), []).append(source)
    return groups


def _with_channel(view: RowView | None) -> RowView | None:
    """A last axis of length 1 holds the only channel."""
    if view is None or view.channel is not None or (view.rank, view.time) != (view.axis + 2, view.axis):
        return view
    return replace(view, channel=view.axis + 1)


def _plain(node: ir.Node) -> bool:
    """Whether a history begins with zeros and moves on with every pulse."""
    return "init" not in node.attributes and "last" not in node.attributes and len(node.inputs) == 1


def _source(node: ir.Node, view: RowView, slot: StateSlot) -> Source:
    wire = node.inputs[0]
    assert wire is not None
    source = Source(wire, view, node, slot)
    a = node.attributes
    for delay, overlap, out in zip(a.get_ints("delay"), a.get_ints("overlap"), node.outputs):
        first = -(delay + overlap)
        others = out.is_graph_output()
        for user, _ in out.uses():
            if user.domain == DOMAIN and user.op_type == "Taps":
                source.readers.append(Reader(first + _windows(user), user.outputs[0]))
            else:
                others = True
        if others:
            frames = np.arange(first, view.frames - delay).reshape(-1, 1)
            source.readers.append(Reader(frames, out))
    return source


def _windows(taps: ir.Node) -> np.ndarray:
    """Frames that a Taps reads, counted from the first of its input: ``[F, K]``."""
    a = taps.attributes
    return a.get_int("step") * np.arange(a.get_int("frames"))[:, None] + a.get_int("dilation") * np.arange(a.get_int("taps"))


def _alone(rows: Rows, node: ir.Node) -> None:
    """Windows over a wire that remembers nothing, or in a way of its own."""
    x = node.inputs[0]
    view = row_view(rows.g, x)
    assert x is not None and view is not None
    made = take(rows, x, view, _windows(node), node.outputs[0].name or "taps")
    rows.replace(node.outputs[0], made)
    rows.g.graph.remove(node, safe=True)
