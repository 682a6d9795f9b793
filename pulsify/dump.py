"""The textual form of a graph: one wire per line, graph order, attributes sorted, constants by type and digest.

Made to be compared: no columns, no dates, no order that depends on hashing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.facts import Elems, Fill, Iota, WireFact
from pulsify.graph import Graph

__all__ = ["dump"]

_SHORT = {
    "FLOAT": "f32", "DOUBLE": "f64", "FLOAT16": "f16", "BFLOAT16": "bf16", "INT64": "i64", "INT32": "i32",
    "INT16": "i16", "INT8": "i8", "UINT8": "u8", "UINT16": "u16", "UINT32": "u32", "UINT64": "u64", "BOOL": "bool",
    "STRING": "str",
}  # fmt: skip


def dump(g: Graph) -> str:
    """The graph as text, ending in a newline."""
    head = f"pulsify 1 stage={g.stage} symbol={g.symbol}"
    if g.pulse is not None:
        head += f" pulse={g.pulse.size}"
    lines = [head]
    for value in g.graph.inputs:
        lines.append(f"input {_wire(g, value)}")
    seen: set[ir.Value] = set()
    for node in g.graph:
        for source in node.inputs:
            if source is not None and source.const_value is not None and source not in seen:
                seen.add(source)
                lines.append(f"const {_const(source)}")
        args = ", ".join("_" if v is None else f"%{v.name}" for v in node.inputs)
        domain = f"{node.domain}::" if node.domain not in ("", "ai.onnx", "pulsify") else ""
        attrs = "".join(f" {k}={_attr(a)}" for k, a in sorted(node.attributes.items()))
        lines.append(f"node {node.name} = {domain}{node.op_type}({args}){attrs}")
        lines.extend(f"  -> {_wire(g, v)}" for v in node.outputs)
    for value in g.graph.outputs:
        if value.const_value is not None and value not in seen:
            lines.append(f"const {_const(value)}")
        lines.append(f"output %{value.name}")
    for slot in g.slots:
        s = slot.state
        dtype = _SHORT.get(s.dtype.name, s.dtype.name.lower())
        lines.append(f"state {s.id} {dtype}[{', '.join(map(str, s.shape))}] {s.kind}")
    lines.extend(f"assume {c.text} ({_condition(c)}) by {c.node}" for c in g.assume.conditions)
    return "\n".join(lines) + "\n"


def _condition(c: Any) -> str:
    parts = [f"from {c.least}"] if c.least else []
    if c.modulus > 1:
        parts.append(f"modulo {c.modulus}: {c.remainder}")
    return ", ".join(parts) or "always"


def _type(f: WireFact) -> str:
    dtype = _SHORT.get(f.dtype.name, f.dtype.name.lower())
    return f"{dtype}[{', '.join(map(str, f.shape))}]" if f.shape is not None else f"{dtype}[?]"


def _wire(g: Graph, value: ir.Value) -> str:
    f = g.facts.get(value)
    if f is None:
        return f"%{value.name}"
    if f.shape is None and value in g.chunks:
        # Made while lowering: only what it holds per pulse is known of it.
        f = replace(f, shape=g.chunks[value])
    text = f"%{value.name} {_type(f)}"
    regions = g.regions.get(value)
    if regions:
        for axis, region in sorted(regions.items()):
            text += f" time={axis}"
            if g.pulse is not None:
                text += f" frames={g.frames(region)}"
            text += f" delay={region.delay}"
            if region.overlap:
                text += f" overlap={region.overlap}"
        if g.stage == "pulse-v2-to-type" and value in g.chunks:
            text += f" chunk=[{', '.join(map(str, g.chunks[value]))}]"
    else:
        axes = f.time_axes(g.symbol)
        if axes:
            text += f" time={','.join(map(str, axes))}"
    if isinstance(f.value, Elems) and f.value.array.size <= 8:
        text += f" value={_elems(f.value.array)}"
    elif isinstance(f.value, Fill):
        text += f" fill={f.value.value}"
    elif isinstance(f.value, Iota):
        text += f" iota={f.value.start}:{f.value.step}:{f.value.axis}"
    return text


def _elems(array: np.ndarray) -> str:
    return str(array[()]) if array.ndim == 0 else f"[{', '.join(str(v) for v in array.reshape(-1))}]"


def _const(value: ir.Value) -> str:
    tensor = value.const_value
    assert tensor is not None
    dtype = _SHORT.get(tensor.dtype.name, tensor.dtype.name.lower())
    text = f"%{value.name} {dtype}[{', '.join(str(d) for d in tensor.shape)}]"
    if tensor.size <= 4 and tensor.dtype.name in ("INT64", "INT32", "FLOAT", "BOOL"):
        return f"{text} = {_elems(tensor.numpy())}"
    return f"{text} #{hashlib.sha256(tensor.tobytes()).hexdigest()[:8]}"


def _attr(a: ir.Attr) -> str:
    v = a.value
    if isinstance(v, ir.TensorProtocol) and v.size == 1:
        return str(v.numpy().reshape(-1)[0])
    if isinstance(v, ir.TensorProtocol):
        return f"{v.dtype.name.lower()}{list(v.shape)}#{hashlib.sha256(v.tobytes()).hexdigest()[:8]}"
    if isinstance(v, ir.Graph):
        return f"<graph of {len(v)} nodes>"
    if isinstance(v, str) or not isinstance(v, Iterable):
        return str(v)
    return f"[{', '.join(str(x) for x in v)}]"
