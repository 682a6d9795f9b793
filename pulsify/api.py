"""Convert a model in one call."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir as ir

from pulsify import contract
from pulsify.adapt import Changes, adapt, outputs_that_work
from pulsify.errors import PulsifyError, Refusal, UsageError
from pulsify.files import check_target, place, place_all, writing
from pulsify.graph import Graph, Pulse
from pulsify.naming import Naming
from pulsify.pairs import state_pairs, step_note
from pulsify.pipeline import LEVELS, TARGETS, Level, Options, Target, resting_collector, run
from pulsify.source import Source, read
from pulsify.stages.load import AxisSpec
from pulsify.unbake import baked_crop

if TYPE_CHECKING:
    from pulsify.stages.verify import Report

__all__ = ["Conversion", "convert", "parse_level", "parse_pulse", "parse_target"]

#: Weights up to this size are written into the file. A protobuf holds 2 GiB, the graph itself included.
INLINE = (1 << 31) - (64 << 20)


@dataclass
class Conversion:
    """A pulsed model: the graph, its manifest, how long it took (seconds), and the verification once there was one."""

    graph: Graph
    batch: Graph
    source: Source
    manifest: dict[str, Any]
    seconds: float
    report: Report | None = None

    @property
    def model(self) -> onnx.ModelProto:
        """The pulsed model as a protobuf."""
        with resting_collector():
            return ir.to_proto(self.graph.model)

    def verify(self, seed: int = 0) -> Report:
        """Stream the pulsed model and compare every frame with the batch model, in onnxruntime.

        Raises VerificationError on the first disagreement.
        """
        if not self._external():
            return self._verify(self._bytes(), seed)
        with tempfile.TemporaryDirectory(prefix="pulsify-") as folder:
            return self._verify(self._stage(Path(folder) / "model.onnx"), seed)

    def save(self, path: str | os.PathLike[str], *, verify: bool = False, seed: int = 0) -> Path:
        """Write the model, all of it or nothing; with ``verify``, only after what is written was verified.

        Weights that are external in the batch model, or too large for one file, go to ``<path>.data`` beside it.
        Raises UsageError where it cannot be written or is the batch model itself, VerificationError.
        """
        target = check_target(path, self.source.path)
        if not self._external():
            data = self._bytes()
            if verify:
                self._verify(data, seed)
            place(data, target)
            return target
        check_target(f"{target}.data")
        self._keep_weights(Path(f"{target}.data"))
        with writing(target), tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            staged = self._stage(Path(folder) / target.name)
            if verify:
                self._verify(staged, seed)
            place_all(Path(folder), target)
        return target

    def open(self, options: Any = None) -> Any:
        """The pulsed model in an onnxruntime session, with nothing left on disk."""
        from pulsify.runtime import open_session

        if not self._external():
            return open_session(self._bytes(), options)
        with tempfile.TemporaryDirectory(prefix="pulsify-") as folder:
            return open_session(self._stage(Path(folder) / "model.onnx"), options)

    def _verify(self, pulsed: bytes | Path, seed: int) -> Report:
        from pulsify.stages.verify import verify

        self.report = verify(self.source, self.batch, pulsed, seed)
        return self.report

    def _bytes(self) -> bytes:
        data: bytes = self.model.SerializeToString(deterministic=True)
        return data

    def _external(self) -> bool:
        """Whether the weights go to a file of their own."""
        tensors = [v.const_value for v in self.graph.model.graph.initializers.values() if v.const_value is not None]
        return any(isinstance(t, ir.ExternalTensor) for t in tensors) or sum(t.nbytes for t in tensors) > INLINE

    def _stage(self, path: Path) -> Path:
        ir.save(self.graph.model, path, external_data=f"{path.name}.data")
        return path

    def _keep_weights(self, target: Path) -> None:
        """UsageError if ``target`` holds weights of the batch model."""
        for value in self.graph.model.graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor) and target.exists() and os.path.samefile(target, tensor.path):
                raise UsageError(
                    f"the weights would go to {str(target)!r}",
                    why="the batch model keeps its own weights there",
                    hint="-o another file",
                )


@resting_collector()
def convert(
    model: str | os.PathLike[str] | onnx.ModelProto,
    *,
    axis: str | Sequence[str] | None = None,
    pulse: int | str = "P",
    changes: Changes | None = None,
    optimize: str = "speed",
    target: str = "onnx",
    naming: Naming | None = None,
) -> Conversion:
    """Turn a batch model into a pulsed one.

    ``axis`` is the stream symbol (``"S"``) or axes of inputs (``["x:2"]``); found if left out and there is one
    candidate. ``pulse`` is the number of frames of S per call, or a symbol for a model that takes any. ``changes``
    are made to the batch model first. ``optimize`` makes the pulsed model fast (``speed``), its states small
    (``size``), or leaves it as the stages before made it (``none``). ``target`` is ``onnx`` for a model of standard
    operators, or ``onnxruntime`` to let it use that runtime's own where they are faster. ``naming`` names the states
    otherwise.
    Raises UsageError, ModelError, Refusal; never returns a model it does not understand.
    """
    start = time.perf_counter()
    spec = AxisSpec.parse([axis] if isinstance(axis, str) else list(axis or ()))
    options = Options(spec, parse_pulse(pulse), parse_level(optimize), parse_target(target))
    source = read(model if isinstance(model, onnx.ModelProto) else Path(model))
    if changes is not None:
        source = adapt(source, changes, options.axis)
    kept: list[Graph] = []
    timely: set[str | None] = set()

    def keep(g: Graph) -> None:
        if g.stage == "load":
            timely.update(v.name for v in g.graph.inputs if g.time_axes(v))
        if g.stage == "type":
            kept.append(_snapshot(g))

    try:
        g = run(source, options, observe=keep)
    except (Refusal, UsageError) as e:
        more = _more_hints(source, options, e, timely)
        if more:
            raise type(e)(e.what, why=e.why, wire=e.wire, hint=[*e.hints, *more]) from e
        raise
    if naming is not None:
        naming.apply(g)
    manifest = json.loads(g.model.metadata_props[contract.KEY])
    return Conversion(g, kept[0], source, manifest, time.perf_counter() - start)


def _more_hints(source: Source, options: Options, e: PulsifyError, timely: Collection[str | None]) -> list[str]:
    """What the whole model suggests where it does not convert; ``timely``: its inputs that stream, which are no states."""
    out = []
    if isinstance(e, Refusal) and e.baked:
        crop = baked_crop(source, options.axis)
        if crop is not None:
            out.append(f"--unbake, which lets Slice node {crop.node!r} count its last frame from the end of the stream")
    if isinstance(e, Refusal):
        fine = outputs_that_work(source, lambda s: _runs(s, options))
        if fine:
            out.append(f"the other outputs alone: --outputs {','.join(fine)}")
    pairs = {a: b for a, b in state_pairs(source.model).items() if a not in timely}
    if pairs:
        out.append(f"{step_note(pairs)}; `pulsify explain` tells more")
    return out


def _runs(source: Source, options: Options) -> bool:
    """Whether what is left converts, and has to do with the stream at all."""
    try:
        g = run(source, options)
    except PulsifyError:
        return False
    return bool(g.outputs or g.settle)


def parse_pulse(pulse: int | str) -> Pulse:
    """A pulse from an int, its digits, or the name of a dynamic dimension. UsageError if it is none of them."""
    if isinstance(pulse, str):
        if re.fullmatch(r"[A-Za-z_]\w*", pulse, re.ASCII):
            return Pulse(pulse)
        if not re.fullmatch(r"[+-]?\d+", pulse, re.ASCII):
            raise UsageError(
                f"a pulse of {pulse!r}",
                why="a pulse is a whole number of frames, or the name of a dimension",
                hint="--pulse 4, or --pulse P for a model that takes any pulse",
            )
        pulse = int(pulse)
    if pulse < 1:
        raise UsageError(
            f"a pulse of {pulse} frames", why="a pulse holds at least one frame", hint="a pulse of 1 or more"
        )
    return Pulse(pulse)


def parse_level(name: str) -> Level:
    """A level of optimization by its name. UsageError if it is none."""
    for level in LEVELS:
        if name == level:
            return level
    raise UsageError(f"optimize {name!r}", why=f"the levels are {', '.join(LEVELS)}", hint="--optimize size")


def parse_target(name: str) -> Target:
    """A target by its name. UsageError if it is none."""
    for target in TARGETS:
        if name == target:
            return target
    raise UsageError(f"target {name!r}", why=f"the targets are {', '.join(TARGETS)}", hint="--target onnx, which runs everywhere")


def _snapshot(g: Graph) -> Graph:
    """What verification needs of the typed batch graph: its inputs, its outputs and their facts. Later stages rewrite
    the graph itself."""
    facts = {}
    ends: list[list[ir.Value]] = [[], []]
    for copies, values in zip(ends, (g.graph.inputs, g.graph.outputs), strict=True):
        for v in values:
            copy = ir.Value(name=v.name, type=v.type, shape=v.shape)
            facts[copy] = g.facts[v]
            copies.append(copy)
    model = ir.Model(ir.Graph(*ends, nodes=[], name=g.graph.name), ir_version=g.model.ir_version)
    return Graph(model, g.symbol, g.assume, stage=g.stage, facts=facts, batch=g.batch, source=g.source)
