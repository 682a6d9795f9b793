"""The stages in order, and running them up to one."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import onnx

from pulsify.errors import InternalError, ModelError, PulsifyError, internal
from pulsify.graph import Graph, Pulse
from pulsify.source import Source, fault, read
from pulsify.stages.declutter import declutter
from pulsify.stages.emit import emit
from pulsify.stages.load import AxisSpec, load
from pulsify.stages.optimize import optimize
from pulsify.stages.pulse_v2 import pulse_v2
from pulsify.stages.pulse_v2_declutter import pulse_v2_declutter
from pulsify.stages.pulse_v2_to_type import pulse_v2_to_type
from pulsify.stages.type import infer_types

__all__ = ["LEVELS", "STAGES", "TARGETS", "Level", "Options", "Stage", "Target", "resting_collector", "run"]

#: What the pulsed graph is made good at: ``none`` of it, least time per pulse, or least state bytes.
Level = Literal["none", "speed", "size"]
LEVELS: tuple[Level, ...] = get_args(Level)

#: Whose operators the pulsed graph may use: the standard's alone, or a runtime's own besides.
Target = Literal["onnx", "onnxruntime", "onnxruntime-native"]
TARGETS: tuple[Target, ...] = get_args(Target)


@dataclass(frozen=True, slots=True)
class Options:
    """What a conversion is asked for."""

    axis: AxisSpec = field(default_factory=AxisSpec)
    pulse: Pulse = field(default_factory=lambda: Pulse("P"))
    optimize: Level = "speed"
    target: Target = "onnx"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: its name, what it does in a line, and the function."""

    name: str
    doc: str
    run: Callable[[Graph, Options], Graph]


STAGES = (
    Stage("load", "the model as read: functions inlined, opset 18 or later, the time axis declared", lambda g, o: g),
    Stage("type", "the shape of every wire as an expression of the stream symbol", lambda g, o: infer_types(g)),
    Stage("declutter", "constants folded, shape arithmetic gone, padding along time in Pad nodes", lambda g, o: declutter(g)),
    Stage("pulse-v2", "one pulse per call: PulseV2Buffer, PulseV2Pad and PulseV2Slice visible", lambda g, o: pulse_v2(g, o.pulse, o.optimize != "none")),
    Stage("pulse-v2-to-type", "the pulsed graph typed on its own, what each wire holds per pulse", lambda g, o: pulse_v2_to_type(g)),
    Stage("pulse-v2-declutter", "one Delay per wire, slices gone, masks where the ends matter", lambda g, o: pulse_v2_declutter(g)),
    Stage("optimize", "smaller and faster, the same numbers", lambda g, o: optimize(g, o.optimize, o.target)),
    Stage("emit", "standard ONNX: states as inputs and outputs, the manifest", lambda g, o: emit(g)),
)


#: Objects that conversions have made since full collection number ``_looked``, and how many may wait for the next one.
_unseen, _looked, _MOST_UNSEEN = 0, 0, 500_000


@contextmanager
def resting_collector() -> Iterator[None]:
    """No garbage collection inside: graphs are many small objects that all live to the end, and looking for garbage
    among them costs a fifth of the time. Behind it they count as old, so that the next small collection does not go through them."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            _age()
            gc.enable()


def _age() -> None:
    """Move what is young to the oldest generation, by way of the permanent one. Not if the caller keeps that for himself, nor if much
    waits there: the next full collection comes by what the small ones have seen."""
    global _unseen, _looked
    looked = gc.get_stats()[-1]["collections"]
    if looked != _looked:
        _unseen, _looked = 0, looked
    if gc.get_freeze_count() or _unseen > _MOST_UNSEEN:
        return
    _unseen += gc.get_count()[0]
    gc.freeze()
    gc.unfreeze()


def run(
    model: str | Path | onnx.ModelProto | Source,
    options: Options,
    until: str = "emit",
    observe: Callable[[Graph], None] | None = None,
) -> Graph:
    """Run the stages up to ``until``; ``observe`` is called after each.

    Raises PulsifyError. Anything else that goes wrong is a ModelError where onnx's checker rejects the model, and
    otherwise ours: an InternalError naming the stage.
    """
    names = [s.name for s in STAGES]
    assert until in names, until
    source = model if isinstance(model, Source) else read(model)
    stage = "load"
    try:
        with resting_collector():
            g = load(source, options.axis)
            for s in STAGES[: names.index(until) + 1]:
                stage = s.name
                g = s.run(g, options)
                g.stage = s.name
                if observe is not None:
                    observe(g)
    except Exception as e:
        if isinstance(e, PulsifyError) and not isinstance(e, InternalError):
            raise
        wrong = fault(source)
        if wrong is not None:
            raise ModelError(
                "the model is invalid", why=f"onnx's checker says: {wrong}", hint="export the model again, or repair it"
            ) from e
        error = e if isinstance(e, InternalError) else internal(f"internal error in stage {stage}", e)
        error.stage = stage
        if error is e:
            raise
        raise error from e
    return g
