"""For onnxruntime: a depthwise convolution over time, with its history and the SiLU behind it, as ``CausalConvWithState``.

    y[t] = b + sum_k w[k] x[t - (K-1-k)*d],   y' = y * sigmoid(y)

The operator (``com.microsoft``, from onnxruntime 1.26 on; with ``d > 1`` from 1.30 on) takes the last ``(K-1)*d`` frames as
``past_state [N, C, (K-1)*d]`` and hands on the next ones: what a Delay read by one convolution does. It is one node in
place of Concat, Slice and Conv, and it works tap by tap and frame by frame: with few frames it is the fastest there is,
with many it is slower than a vectorised convolution. Where it pays was measured (docs/optimize.md). Anything else that a Delay
may be (several views, a delay, a start that is not zero, other readers) keeps the plain form.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.graph import DOMAIN, Graph
from pulsify.ops.contrib import MS
from pulsify.rewrites._row_windows import note
from pulsify.rewrites._rows import Rows

__all__ = ["apply"]

#: Versions of onnxruntime that have the operator, and its dilation.
_SINCE, _SINCE_DILATION = (1, 26), (1, 30)


def apply(g: Graph) -> int:
    if g.target != "onnxruntime":
        return 0
    rows = Rows(g)
    found = [node for node in g.graph if _fits(g, node) and _pays(g, node)]
    for node in found:
        _fuse(rows, node)
    if found:
        g.graph.sort()
    return len(found)


def _history(node: ir.Node) -> ir.Node | None:
    """The Delay in front of a convolution, if it is all its own and one view from the zeros of the start."""
    x = node.inputs[0]
    delay = None if x is None else x.producer()
    if x is None or delay is None or delay.domain != DOMAIN or delay.op_type != "Delay" or len(delay.outputs) != 1:
        return None
    alone = len(list(x.uses())) == 1 and not x.is_graph_output()
    return delay if alone and "init" not in delay.attributes and delay.attributes.get_ints("delay")[0] == 0 else None


def _fits(g: Graph, node: ir.Node) -> bool:
    """Whether a node is what the operator computes: depthwise, causal, float32, over the last of three axes."""
    if node.op_type != "Conv" or node.domain:
        return False
    delay, w, a = _history(node), node.inputs[1], node.attributes
    if delay is None or w is None or g.facts[w].shape is None or delay.attributes.get_int("axis") != 2:
        return False
    source, shape = delay.inputs[0], g.facts[w].shape
    if source is None or g.facts[source].dtype != ir.DataType.FLOAT or g.facts[source].rank != 3 or len(shape or ()) != 3:
        return False
    channels, into, taps = shape  # type: ignore[misc]
    if not isinstance(channels, int) or not isinstance(taps, int) or into != 1:
        return False
    if a.get_int("group", 1) != channels or g.facts[source].shape[1] != channels or channels == 1:  # type: ignore[index]
        return False
    if any(a.get_ints("pads", ())) or a.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    if a.get_ints("strides", [1])[0] != 1:
        return False
    return delay.attributes.get_ints("overlap")[0] == (taps - 1) * a.get_ints("dilations", [1])[0]


def _pays(g: Graph, node: ir.Node) -> bool:
    """Whether it is faster, at a pulse that is known: microseconds as measured on one core (docs/optimize.md).

    The operator saves two nodes and moves its history once, not twice. A multiplication costs it more than a vectorised
    convolution, whose cost per channel it saves where there is one frame; a convolution whose channels do not come in blocks
    of four has a high one. Between other convolutions, from two frames on, it would move activations out of blocks of channels
    and into them again, which costs what it saves.
    """
    rows, channels, frames = g.chunks[node.outputs[0]]
    if not isinstance(frames, int) or not isinstance(channels, int):
        return False
    frames *= rows if isinstance(rows, int) else 1
    taps = int(g.facts[node.inputs[1]].shape[2])  # type: ignore[index,arg-type]
    history = (taps - 1) * node.attributes.get_ints("dilations", [1])[0]
    per_channel = 0.007 if frames == 1 else 0.001
    if channels % 4:
        per_channel += 0.1
    saved = 0 if frames > 1 and channels % 4 == 0 and _behind_conv(node) else 2
    return saved + channels * (per_channel + 0.0002 * history - 0.0005 * frames * taps) > 0


def _behind_conv(node: ir.Node) -> bool:
    """Whether the wire with the history is a convolution's, activations aside."""
    at: ir.Node | None = _history(node)
    while at is not None and at.op_type != "Conv":
        sources = [v for v in at.inputs if v is not None and v.const_value is None]
        at = sources[0].producer() if len(sources) == 1 else None
    return at is not None


def _silu(y: ir.Value) -> list[ir.Node]:
    """The nodes behind a wire that make ``y * sigmoid(y)`` of it, if nobody else reads it; the last one first."""
    users = {user for user, _ in y.uses()}
    if y.is_graph_output() or any(n.domain for n in users):
        return []
    if len(users) == 1:
        (swish,) = users
        return [swish] if swish.op_type == "Swish" and swish.attributes.get_float("alpha", 1.0) == 1.0 else []
    gate = next((n for n in users if n.op_type == "Sigmoid"), None)
    product = next((n for n in users if n.op_type == "Mul"), None)
    if len(users) != 2 or gate is None or product is None or gate.outputs[0].is_graph_output():
        return []
    alone = {n for n, _ in gate.outputs[0].uses()} == {product}
    return [product, gate] if alone and {*product.inputs} == {y, gate.outputs[0]} else []


def _fuse(rows: Rows, node: ir.Node) -> None:
    g, delay, y = rows.g, _history(node), node.outputs[0]
    assert delay is not None and delay.inputs[0] is not None
    x = delay.inputs[0]
    slot = next(s for s in g.slots if s.state.id == delay.name)
    # The operator's own SiLU takes one number at a time: with more frames than one it is slower than two nodes.
    gone = _silu(y) if g.chunks[y][2] == 1 else []
    if gone:
        y = gone[0].outputs[0]
    state, shape = slot.state, list(slot.state.shape)
    (past,) = rows.pseudo("State", [], state.id, id=state.id, dtype=int(state.dtype), shape=[str(d) for d in shape])
    note(rows, past, x, shape)
    dilation = node.attributes.get_ints("dilations", [1])[0]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    made, present = rows.node(
        "CausalConvWithState", [x, node.inputs[1], bias, past], f"{y.name}.causal", 2, MS,
        activation="silu" if gone else "none", **({"dilation": dilation} if dilation > 1 else {}),
    )  # fmt: skip
    note(rows, present, x, shape)
    rows.build.node("Store", [present], f"{state.id}.store", {"id": state.id}, domain=DOMAIN, outputs=[])
    rows.replace(y, made)
    for n in (*gone, node, delay):
        for v in n.outputs:
            g.forget(v)
        g.graph.remove(n, safe=True)
    g.need(MS, 1, _SINCE if dilation == 1 else _SINCE_DILATION)

