"""What each rewrite of the optimize stage is worth: ``python -m benchmarks.rewrites``.

Every model is converted with all of them, and with one left out; both run in turns. The figures are the time of a pulse
with the rewrite to that without it (below 1: it pays), medians of CPU time over the rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from unittest import mock

import click

from benchmarks.cases import entries
from benchmarks.contenders import Bound
from benchmarks.timing import take_turns
from pulsify.api import convert
from pulsify.rewrites import frame_rows, masks_as_products, shared_memory, sums_of_products
from pulsify.stages import optimize
from pulsify.stages._counters import Counters

MODELS, PULSES = ("wavenet", "chain-64", "chain-128", "hifigan"), (1, 8, 64)


def _without(*left_out: Callable[..., int]) -> AbstractContextManager[object]:
    kept = tuple(r for r in optimize.REWRITES["speed"] if r not in left_out)
    return mock.patch.dict(optimize.REWRITES, {"speed": kept})


def _moved() -> AbstractContextManager[object]:
    kept = tuple(shared_memory.without_rings if r is shared_memory.apply else r for r in optimize.REWRITES["speed"])
    return mock.patch.dict(optimize.REWRITES, {"speed": kept})


#: How to leave a rewrite out.
REWRITES: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "frame_rows": lambda: _without(frame_rows.apply),
    "shared_memory": lambda: mock.patch.object(shared_memory, "_groups", lambda g: {}),
    "rings": _moved,
    "sums_of_products": lambda: _without(sums_of_products.apply),
    "masks_as_products": lambda: _without(masks_as_products.apply),
    "masks together": lambda: mock.patch.object(Counters, "expect", lambda self, *place: None),
}


def rows(seconds: float) -> Iterator[list[str]]:
    """Model, pulse, and a ratio per rewrite."""
    for entry in entries(list(MODELS)):
        model = entry.batch()
        for pulse in PULSES:
            every = convert(model, axis="S", pulse=pulse)
            data = every.model.SerializeToString(deterministic=True)
            ways = {"all": Bound(every.model, every)}
            for name, leave_out in REWRITES.items():
                with leave_out():
                    done = convert(model, axis="S", pulse=pulse)
                other = done.model.SerializeToString(deterministic=True)
                if other != data:
                    ways[name] = Bound(done.model, done)
            samples = take_turns({k: w.step for k, w in ways.items()}, seconds * len(ways))
            yield [entry.name, str(pulse), *(f"{samples.ratio('all', k):.2f}" if k in ways else "-" for k in REWRITES)]


@click.command()
@click.option("--seconds", default=1.0, show_default=True, help="Seconds per contender.")
def main(seconds: float) -> None:
    """Print the table as Markdown."""
    click.echo(f"| model | pulse | {' | '.join(REWRITES)} |")
    click.echo("|---" * (2 + len(REWRITES)) + "|")
    for row in rows(seconds):
        click.echo(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
