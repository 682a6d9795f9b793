"""What an ONNX file says of itself, pulsed or not, without compiling anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx_ir as ir

from pulsify import contract
from pulsify.errors import ModelError
from pulsify.graph import subgraphs
from pulsify.source import Source, read

__all__ = ["Inspection", "inspect", "manifest_of"]


@dataclass
class Inspection:
    """The facts. ``manifest`` is None where the file is no pulsed model; sizes are in bytes."""

    path: Path
    bytes: int
    opset: dict[str, int]
    producer: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]
    nodes: int
    operators: dict[str, int]
    weights: int
    weight_bytes: int
    external: bool
    sha256: str
    manifest: dict[str, Any] | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def inspect(path: Path, source: Source | None = None) -> Inspection:
    """Look at a file. ModelError where it is none, or its manifest is of a version this one does not read."""
    source = source or read(path)
    model = source.model
    tensors = [v.const_value for v in model.graph.initializers.values() if v.const_value is not None]
    metadata = dict(model.metadata_props)
    return Inspection(
        path,
        path.stat().st_size,
        {k or "ai.onnx": v for k, v in model.opset_imports.items()},
        " ".join(t for t in (model.producer_name, model.producer_version) if t),
        [_port(v) for v in model.graph.inputs],
        [_port(v) for v in model.graph.outputs],
        len(model.graph),
        _operators(model.graph),
        sum(t.size for t in tensors),
        sum(t.nbytes for t in tensors),
        any(isinstance(t, ir.ExternalTensor) for t in tensors),
        source.sha256,
        _manifest(path, metadata),
        {k: v for k, v in metadata.items() if k != contract.KEY},
    )


def manifest_of(path: Path) -> dict[str, Any] | None:
    """The manifest of a pulsed file; None if it is another model. ModelError if it is none."""
    return _manifest(path, dict(read(path).model.metadata_props))


def _manifest(path: Path, metadata: dict[str, str]) -> dict[str, Any] | None:
    if contract.KEY not in metadata:
        return None
    try:
        return contract.loads(metadata)
    except ValueError as e:
        raise ModelError(
            f"cannot read the manifest of {str(path)!r}", why=str(e), hint="convert the batch model again with this version"
        ) from e


def _operators(graph: ir.Graph) -> dict[str, int]:
    """How many nodes of each operator, those of subgraphs included."""
    count: dict[str, int] = {}
    todo = [graph]
    while todo:
        for node in todo.pop():
            name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            count[name] = count.get(name, 0) + 1
            todo.extend(subgraphs(node))
    return dict(sorted(count.items(), key=lambda row: (-row[1], row[0])))


def _port(v: ir.Value) -> dict[str, Any]:
    shape = None if v.shape is None else [d if isinstance(d, int) else d.value for d in v.shape]
    return {"name": v.name, "dtype": v.dtype.name.lower() if v.dtype is not None else None, "shape": shape}
