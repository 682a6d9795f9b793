"""pulse-v2-to-type: type the pulsed graph on its own, one pulse on every wire.

Promise: the shape laws, run on what a pulse holds, give exactly what the regions say. A region transform that was
wrong about its operator, or a length that is still baked in, is found here.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.assume import Assumptions
from pulsify.dim import DimLike, substitute, sym
from pulsify.errors import InternalError
from pulsify.facts import WireFact
from pulsify.graph import Graph
from pulsify.ops._infer import infer_node

__all__ = ["pulse_v2_to_type"]

#: A dynamic pulse is ``pulse_multiple`` times this.
UNIT = "pulses"


def pulse_v2_to_type(g: Graph) -> Graph:
    """Fill ``g.chunks``."""
    assert g.pulse is not None
    shadow = Graph(g.model, UNIT, Assumptions(UNIT))
    for v in (*g.graph.inputs, *g.graph.initializers.values()):
        f = g.facts[v]
        shadow.facts[v] = WireFact(f.dtype, _expected(g, v), const=f.const)
    for node in g.graph:
        infer_node(shadow, node)
        for v in node.outputs:
            want, got = _expected(g, v), shadow.facts[v].shape
            if got is not None:
                got = tuple(_pulses(g, d) for d in got)
            if want is not None and got != want:
                raise InternalError(
                    f"the pulsed shape of {node.op_type} node {node.name!r} is inconsistent",
                    why=f"its region says {v.name} is {_show(want)} per pulse, its shape law {_show(got)}",
                    hint="please report this with the model",
                )
            shadow.facts[v] = WireFact(shadow.facts[v].dtype, want or got, shadow.facts[v].value)
    shadow.assume.settle()
    if shadow.assume.modulus > 1:
        odd = next(c for c in shadow.assume.conditions if c.modulus > 1)
        raise InternalError(f"node {odd.node!r} does not hold for every pulse", why=f"it needs {odd.text}")
    if shadow.assume.least > 1:
        worst = max(shadow.assume.conditions, key=lambda c: c.least)
        raise InternalError(
            f"node {worst.node!r} does not hold for the smallest pulse",
            why=f"{worst.text} holds from {worst.least} times {g.pulse_multiple} frames on",
        )
    for v, f in shadow.facts.items():
        if g.facts[v].dtype == ir.DataType.UNDEFINED:
            g.facts[v] = WireFact(f.dtype, None)
    g.chunks = {v: f.shape for v, f in shadow.facts.items() if f.shape is not None}
    return g


def _pulses(g: Graph, d: DimLike) -> DimLike:
    assert g.pulse is not None
    if isinstance(g.pulse.size, str):
        return substitute(d, g.pulse.size, sym(UNIT) * g.pulse_multiple)
    return d


def _expected(g: Graph, v: object) -> tuple[DimLike, ...] | None:
    shape = g.facts[v].shape  # type: ignore[index]
    if shape is None:
        return None
    regions = g.regions.get(v, {})  # type: ignore[call-overload]
    return tuple(_pulses(g, g.frames(regions[a])) if a in regions else d for a, d in enumerate(shape))


def _show(shape: tuple[DimLike, ...] | None) -> str:
    return "of unknown rank" if shape is None else f"[{', '.join(map(str, shape))}]"
