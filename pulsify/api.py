"""Convert a model in one call."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from pulsify import contract
from pulsify.errors import UsageError
from pulsify.graph import Graph, Pulse
from pulsify.pipeline import Options, run
from pulsify.stages.load import AxisSpec, Source, read

__all__ = ["Conversion", "convert"]

#: Weights up to this size are written into the file; beyond it a protobuf cannot hold them.
_INLINE = 1 << 31 - 1


@dataclass
class Conversion:
    """A pulsed model: the graph, its manifest, and how long it took (seconds)."""

    graph: Graph
    batch: Graph
    source: Source
    manifest: dict[str, Any]
    seconds: float

    @property
    def model(self) -> onnx.ModelProto:
        """The pulsed model as a protobuf."""
        return ir.to_proto(self.graph.model)

    def save(self, path: str | Path) -> Path:
        """Write the model: to a temporary file beside the target, then moved there. UsageError if that fails."""
        path = Path(path)
        if self.source.path is not None and path.exists() and path.resolve() == self.source.path.resolve():
            raise UsageError(
                f"the output {str(path)!r} is the input", why="the batch model would be lost", hint="-o another file"
            )
        temporary = None
        try:
            handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
            os.close(handle)
            ir.save(self.graph.model, temporary)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except OSError as e:
            raise UsageError(
                f"cannot write {str(path)!r}", why=e.strerror or str(e), hint="choose another place with -o"
            ) from e
        finally:
            if temporary is not None and os.path.exists(temporary):
                os.unlink(temporary)
        return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def convert(
    model: str | Path | onnx.ModelProto,
    *,
    axis: str | Sequence[str] | None = None,
    pulse: int | str = "P",
) -> Conversion:
    """Turn a batch model into a pulsed one.

    ``axis`` is the stream symbol (``"S"``) or axes of inputs (``["x:2"]``); found if left out and there is one
    candidate. ``pulse`` is the number of frames of S per call, or a symbol for a model that takes any.
    Raises UsageError, ModelError, Refusal; never returns a model it does not understand.
    """
    start = time.perf_counter()
    source = read(model)
    spec = AxisSpec.parse([axis] if isinstance(axis, str) else list(axis or ()))
    kept: list[Graph] = []

    def keep(g: Graph) -> None:
        if g.stage == "type":
            kept.append(_snapshot(g))

    g = run(source, Options(spec, Pulse(pulse)), observe=keep)
    manifest = json.loads(g.model.metadata_props[contract.KEY])
    return Conversion(g, kept[0], source, manifest, time.perf_counter() - start)


def _snapshot(g: Graph) -> Graph:
    """What verification needs of the typed batch graph: its inputs and their facts."""
    facts = {v: g.facts[v] for v in (*g.graph.inputs, *g.graph.outputs)}
    return Graph(g.model, g.symbol, g.assume, stage=g.stage, facts=facts, batch=g.batch, source=g.source)
