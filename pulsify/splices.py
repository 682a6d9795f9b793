"""How much history of its source a reader of a spliced wire asks for."""

from __future__ import annotations

import onnx_ir as ir

from pulsify.dim import DimLike, law
from pulsify.facts import UNIT, Window
from pulsify.graph import Graph
from pulsify.schedule import Point, Schedule

__all__ = ["history"]


def history(g: Graph, s: Schedule, point: Point, w: Window = UNIT, node: ir.Node | None = None) -> int:
    """How far behind source frame f the windows ``w`` that begin with frame f of a spliced wire read: ``Splice.behind``, for
    as many frames past the stream as anything depends on. ``node`` reads them straight from the source; None: whoever
    reads the wire frame by frame.
    """
    splice = s.splices[point].splice
    producer = point[0].producer()
    assert producer is not None
    (source,) = (producer.inputs[need.input] for stream in s.plans[producer].streams for need in stream.needs)
    assert source is not None
    past = g.length(source, point[1]) + splice.before
    after = _most(splice.after, g.symbol, 0)
    if node is None:
        ends = [s.demand[point].high] if point in s.demand else []
    else:
        outs = [
            (node.outputs[stream.output], stream.axis)
            for stream in s.plans[node].streams
            if any((node.inputs[n.input], n.axis, n.window) == (*point, w) for n in stream.needs)
        ]
        ends = [w.end(s.demand[out].high) for out in outs if out in s.demand]
    return splice.behind(w.span, max((min(after, _most(end - past, g.symbol, after)) for end in ends), default=after))


def _most(d: DimLike, symbol: str, unknown: int) -> int:
    """The most that a length is, at least 0; ``unknown`` where it grows with the stream."""
    form = law(d, symbol)
    return max(0, *(int(t) for t in form.table)) if form is not None and form.A == 0 else unknown
