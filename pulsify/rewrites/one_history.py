"""One history for a wire and a function of it: ``delay(f(x)) = f(delay(x))``.

A residual layer that acts on ``f(x)`` and looks ahead remembers x, for the connection that waits, and f(x), for its windows.
Where ``f(0) = 0``, so that zeros of f(x) are zeros of x, and masks of zeros are, the longer of the two is all there need be: f is
evaluated again on what is remembered, a few frames more per pulse. A state, its Concat and half of the bytes are saved: of a
HiFi-GAN's layers, all.

For speed, wires in row form keep their own: where all of a window is either past or present, nothing needs to be joined there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

import onnx_ir as ir

from pulsify.dim import parse
from pulsify.graph import DOMAIN, Graph, sort, tensor
from pulsify.rewrites._rows import Rows

__all__ = ["always", "where_it_pays"]

#: Functions of one wire that are 0 at 0.
_ROOTED = frozenset(
    """Abs Celu Elu Erf Gelu HardSwish LeakyRelu Mish Neg Relu Selu Sign Sin Softsign Swish Tanh
    ThresholdedRelu""".split()  # noqa: SIM905
)

#: Numbers per pulse that are made in the time of a node.
_NUMBERS = 2048


def where_it_pays(g: Graph) -> int:
    """Where evaluating the function again takes no longer than the nodes that are saved."""
    return _share(g, _NUMBERS)


def always(g: Graph) -> int:
    """For the bytes, whatever it takes."""
    return _share(g, None)


@dataclass(frozen=True, slots=True)
class _Pair:
    """``late`` remembers x; ``windows`` remembers ``f(x)``, or that masked."""

    late: ir.Node
    windows: ir.Node
    function: ir.Node
    mask: ir.Node | None


def _share(g: Graph, most: int | None) -> int:
    if g.pulse is None or not isinstance(g.pulse.size, int):
        return 0
    rows, count = Rows(g), 0
    for node in list(g.graph):
        if node.graph is not None and _moves(node) and (pair := _pair(g, node, most)) is not None:
            _merge(rows, pair)
            count += 1
    if count:
        sort(g.graph)
    return count


def _moves(node: ir.Node) -> bool:
    """Whether a node is a history that begins with zeros and moves on with every pulse, read as frames."""
    if node.domain != DOMAIN or node.op_type != "Delay" or len(node.inputs) != 1 or set(node.attributes) != {"axis", "delay", "overlap"}:
        return False
    return all(not (user.domain == DOMAIN and user.op_type == "Taps") for v in node.outputs for user, _ in v.uses())


def _pair(g: Graph, windows: ir.Node, most: int | None) -> _Pair | None:
    wire, mask = windows.inputs[0], None
    node = None if wire is None or not _alone(wire) else wire.producer()
    if node is not None and node.domain == DOMAIN and node.op_type == "Mask" and not tensor(node, "value").numpy().any():
        mask, wire = node, node.inputs[0]
        node = None if wire is None or not _alone(wire) else wire.producer()
    if node is None or node.domain or node.op_type not in _ROOTED or node.inputs[0] is None:
        return None
    axis = windows.attributes.get_int("axis")
    if mask is not None and not _masks_all_others(g, mask, node.inputs[0], axis):
        return None
    others = [user for user, _ in node.inputs[0].uses() if _moves(user) and user.attributes.get_int("axis") == axis]
    if len(others) != 1 or g.facts[node.inputs[0]].dtype != g.facts[node.outputs[0]].dtype:
        return None
    if most is not None:
        made = [_numbers(g, v) for v in windows.outputs]
        if len(made) > 2 or sum(made) - _numbers(g, windows.inputs[0]) > most:
            return None
    return _Pair(others[0], windows, node, mask)


def _masks_all_others(g: Graph, mask: ir.Node, x: ir.Value, axis: int) -> bool:
    """Whether a mask leaves every frame of a wire: of a part that was cut out it leaves fewer."""
    region, fact, a = g.regions.get(x, {}).get(axis), g.facts[x], mask.attributes
    if region is None or fact.shape is None:
        return False
    return a.get_int("delay") == region.delay and parse(a.get_string("length")) == fact.shape[axis]


def _alone(v: ir.Value) -> bool:
    return len(v.uses()) == 1 and not v.is_graph_output()


def _numbers(g: Graph, v: ir.Value | None) -> float:
    shape = g.chunks.get(v) if v is not None else None
    return float("inf") if shape is None else prod(d for d in shape if isinstance(d, int))


def _merge(rows: Rows, pair: _Pair) -> None:
    g, x = rows.g, pair.function.inputs[0]
    assert x is not None
    source, name = x, pair.late.name or ""
    if pair.mask is not None:
        (source,) = rows.pseudo("Mask", [x], f"{x.name}.masked", **_attributes(pair.mask))
        _like(g, source, x)
    mine, theirs = (_views(node) for node in (pair.late, pair.windows))
    views = list(dict.fromkeys([*mine, *theirs]))
    attributes: dict[str, Any] = {"axis": pair.late.attributes.get_int("axis"), "delay": [d for d, _ in views], "overlap": [o for _, o in views]}
    made = dict(zip(views, rows.pseudo("Delay", [source], f"{x.name}.delay", len(views), **attributes), strict=True))
    for view, old in zip(mine, pair.late.outputs, strict=True):
        _like(g, made[view], old)
    for view, old in zip(theirs, pair.windows.outputs, strict=True):
        _like(g, made[view], old)
        (again,) = rows.node(pair.function.op_type, [made[view], *pair.function.inputs[1:]], old.name or "", **_attributes(pair.function))
        _like(g, again, old)
        rows.replace(old, again)
    for view, old in zip(mine, pair.late.outputs, strict=True):
        rows.replace(old, made[view])
    for node in (pair.late, pair.windows, pair.mask, pair.function):
        if node is not None:
            for v in node.outputs:
                g.forget(v)
            g.graph.remove(node, safe=True)
    delay = made[views[0]].producer()
    assert delay is not None
    delay.name = name
    _one_state(g, name, pair.windows.name or "", max(d + o for d, o in views))


def _attributes(node: ir.Node) -> dict[str, Any]:
    return dict(node.attributes)


def _views(node: ir.Node) -> list[tuple[int, int]]:
    return list(zip(node.attributes.get_ints("delay"), node.attributes.get_ints("overlap"), strict=True))


def _like(g: Graph, wire: ir.Value, old: ir.Value) -> None:
    wire.type = old.type
    for known in (g.facts, g.chunks, g.regions):
        if old in known:
            known[wire] = known[old]  # type: ignore[index,assignment]


def _one_state(g: Graph, kept: str, gone: str, history: int) -> None:
    slots = {slot.state.id: slot for slot in g.slots}
    state, other = slots[kept].state, slots[gone].state
    assert state.axis is not None
    shape = tuple(history if a == state.axis else d for a, d in enumerate(state.shape))
    slots[kept].state = replace(state, shape=shape, zeros_read=state.zeros_read or other.zeros_read)
    g.slots = [slot for slot in g.slots if slot.state.id != gone]
