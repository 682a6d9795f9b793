"""What each rewrite of the optimize stage is worth: ``python -m benchmarks.rewrites``.

Every model is converted with all of them, and with one left out; both run in turns. The figures are the time of a pulse
with the rewrite to that without it (below 1: it pays), medians of CPU time over the rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from math import inf
from unittest import mock

import click
import onnx

from benchmarks.cases import entries
from benchmarks.contenders import Bound
from benchmarks.timing import take_turns
from pulsify.api import convert
from pulsify.rewrites import _region, drop_dead, shared_memory
from pulsify.stages import optimize
from pulsify.stages._counters import Counters

#: Models, and their pulses in the least legal one.
MODELS = {
    **dict.fromkeys(("wavenet", "chain-64", "chain-128", "hifigan", "crn", "conformer", "conformer-rms", "fsmn_vad", "dtln_1", "pulsevad_teacher"), (1, 8, 64)),
    **dict.fromkeys(("wavenet-batch", "tcn", "tcn-batch"), (1, 8, 64)),
    **dict.fromkeys(("gigaam_v3_conv", "resample_44_16", "wespeaker", "swift_f0"), (1, 8, 64)),
}


def _without(*left_out: Callable[..., int]) -> AbstractContextManager[object]:
    kept = tuple(r for r in optimize.REWRITES["speed"] if r not in left_out)
    return mock.patch.dict(optimize.REWRITES, {"speed": kept})


def _moved() -> AbstractContextManager[object]:
    kept = tuple(shared_memory.without_rings if r is shared_memory.apply else r for r in optimize.REWRITES["speed"])
    return mock.patch.dict(optimize.REWRITES, {"speed": kept})


#: How to leave a rewrite out: those of the stage by their files, and parts of some.
REWRITES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    r.__module__.rpartition(".")[2]: partial(_without, r)
    for r in optimize.REWRITES["speed"]
    if r not in (drop_dead.apply, shared_memory.apply)
} | {
    "shared_memory": lambda: mock.patch.object(shared_memory, "_groups", lambda g: {}),
    "rings": _moved,
    "regions lifted": lambda: mock.patch.object(_region._Search, "least", lambda self, region: inf),
    "masks together": lambda: mock.patch.object(Counters, "expect", lambda self, *place: None),
}


def rows(names: list[str], seconds: float) -> Iterator[list[str]]:
    """Model, pulse, and a ratio for each rewrite that changes the model."""
    for entry in entries(names or list(MODELS)):
        batch = entry.batch()
        model = batch if isinstance(batch, onnx.ModelProto) else str(batch)
        for times in MODELS[entry.name]:
            pulse = times * entry.legal
            every = convert(model, axis=entry.axis, pulse=pulse)
            data = every.model.SerializeToString(deterministic=True)
            ways = {"all": Bound(every.model, every)}
            for name, leave_out in REWRITES.items():
                with leave_out():
                    done = convert(model, axis=entry.axis, pulse=pulse)
                other = done.model.SerializeToString(deterministic=True)
                if other != data:
                    ways[name] = Bound(done.model, done)
            samples = take_turns({k: w.step for k, w in ways.items()}, seconds * len(ways))
            yield [entry.name, str(pulse), ", ".join(f"`{k}` {samples.ratio('all', k):.2f}" for k in REWRITES if k in ways) or "-"]


@click.command()
@click.option("--model", multiple=True, type=click.Choice(list(MODELS)), help="Only these models.")
@click.option("--seconds", default=1.0, show_default=True, help="Seconds per contender.")
def main(model: tuple[str, ...], seconds: float) -> None:
    """Print the table as Markdown."""
    click.echo("| model | pulse | time with a rewrite to that without it |\n|---|---|---|")
    for row in rows(list(model), seconds):
        click.echo(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
