"""A Loop that runs once per frame and reads frame i of its streams in step i is a Scan over them.

``for i in range(S): h, y[i] = body(h, Gather(x, i))``, also where the loop counts its frames itself, hands weights from
step to step and goes on while ``i + 1 < S``, as tf2onnx writes a ``tf.while_loop``. A number that is computed with besides,
the one of the step among them, is carried. Run while typing: only then is the trip count known to be S, and a Scan is what
has a type. Anything less regular stays a Loop.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from pulsify.dim import Dim, symbols_of
from pulsify.graph import Graph, captured
from pulsify.rewrites._edit import Editor
from pulsify.rewrites._loop_trips import Steps, hands_on

__all__ = ["as_scan"]


def as_scan(g: Graph, node: ir.Node) -> ir.Node | None:
    """Put a Scan in place of a Loop. None, with nothing changed, where it is no loop over frames."""
    most = None if node.inputs[0] is None else _scalar(g, node.inputs[0])
    if node.inputs[0] is not None and (isinstance(most, bool) or not isinstance(most, (int, Dim))):
        return None
    if node.inputs[1] is not None and _scalar(g, node.inputs[1]) is not True:
        return None
    body = node.attributes["body"].as_graph().clone(allow_outer_scope_values=True)
    initial = list(node.inputs)[2:]
    steps = Steps(g, body, initial)
    trips = steps.trips(most)  # type: ignore[arg-type]
    if not isinstance(trips, Dim) or g.symbol not in symbols_of(trips):
        return None
    counter, condition, *carried = body.inputs
    results = list(body.outputs)[1:]
    # What marches or stays is no memory, unless somebody outside asks for its last value.
    idle = [v in steps.constant or (v in steps.marching and not _wanted(o)) for v, o in zip(carried, node.outputs)]
    outputs = _but(results, idle)
    live = _live(body, outputs)
    gathers: list[tuple[ir.Node, bool]] = []
    counted = False
    for value in steps.marching:
        start = None if value is counter else initial[carried.index(value)]
        found, more = _reads(value, 0 if start is None else _rank(g, start), live, outputs)
        if value in steps.frames:
            gathers += found
        elif found:
            more = True
        if more and value is counter:
            counted = True
        elif more:
            idle[carried.index(value)] = False
    if counted:
        step, after = _count(body, counter, node.name or "loop")
        carried, results, idle = [step, *carried], [after, *results], [False, *idle]
        initial = [Editor(g).const(0), *initial]
    outputs = _but(results, idle)
    body.outputs.clear()
    body.outputs.extend(outputs)
    for value, start in steps.constant.items():
        value.replace_all_uses_with(start, replace_graph_outputs=True)
    _drop_dead(body)
    streams: dict[tuple[ir.Value, int], ir.Value] = {}
    for gather, wide in gathers:
        source = gather.inputs[0]
        fact = g.facts.get(source) if source is not None else None
        if source is None or fact is None or fact.shape is None:
            return None
        axis = gather.attributes.get_int("axis", 0) % len(fact.shape)
        if fact.shape[axis] != trips:
            return None
        key = (source, axis)
        if key not in streams:
            streams[key] = ir.Value(name=f"{node.name}.frame_{len(streams)}", type=ir.TensorType(fact.dtype))
        _replace(body, gather, streams[key], axis if wide else None)
    if not streams:
        return None
    _drop_dead(body)
    unread = [counter, condition, *(v for v, drop in zip(carried, idle) if drop)]
    if any(v.uses() or v in outputs for v in unread):
        return None
    if _reads_time(g, body):
        return None
    kept = [(v, i) for v, i, drop in zip(carried, initial, idle) if not drop]
    body.inputs.clear()
    body.inputs.extend([*(v for v, _ in kept), *streams.values()])
    return _become(g, node, body, [i for _, i in kept], list(streams), steps, carried, idle, counted)


def _become(
    g: Graph, node: ir.Node, body: ir.Graph, initial: list[ir.Value | None], streams: list[tuple[ir.Value, int]], steps: Steps,
    carried: list[ir.Value], idle: list[bool], counted: bool,
) -> ir.Node:  # fmt: skip
    """The Scan, with the names of the Loop; outputs that only hand a constant on are that constant. Where steps are counted,
    their number is its first output, which nobody reads."""
    attributes = [
        ir.AttrGraph("body", body), ir.AttrInt64("num_scan_inputs", len(streams)),
        ir.AttrInt64s("scan_input_axes", [a for _, a in streams]),
    ]  # fmt: skip
    first = [Editor(g).build.value(f"{node.name}.steps", ir.DataType.INT64)] if counted else []
    drops = _longer(idle[len(first) :], node.outputs)
    made = [ir.Value(name=o.name, type=o.type) for o, drop in zip(node.outputs, drops) if not drop]
    scan = ir.Node("", "Scan", [*initial, *(v for v, _ in streams)], attributes, outputs=[*first, *made], name=node.name)
    g.graph.insert_before(node, scan)
    new = iter(made)
    for k, (old, drop) in enumerate(zip(node.outputs, drops), len(first)):
        if not drop:
            old.replace_all_uses_with(next(new), replace_graph_outputs=True)
        elif _wanted(old):
            old.replace_all_uses_with(steps.constant[carried[k]], replace_graph_outputs=True)
    g.graph.remove(node, safe=True)
    return scan


def _longer(idle: list[bool], outputs: Sequence[ir.Value]) -> list[bool]:
    """Which of all outputs are dropped: those of frames are not."""
    return [*idle, *[False] * (len(outputs) - len(idle))]


def _but(outputs: list[ir.Value], idle: list[bool]) -> list[ir.Value]:
    return [o for o, drop in zip(outputs, _longer(idle, outputs)) if not drop]


def _count(body: ir.Graph, counter: ir.Value, stem: str) -> tuple[ir.Value, ir.Value]:
    """A carried number in place of that of the step, and what it is in the next."""
    step, after, one = (
        ir.Value(name=f"{stem}.{role}", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([])) for role in ("step", "next_step", "one")
    )
    one.const_value = ir.tensor(1, dtype=ir.DataType.INT64)
    body.register_initializer(one)
    counter.replace_all_uses_with(step)
    body.append(ir.Node("", "Add", [step, one], outputs=[after]))
    return step, after


def _live(body: ir.Graph, outputs: list[ir.Value]) -> set[ir.Node]:
    """The nodes that the outputs are made of."""
    found: set[ir.Node] = set()
    todo: list[ir.Value | None] = list(outputs)
    while todo:
        v = todo.pop()
        node = None if v is None else v.producer()
        if node is not None and node.graph is body and node not in found:
            found.add(node)
            todo += [*node.inputs, *captured(node)]
    return found


def _reads_time(g: Graph, body: ir.Graph) -> bool:
    """Whether the body reads a wire with time from outside."""
    facts = (g.facts.get(v) for n in body for v in (*n.inputs, *captured(n)) if v is not None)
    return any(g.symbol in symbols_of(d) for f in facts if f is not None for d in f.shape or ())


def _wanted(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _scalar(g: Graph, value: ir.Value | None) -> object:
    """The only element of a wire, if it is known."""
    fact = g.fact(value)
    elems = None if fact is None else fact.elems()
    return elems.reshape(-1)[0] if elems is not None and elems.size == 1 else None


def _rank(g: Graph, start: ir.Value) -> int | None:
    fact = g.fact(start)
    return None if fact is None or fact.shape is None else len(fact.shape)


def _reads(value: ir.Value, rank: int | None, live: set[ir.Node], outputs: list[ir.Value]) -> tuple[list[tuple[ir.Node, bool]], bool]:
    """The Gathers a counter is the index of, and whether each keeps the axis; and whether it is used for more than them."""
    found: list[tuple[ir.Node, bool]] = []
    more = False
    todo = [(value, rank)]
    while todo:
        value, rank = todo.pop()
        more |= value in outputs
        for user, k in value.uses():
            if user.graph is value.graph and user not in live:
                continue
            if user not in live or user.domain or rank not in (0, 1):
                more = True
            elif user.op_type == "Gather" and k == 1:
                found.append((user, rank == 1))
            elif hands_on(user):
                todo.append((user.outputs[0], rank))
            elif k == 0 and ((user.op_type == "Unsqueeze" and not rank) or (user.op_type == "Reshape" and _one(user.inputs[1]))):
                todo.append((user.outputs[0], 1))
            elif k == 0 and user.op_type == "Squeeze" and rank:
                todo.append((user.outputs[0], 0))
            else:
                more = True
    return found, more


def _one(shape: ir.Value | None) -> bool:
    if shape is None or shape.const_value is None:
        return False
    return shape.const_value.numpy().tolist() in ([1], [-1])


def _replace(body: ir.Graph, gather: ir.Node, frame: ir.Value, axis: int | None) -> None:
    """Read the frame itself; where the index kept the axis, with an axis of length 1 in its place."""
    if axis is not None:
        at = ir.Value(name=f"{gather.outputs[0].name}.axis", type=ir.TensorType(ir.DataType.INT64), const_value=ir.tensor([axis]))
        at.shape = ir.Shape([1])
        body.register_initializer(at)
        wide = ir.Node("", "Unsqueeze", [frame, at], outputs=[ir.Value(name=f"{gather.outputs[0].name}.frame")])
    else:
        wide = ir.Node("", "Identity", [frame], outputs=[ir.Value(name=f"{gather.outputs[0].name}.frame")])
    body.insert_before(gather, wide)
    gather.outputs[0].replace_all_uses_with(wide.outputs[0], replace_graph_outputs=True)
    body.remove(gather, safe=True)


def _drop_dead(body: ir.Graph) -> None:
    for inner in reversed(list(body)):
        if not any(v.uses() or v in body.outputs for v in inner.outputs):
            body.remove(inner, safe=True)
