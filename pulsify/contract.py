"""The manifest: what a pulsed file promises, as JSON in its metadata (docs/contract.md, version 1).

Written by ``emit``, read by clients. Reading needs neither the compiler nor onnx: a dict, and :func:`evaluate` for
its expressions.
"""

from __future__ import annotations

import ast
import json
import mmap
from collections.abc import Callable, Mapping
from fractions import Fraction
from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx_ir as ir

    from pulsify.graph import Graph

__all__ = ["KEY", "VERSION", "compiled", "evaluate", "input_delay", "loads", "manifest", "peek", "pulsed_shape", "rate", "write"]

KEY = "pulsify.manifest"
VERSION = 1


def evaluate(expression: int | str, **symbols: int) -> int:
    """The value of a manifest expression: integers, names, ``+ - * // % ( )``, ``min``, ``max``. ValueError else."""

    def walk(node: ast.expr) -> int:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.Name) and node.id in symbols:
            return symbols[node.id]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -walk(node.operand)
        if isinstance(node, ast.BinOp):
            a, b = walk(node.left), walk(node.right)
            match node.op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.FloorDiv():
                    return a // b
                case ast.Mod():
                    return a % b
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("min", "max"):
            return (min if node.func.id == "min" else max)(walk(a) for a in node.args)
        raise ValueError(f"not an expression of {', '.join(symbols)}: {expression!r}")

    if isinstance(expression, int):
        return expression
    return walk(ast.parse(expression, mode="eval").body)


def compiled(expression: int | str, symbol: str) -> Callable[[int], int]:
    """The same as a function of one symbol, for what is evaluated on every pulse. ValueError if it is no expression."""
    evaluate(expression, **{symbol: 1 << 40})
    code = compile(f"lambda {symbol}: {expression}", "<manifest>", "eval")
    function: Callable[[int], int] = eval(code, {"__builtins__": {}, "min": min, "max": max})
    return function


