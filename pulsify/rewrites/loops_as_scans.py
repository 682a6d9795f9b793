"""A Loop that runs once per frame and reads frame i of its streams in step i is a Scan over them.

``for i in range(S): h, y[i] = body(h, Gather(x, i))``. Run while typing: only then is the trip count known to be S, and
a Scan is what has a type. Anything less regular stays a Loop.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.dim import Dim, symbols_of
from pulsify.graph import Graph

__all__ = ["as_scan"]

#: Operators that hand a counter or a condition on.
_SAME = {"Identity", "Cast"}


def as_scan(g: Graph, node: ir.Node) -> bool:
    """Turn a Loop into a Scan in place. False, with nothing changed, where it is no loop over frames."""
    trips = _scalar(g, node.inputs[0])
    if not isinstance(trips, Dim) or g.symbol not in symbols_of(trips):
        return False
    if node.inputs[1] is not None and _scalar(g, node.inputs[1]) is not True:
        return False
    body = node.attributes["body"].as_graph().clone(allow_outer_scope_values=True)
    counter, condition, *carried = body.inputs
    if not _always(body, condition):
        return False
    gathers = _reads(body, counter)
    if gathers is None:
        return False
    streams: dict[tuple[ir.Value, int], ir.Value] = {}
    for gather, wide in gathers:
        source = gather.inputs[0]
        fact = g.facts.get(source) if source is not None else None
        if source is None or fact is None or fact.shape is None:
            return False
        axis = gather.attributes.get_int("axis", 0) % len(fact.shape)
        if fact.shape[axis] != trips:
            return False
        key = (source, axis)
        if key not in streams:
            streams[key] = ir.Value(name=f"{node.name}.frame_{len(streams)}", type=ir.TensorType(fact.dtype))
        _replace(body, gather, streams[key], axis if wide else None)
    if not streams:
        return False
    outputs = list(body.outputs)[1:]
    body.outputs.clear()
    body.outputs.extend(outputs)
    _drop_dead(body)
    if any(v.uses() or v in outputs for v in (counter, condition)):
        return False
    body.inputs.clear()
    body.inputs.extend([*carried, *streams.values()])
    initial = list(node.inputs)[2:]
    node.op_type = "Scan"
    node.attributes.clear()
    node.attributes.add(ir.AttrGraph("body", body))
    node.attributes.add(ir.AttrInt64("num_scan_inputs", len(streams)))
    node.attributes.add(ir.AttrInt64s("scan_input_axes", [a for _, a in streams]))
    node.resize_inputs(len(initial) + len(streams))
    for k, v in enumerate([*initial, *(v for v, _ in streams)]):
        node.replace_input_with(k, v)
    return True


def _scalar(g: Graph, value: ir.Value | None) -> object:
    """The only element of a wire, if it is known."""
    fact = g.fact(value)
    elems = None if fact is None else fact.elems()
    return elems.reshape(-1)[0] if elems is not None and elems.size == 1 else None


def _always(body: ir.Graph, condition: ir.Value) -> bool:
    """Whether the loop goes on whatever happens: its condition out is true, or the condition in."""
    out: ir.Value | None = body.outputs[0]
    while out is not None and out is not condition:
        if out.const_value is not None:
            return bool(out.const_value.numpy().all())
        producer = out.producer()
        if producer is None:
            return False
        if producer.op_type == "Constant" and "value" in producer.attributes:
            return bool(producer.attributes.get_tensor("value").numpy().all())
        if producer.op_type not in _SAME:
            return False
        out = producer.inputs[0]
    return out is condition


def _reads(body: ir.Graph, counter: ir.Value) -> list[tuple[ir.Node, bool]] | None:
    """The Gathers that are all the counter is used for, and whether each keeps the axis. None if it has other uses."""
    found: list[tuple[ir.Node, bool]] = []
    todo = [(counter, False)]
    while todo:
        value, wide = todo.pop()
        if value in body.outputs:
            return None
        for user, k in value.uses():
            if user.graph is not body:
                return None
            if user.op_type == "Gather" and k == 1:
                found.append((user, wide))
            elif user.op_type in _SAME:
                todo.append((user.outputs[0], wide))
            elif k == 0 and ((user.op_type == "Unsqueeze" and not wide) or (user.op_type == "Reshape" and _one(user.inputs[1]))):
                todo.append((user.outputs[0], True))
            else:
                return None
    return found


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
