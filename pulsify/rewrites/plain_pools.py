"""Pools over time become plain ones: no padding along time, no partial windows, every mean over a full window.

``MaxPool = MaxPool after Pad(lowest)``, ``LpPool = LpPool after Pad(0)``, ``AveragePool = Recount after AveragePool after
Pad(0)``: the ends of a stream are the business of Pad, and of Recount for the divisor. ``ceil_mode`` is padding behind
the data (ops/pool.py); where it matters on another axis, that axis is padded, and a mean over it recounted by a table.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.graph import DOMAIN, Graph
from pulsify.ops._infer import infer_node, view
from pulsify.ops._rule import NodeView, find
from pulsify.ops._windows import Geometry
from pulsify.ops.pool import Pool, counted, pool_windows
from pulsify.rewrites._edit import Editor

__all__ = ["apply"]

#: Operators whose results are never negative, and those that only move or pick what they are given.
_POSITIVE = {"Abs", "Exp", "HardSigmoid", "Relu", "Sigmoid", "Softmax", "Softplus", "Sqrt", "ReduceSumSquare"}
_MOVERS = {"Identity", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Slice", "Gather"}


def apply(g: Graph) -> int:
    edit = Editor(g)
    count = 0
    for node in list(g.graph):
        if isinstance(find(node.domain, node.op_type), Pool) and g.time_axes(node.inputs[0]):
            if len(node.outputs) > 1 and not (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
                g.facts.pop(node.outputs[1], None)
                node.resize_outputs(1)
            count += _plain(edit, node)
    return count


def _plain(edit: Editor, node: ir.Node) -> int:
    n = view(edit.g, node, outputs=True)
    shape, time = n.shape(0), n.streaming(0)
    windows = pool_windows(n)
    split = [
        (w, after)
        for w, after in windows
        if (w.axis in time and (w.before or w.after)) or (w.axis not in time and _differs(shape[w.axis], w, after))
    ]
    if not split and "auto_pad" not in node.attributes and not n.attr("ceil_mode", 0):
        return 0
    kept = {w.axis: (w.before, after) for w, after in windows if w not in [s for s, _ in split]}
    pads = [kept.get(i + 2, (0, 0))[side] for side in (0, 1) for i in range(len(windows))]
    attributes = {k: a.value for k, a in node.attributes.items() if k not in ("auto_pad", "ceil_mode")}
    attributes["pads"] = pads
    source = node.inputs[0]
    assert source is not None
    if split:
        source = _pad(edit, node, source, n, [w for w, _ in split])
    if node.op_type == "MaxPool" and n.fact(0).dtype.is_floating_point():
        for w, _ in split:
            # A window between the frames of a shorter stream holds none: what it gives is not a number of the data.
            edit.g.assume.ge(shape[w.axis], w.dilation, n.name)
    steps: list[tuple[str, str, list[ir.Value], dict[str, Any]]] = [("", node.op_type, [], attributes)]
    if node.op_type == "AveragePool":
        for w, after in split:
            step = _recount(edit, n, w, after)
            if step is not None:
                steps.append(step)
    wire = source
    for domain, op, extra, attrs in steps[:-1]:
        wire = edit.before(node, op, [wire, *extra], f"{node.outputs[0].name}.mean", attrs, domain)
    domain, op, extra, attrs = steps[-1]
    node.domain, node.op_type = domain, op
    node.attributes.clear()
    for name, value in attrs.items():
        node.attributes.add(ir.convenience.convert_attribute(name, value))
    node.resize_inputs(1 + len(extra))
    for k, source in enumerate([wire, *extra]):
        node.replace_input_with(k, source)
    infer_node(edit.g, node)
    return 1


def _differs(length: Any, w: Geometry, after: int) -> bool:
    """Whether an axis without time has a partial window."""
    if w.after == after:
        return False
    if not isinstance(length, int):
        return True
    return (length + w.before + w.after - w.span) // w.stride != (length + w.before + after - w.span) // w.stride


def _pad(edit: Editor, node: ir.Node, source: ir.Value, n: NodeView, windows: list[Geometry]) -> ir.Value:
    rank = len(n.shape(0))
    amounts = [0] * (2 * rank)
    for w in windows:
        amounts[w.axis], amounts[w.axis + rank] = w.before, w.after
    inputs = [source, edit.const(amounts, f"{source.name}.pads")]
    dtype = n.fact(0).dtype
    if node.op_type == "MaxPool":
        lowest = -np.inf if dtype.is_floating_point() else np.iinfo(dtype.numpy()).min
        # Every window without gaps holds a frame of the data: zero is low enough for what is never negative.
        if lowest != 0 and not (all(w.dilation == 1 for w in windows) and _never_negative(source)):
            inputs.append(edit.const(lowest, f"{source.name}.fill", dtype.numpy()))
    return edit.before(node, "Pad", inputs, f"{source.name}.pad", {"mode": "constant"})


def _never_negative(wire: ir.Value | None) -> bool:
    while wire is not None and (node := wire.producer()) is not None and not node.domain:
        if node.op_type in _POSITIVE:
            return True
        if node.op_type not in _MOVERS:
            return False
        wire = node.inputs[0]
    return False


def _recount(edit: Editor, n: NodeView, w: Geometry, after: int) -> tuple[str, str, list[ir.Value], dict[str, Any]] | None:
    """What turns a mean over full windows along one axis into one over what counts; None where all windows are full."""
    length = n.shape(0)[w.axis]
    low, high = (-w.before, length + after) if n.attr("count_include_pad", 0) else (0, length)
    out = n.outputs[0].shape
    assert out is not None
    if w.axis in n.streaming(0):
        last = w.stride * (out[w.axis] - 1) - w.before + w.span
        if low == -w.before and n.assume.at_most(last, high):
            return None
        attributes = {
            "axis": w.axis, "before": w.before, "dilation": w.dilation, "high": str(high), "kernel": w.kernel,
            "low": low, "stride": w.stride,
        }  # fmt: skip
        return (DOMAIN, "Recount", [], attributes)
    if not isinstance(length, int):
        n.refuse(
            f"it rounds up over an axis of {length}, whose last window is not known",
            hint="fix that axis in the model, or export without ceil_mode",
        )
    first = w.stride * np.arange(int(out[w.axis])) - w.before  # type: ignore[call-overload]
    count = counted(first, high, w.kernel, w.dilation) - counted(first, low, w.kernel, w.dilation)
    if (count == w.kernel).all():
        return None
    dtype = n.fact(0).dtype.numpy()
    factor = (w.kernel / np.maximum(count, 1)).astype(dtype)
    factor = factor.reshape([-1 if a == w.axis else 1 for a in range(len(out))])
    return ("", "Mul", [edit.const(factor, "counted", dtype)], {})
