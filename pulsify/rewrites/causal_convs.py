"""For onnxruntime: a depthwise convolution over time, with its history and the SiLU behind it, as ``CausalConvWithState``.

    y[t] = b + sum_k w[k] x[t - (K-1-k)*d],   y' = y * sigmoid(y)

The operator (``com.microsoft``, from onnxruntime 1.26 on; with ``d > 1`` from 1.30 on) takes the last ``(K-1)*d`` frames as
``past_state [N, C, (K-1)*d]`` and hands on the next ones: what a Delay read by one convolution does. It is one node in
place of Concat, Slice and Conv, and it works tap by tap and frame by frame: with few frames it is the fastest there is,
with many it is slower than a vectorised convolution. Where it pays was measured (docs/optimize.md). Axes of length 1 beside time
are left out (``[N, C, n, 1]``, kernel ``[K, 1]``), of the state too. Anything else that a Delay may be (several views, a delay, a
start that is not zero, other readers) keeps the plain form.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import onnx_ir as ir

from pulsify.facts import WireFact
from pulsify.graph import DOMAIN, Graph, shape_attribute, sort
from pulsify.ops.contrib import MS
from pulsify.rewrites._costs import as_is, as_rows
from pulsify.rewrites._row_ops import row_form
from pulsify.rewrites._row_windows import note
from pulsify.rewrites._rows import Rows

__all__ = ["apply"]

#: Versions of onnxruntime that have the operator, and its dilation.
_SINCE, _SINCE_DILATION = (1, 26), (1, 30)


@dataclass(frozen=True, slots=True)
class _Conv:
    """What the operator computes of a wire: the axis that is time, the others behind the channels being of length 1."""

    delay: ir.Node
    source: ir.Value
    axis: int
    channels: int
    taps: int
    dilation: int

    @property
    def history(self) -> int:
        return (self.taps - 1) * self.dilation


def apply(g: Graph) -> int:
    if g.target == "onnx":
        return 0
    rows = Rows(g)
    found = [(node, conv) for node in g.graph if (conv := _causal(g, node)) is not None and _pays(g, node, conv)]
    for node, conv in found:
        _fuse(rows, node, conv)
    if found:
        sort(g.graph)
    return len(found)


#: What blocks of channels come from, and rows.
_CONVS, _PRODUCTS = frozenset({"Conv"}), frozenset({"Conv", "ConvTranspose", "MatMul"})

#: What it costs to leave row form on both sides; and blocks of channels, where there are several frames.
_TORN, _APART = 2.0, 1.0


def _history(node: ir.Node) -> ir.Node | None:
    """The Delay in front of a convolution, if it is all its own and one view from the zeros of the start."""
    x = node.inputs[0]
    delay = None if x is None else x.producer()
    if x is None or delay is None or delay.domain != DOMAIN or delay.op_type != "Delay" or len(delay.outputs) != 1:
        return None
    alone = len(list(x.uses())) == 1 and not x.is_graph_output()
    plain = len(delay.inputs) == 1 and not {"init", "last"} & set(delay.attributes)
    return delay if alone and plain and delay.attributes.get_ints("delay")[0] == 0 else None


def _causal(g: Graph, node: ir.Node) -> _Conv | None:
    """A node as what the operator computes: depthwise, causal, float32; None where it is anything else."""
    if node.op_type != "Conv" or node.domain or (delay := _history(node)) is None:
        return None
    source, w, a = delay.inputs[0], node.inputs[1], node.attributes
    if source is None or w is None or g.facts[source].dtype != ir.DataType.FLOAT:
        return None
    shape, kernel, axis = g.facts[source].shape, g.facts[w].sizes(), delay.attributes.get_int("axis")
    if shape is None or kernel is None or len(kernel) != len(shape) or axis < 2 or (len(shape) > 3 and w.const_value is None):
        return None
    channels, beside = kernel[0], [k for k in range(2, len(shape)) if k != axis]
    if kernel[1] != 1 or channels == 1 or shape[1] != channels or a.get_int("group", 1) != channels:
        return None
    if any(shape[k] != 1 or kernel[k] != 1 for k in beside) or any(a.get_ints("pads", ())):
        return None
    if a.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or any(s != 1 for s in a.get_ints("strides", ())):
        return None
    conv = _Conv(delay, source, axis, channels, kernel[axis], a.get_ints("dilations", [1] * (axis - 1))[axis - 2])
    return conv if delay.attributes.get_ints("overlap")[0] == conv.history else None


def _pays(g: Graph, node: ir.Node, conv: _Conv) -> bool:
    """Whether it is faster, at a pulse that is known: microseconds as measured on one core (docs/optimize.md).

    To a convolution over a picture, the operator saves two nodes and moves its history once, not twice. A multiplication costs
    it more than a vectorised convolution, whose cost per channel it saves where there is one frame; a convolution whose
    channels do not come in blocks of four has a high one. Between other convolutions, from two frames on, it moves activations
    out of blocks of channels and into them again, which from some sixty channels on costs what it saves. Rows
    (frame_rows.py), which read those frames of a history alone that they need, it would tear apart.
    """
    chunk = g.chunks[node.outputs[0]]
    rows, frames = chunk[0], chunk[conv.axis]
    if not isinstance(frames, int):
        return False
    form = row_form(g, node) if _behind(conv.delay, _PRODUCTS) else None
    in_rows = 0.0 if form is None or form.product is None else as_is(form.product) - as_rows(form.product)
    frames *= rows if isinstance(rows, int) else 1
    per_channel = 0.007 if frames == 1 else 0.001
    if conv.channels % 4:
        per_channel += 0.1
    saved = 2.0
    if frames > 1 and conv.channels % 4 == 0 and _behind(conv.delay, _CONVS):
        saved = max(0, saved - 0.03 * conv.channels)
    moved = 0.0002 * conv.channels * conv.history
    saved += moved + conv.channels * (per_channel - 0.0005 * frames * conv.taps)
    return saved > (in_rows + moved + _TORN if in_rows > 0 else 0.0) + (_APART if frames > 1 else 0.0)


def _behind(delay: ir.Node, ops: frozenset[str]) -> bool:
    """Whether the wire with the history is what one of these makes, activations aside."""
    at: ir.Node | None = delay
    while at is not None and at.op_type not in ops:
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


def _fuse(rows: Rows, node: ir.Node, conv: _Conv) -> None:
    g, y = rows.g, node.outputs[0]
    slot = next(s for s in g.slots if s.state.id == conv.delay.name)
    beside = [k for k in range(2, g.facts[conv.source].rank) if k != conv.axis]
    # The operator's own SiLU takes one number at a time: with more frames than one it is slower than two nodes.
    gone = _silu(y) if g.chunks[y][conv.axis] == 1 else []
    if gone:
        y = gone[0].outputs[0]
    shape = tuple(d for k, d in enumerate(slot.state.shape) if k not in beside)
    state = slot.state = replace(slot.state, shape=shape, axis=2)
    (past,) = rows.pseudo("State", [], state.id, id=state.id, dtype=int(state.dtype), shape=shape_attribute(shape))
    x, weight = conv.source, node.inputs[1]
    if beside:
        assert weight is not None and weight.const_value is not None
        (flat,) = rows.node("Squeeze", [x, rows.const(beside)], f"{x.name}.flat")
        x = _flat(g, flat, x, beside)
        weight = rows.weight(weight.const_value.numpy().reshape(conv.channels, 1, conv.taps), f"{y.name}.weight")
    note(rows, past, x, shape)
    made, present = rows.node(
        "CausalConvWithState", [x, weight, node.inputs[2] if len(node.inputs) > 2 else None, past], f"{y.name}.causal", 2, MS,
        activation="silu" if gone else "none", **({"dilation": conv.dilation} if conv.dilation > 1 else {}),
    )  # fmt: skip
    if beside:
        (made,) = rows.node("Unsqueeze", [_flat(g, made, y, beside), rows.const(beside)], f"{y.name}.wide")
    note(rows, present, x, shape)
    rows.build.node("Store", [present], f"{state.id}.store", {"id": state.id}, domain=DOMAIN, outputs=[])
    rows.replace(y, made)
    for n in (*gone, node, conv.delay):
        for v in n.outputs:
            g.forget(v)
        g.graph.remove(n, safe=True)
    g.need(MS, 1, _SINCE if conv.dilation == 1 else _SINCE_DILATION)


def _flat(g: Graph, v: ir.Value, like: ir.Value, beside: list[int]) -> ir.Value:
    """What a wire holds that is another without axes of length 1."""
    fact, keep = g.facts[like], [k for k in range(g.facts[like].rank) if k not in beside]
    assert fact.shape is not None
    v.type = ir.TensorType(fact.dtype)
    g.facts[v] = WireFact(fact.dtype, tuple(fact.shape[k] for k in keep))
    g.chunks[v] = tuple(g.chunks[like][k] for k in keep)
    g.regions[v] = {keep.index(a): r for a, r in g.regions[like].items()}
    return v
