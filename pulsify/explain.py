"""What a model looks like from here, without converting it: axes that may be time, laws, delays, obstacles, states."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from pulsify import contract
from pulsify.dim import slope, symbols_of
from pulsify.errors import InternalError, PulsifyError, Refusal, UsageError
from pulsify.graph import Graph, Pulse
from pulsify.pairs import state_pairs, step_note
from pulsify.pipeline import Options, run
from pulsify.schedule import make_plans
from pulsify.source import Source, read
from pulsify.stages.load import AxisSpec, batchlike, declared_dims, normalize

__all__ = ["Candidate", "Explanation", "OutputLaw", "explain"]

#: Axes of fixed length tried per model.
_MOST_FIXED = 6


@dataclass(frozen=True)
class OutputLaw:
    """One output along one candidate axis; lengths are expressions, the rest is None where it cannot stream."""

    name: str
    shape: tuple[str, ...] | None
    axis: int | None = None
    length: str | None = None
    rate: str | None = None
    delay: int | None = None
    lookahead: int | None = None
    receptive_field: int | None = None


@dataclass
class Candidate:
    """What happens if this axis is time. ``axis`` is what ``--axis`` takes; ``state_bytes_soonest`` what the states would
    take were every delay inside the model the least there is."""

    axis: str
    symbol: str = ""
    outputs: list[OutputLaw] = field(default_factory=list)
    pulse_multiple: int | None = None
    states: list[dict[str, Any]] = field(default_factory=list)
    state_bytes: int | None = None
    state_bytes_soonest: int | None = None
    valid_frames: bool = False
    conditions: list[str] = field(default_factory=list)
    obstacles: list[PulsifyError] = field(default_factory=list)

    @property
    def streams(self) -> bool:
        return not self.obstacles

    @property
    def apart(self) -> bool:
        """Whether every frame of every output depends on one input frame alone, as entries of a batch do."""
        timely = [o for o in self.outputs if o.axis is not None]
        return (
            self.streams and not self.states and len(timely) == len(self.outputs) > 0
            and all(o.rate == "1" and o.lookahead == 0 and o.receptive_field == 1 for o in timely)
        )  # fmt: skip


@dataclass
class Explanation:
    """The whole answer. ``pairs`` are inputs and outputs that look like states the author exposed."""

    inputs: list[str]
    outputs: list[str]
    opset: int
    nodes: int
    operators: dict[str, int]
    candidates: list[Candidate]
    pairs: dict[str, str]
    notes: list[str]


def explain(model: str | os.PathLike[str] | onnx.ModelProto | Source, axis: Sequence[str] = ()) -> Explanation:
    """Look at a model along the given axis, or along every axis that may be time. ModelError if it is unreadable."""
    source = model if isinstance(model, Source) else read(model if isinstance(model, onnx.ModelProto) else Path(model))
    plain = normalize(source)
    # Along every axis from here: old opsets are brought up once.
    source = replace(source, model=plain, edited=True)
    pairs = state_pairs(plain)
    specs = [list(axis)] if axis else _specs(plain, pairs)
    found = [_along(source, spec) for spec in specs]
    operators: dict[str, int] = {}
    for node in plain.graph:
        key = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        operators[key] = operators.get(key, 0) + 1
    notes = []
    shapes = [declared_dims(v) for v in plain.graph.inputs]
    timely = [c for c in found if axis or c.symbol != c.axis or not batchlike(c.axis, shapes)]
    if pairs and not any(c.streams and any(o.axis is not None for o in c.outputs) for c in timely):
        notes.append(step_note(pairs))
    elif pairs:
        notes.append("states the author exposed: " + " ".join(f"--state {a}:{b}" for a, b in pairs.items()))
    return Explanation(
        [_describe(v) for v in plain.graph.inputs],
        [_describe(v) for v in plain.graph.outputs],
        source.opset,
        len(plain.graph),
        dict(sorted(operators.items())),
        found,
        pairs,
        notes,
    )


def _specs(model: ir.Model, pairs: dict[str, str]) -> list[list[str]]:
    """Axes to look along, those like a batch last: symbols that may be time, or else axes of fixed length, of several
    inputs at once where they are equally long. What stands on exposed states alone is no time axis."""
    inputs = [v for v in model.graph.inputs if v.name not in pairs] or list(model.graph.inputs)
    shapes = [declared_dims(v) for v in inputs]
    used = sorted({s for shape in shapes for d in shape or () for s in symbols_of(d)})
    named = sorted(used, key=lambda s: batchlike(s, shapes))
    if any(not batchlike(s, shapes) for s in named):
        return [[s] for s in named]
    fixed: dict[tuple[int, int], list[str]] = {}
    for k, (v, shape) in enumerate(zip(inputs, shapes, strict=True)):
        for a, d in enumerate(shape or ()):
            if isinstance(d, int) and len(shape or ()) > 1:
                # Axis 0 of a file without symbols is its batch as a rule; axes of length 1 say nothing of each other.
                fixed.setdefault((d, 0) if d > 1 and a else (d, 1 + k * 16 + a), []).append(f"{v.name}:{a}")
    alone = sorted(fixed.values(), key=lambda axes: axes[0].endswith(":0"))
    return [*alone[:_MOST_FIXED], *([s] for s in named)]


def _along(source: Source, spec: list[str]) -> Candidate:
    out = Candidate(" --axis ".join(spec))
    seen: list[Graph] = []

    def observe(g: Graph) -> None:
        seen.append(g)
        if g.stage == "type":
            out.symbol = g.symbol
            out.outputs = [_law(g, v) for v in g.graph.outputs]
        if g.stage == "declutter":
            make_plans(g, out.obstacles)

    try:
        g = run(source, Options(AxisSpec.parse(spec), Pulse("P")), observe=observe)
    except (Refusal, UsageError, InternalError) as e:
        if not any(e.what == other.what for other in out.obstacles):
            out.obstacles.append(e)
        return out
    manifest = json.loads(g.model.metadata_props[contract.KEY])
    rows = {o["name"]: o for o in manifest["outputs"]}
    out.outputs = [
        OutputLaw(
            o.name, o.shape, o.axis, o.length, o.rate, *(rows[o.name][k] for k in ("delay", "lookahead", "receptive_field"))
        )
        for o in out.outputs
    ]
    out.pulse_multiple = manifest["pulse_multiple"]
    out.states, out.state_bytes = manifest["states"], manifest["state_bytes"]
    out.state_bytes_soonest = manifest["state_bytes"] + g.spared
    out.valid_frames = manifest["valid"] is not None
    out.conditions = [f"{c.text} (node {c.node})" for c in g.assume.binding()]
    return out


def _law(g: Graph, v: ir.Value) -> OutputLaw:
    fact = g.facts[v]
    shape = None if fact.shape is None else tuple(map(str, fact.shape))
    axes = fact.time_axes(g.symbol)
    if len(axes) != 1 or fact.shape is None:
        return OutputLaw(v.name or "", shape)
    length = fact.shape[axes[0]]
    rate = slope(length, g.symbol)
    return OutputLaw(v.name or "", shape, axes[0], str(length), None if rate is None else str(rate))


def _describe(v: ir.Value) -> str:
    dims = declared_dims(v)
    dtype = v.dtype.name.lower() if v.dtype is not None else "?"
    return f"{v.name} {dtype}[{', '.join(map(str, dims)) if dims is not None else '?'}]"