def loads(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The manifest from a model's metadata. ValueError if there is none, or one of another version."""
    if KEY not in metadata:
        raise ValueError("it carries no pulsify manifest: it is not a pulsed model")
    found: dict[str, Any] = json.loads(metadata[KEY])
    if found.get("version") != VERSION:
        raise ValueError(f"its manifest is of version {found.get('version')}, this client reads version {VERSION}")
    return found


def rate(manifest: Mapping[str, Any], port: Mapping[str, Any]) -> Fraction:
    """Frames of a streaming input or output (an entry of the manifest) per frame of the stream symbol."""
    pulse, step = manifest["pulse"], int(manifest["pulse_multiple"])
    if isinstance(pulse, int):
        return Fraction(port["frames"], pulse)
    return Fraction(evaluate(port["frames"], **{pulse: step}), step)


def input_delay(manifest: Mapping[str, Any], output: Mapping[str, Any]) -> Fraction | None:
    """The delay of an output in frames of the stream symbol, ``delay / rate``; None where it has no time axis."""
    return None if output["axis"] is None else output["delay"] / rate(manifest, output)


def pulsed_shape(g: Graph, v: ir.Value) -> tuple[Any, ...]:
    """What a wire holds per pulse: ints, or expressions of the batch and the pulse."""
    fact = g.facts[v]
    assert fact.shape is not None
    regions = g.regions.get(v, {})
    return tuple(g.frames(regions[a]) if a in regions else d for a, d in enumerate(fact.shape))


def _number(d: Any) -> int | str:
    return d if isinstance(d, int) else str(d)


def manifest(g: Graph, valid: str | None) -> dict[str, Any]:
    """The manifest of an emitted graph."""
    assert g.pulse is not None
    inputs = []
    names = {slot.past.name for slot in g.slots if slot.past is not None} | ({valid} if valid else set())
    for v in g.graph.inputs:
        if v.name in names:
            continue
        regions = g.regions.get(v, {})
        axis = next(iter(regions), None)
        inputs.append(
            {"name": v.name, "axis": axis, "frames": None if axis is None else _number(g.frames(regions[axis]))}
        )
    outputs = []
    presents = {slot.present.name for slot in g.slots if slot.present is not None}
    for v in g.graph.outputs:
        if v.name in presents:
            continue
        out = g.outputs.get(v.name or "")
        row: dict[str, Any] = dict.fromkeys(("axis", "frames", "delay", "length", "lookahead", "receptive_field"))
        if out is not None:
            row = {
                "axis": out.axis,
                "frames": _number(g.frames(g.regions[v][out.axis])),
                "delay": out.delay,
                "length": _number(out.length),
                "lookahead": out.lookahead,
                "receptive_field": out.receptive_field,
            }
        elif v.name in g.settle:
            row["settle"] = g.settle[v.name]
        outputs.append({"name": v.name, **row})
    states = [
        {
            "input": slot.past.name if slot.past else None,
            "output": slot.present.name if slot.present else None,
            "dtype": slot.state.dtype.numpy().name,
            "shape": list(slot.state.shape),
            "axis": slot.state.axis,
            "batch_axis": slot.state.batch_axis,
            "kind": slot.state.kind,
            "origin": slot.state.origin,
            "in_place": slot.in_place,
        }
        for slot in g.slots
    ]
    return {
        "version": VERSION,
        "symbol": g.symbol,
        "pulse": g.pulse.size,
        "pulse_multiple": g.pulse_multiple,
        "inputs": inputs,
        "outputs": outputs,
        "states": states,
        "state_bytes": state_bytes(g),
        "wire_bytes": wire_bytes(g),
        "valid": {"input": valid} if valid else None,
        "needs": _needs(g),
        "source": g.source,
        "stream": {
            "least": g.assume.least,
            "most": g.assume.most,
            "modulus": g.assume.modulus,
            "conditions": [
                {
                    "node": c.node, "text": c.text, "least": c.least, "most": c.most, "modulus": c.modulus,
                    "remainder": c.remainder,
                }
                for c in g.assume.binding()
            ],
        },
    }


def _needs(g: Graph) -> dict[str, Any] | None:
    """What a runtime must have beyond the operators of the standard: opsets by domain, and the version of onnxruntime
    that has those written for it."""
    used = {node.domain for node in g.graph.all_nodes()} - {"", "ai.onnx"}
    if not used:
        return None
    version = None if g.least_version is None else ".".join(map(str, g.least_version))
    return {"domains": {domain: g.graph.opset_imports.get(domain, 1) for domain in sorted(used)}, "onnxruntime": version}


def state_bytes(g: Graph) -> int:
    """Bytes of all states at batch 1."""
    total = 0
    for slot in g.slots:
        size = 1
        for d in slot.state.shape:
            size *= d if isinstance(d, int) else 1
        total += -(-size * slot.state.dtype.bitwidth // 8)
    return total


def wire_bytes(g: Graph) -> int | None:
    """Bytes of the wires of one pulse at batch 1, of those whose size is known here, which are nearly all; None where
    the pulse is dynamic."""
    if g.pulse is None or not isinstance(g.pulse.size, int):
        return None
    total = 0
    for node in g.graph:
        for v in node.outputs:
            held, fact = g.chunks.get(v), g.facts.get(v)
            if held is not None and fact is not None and fact.dtype.name not in ("STRING", "UNDEFINED"):
                total += prod(d for d in held if isinstance(d, int)) * fact.dtype.bitwidth // 8
    return total


def peek(data: bytes | mmap.mmap) -> dict[str, Any] | None:
    """The manifest in the bytes of a pulsed file, found without parsing the model; None where there is none.

    An entry of a model's metadata is, in protobuf's wire format, the key, the tag 0x12 and the value behind its length.
    """
    at = data.rfind(KEY.encode())
    if at < 0 or data[at + len(KEY) : at + len(KEY) + 1] != b"\x12":
        return None
    at += len(KEY) + 1
    size = shift = 0
    for byte in data[at : at + 5]:
        at, size, shift = at + 1, size | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            break
    text = data[at : at + size]
    try:
        found = json.loads(text) if len(text) == size else None
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def write(g: Graph, valid_frames: ir.Value | None) -> None:
    """Put the manifest into the model's metadata; what else is there is kept."""
    _put(g, valid_frames.name if valid_frames is not None else None)


def rewrite(g: Graph) -> None:
    """Write the manifest of an emitted graph again, after its states were renamed."""
    valid = json.loads(g.model.metadata_props[KEY])["valid"]
    _put(g, valid["input"] if valid else None)


def _put(g: Graph, valid: str | None) -> None:
    g.model.metadata_props[KEY] = json.dumps(manifest(g, valid), separators=(",", ":"))
