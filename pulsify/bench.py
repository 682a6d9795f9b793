"""What a pulse costs at several sizes: the table from which one picks a pulse.

Measured through the client, one feed of one pulse after the other; the sizes take turns, so that what else the machine
does falls on all of them alike.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from pulsify import contract
from pulsify.api import Conversion
from pulsify.errors import UsageError
from pulsify.replay import legal_length
from pulsify.runtime import StreamSession
from pulsify.stages.verify import batch_session, make_inputs

__all__ = ["Bench", "Cost", "measure"]

#: Calls before anything is measured.
_WARM = 10
#: Seconds of one turn, about; a turn holds at least one call.
_TURN = 0.002
#: Frames of the batch run that the floor is measured on, at least.
_WHOLE = 512


@dataclass(frozen=True)
class Cost:
    """One pulse size. Seconds are per call; ``delay`` and ``latency`` are frames of the stream symbol.

    ``delay`` is the greatest of all outputs; ``latency = pulse + delay`` is how old the start of an output frame is, at
    worst, when the frame comes out.
    """

    pulse: int
    calls: int
    median: float
    p99: float
    delay: Fraction
    latency: Fraction
    state_bytes: int
    nodes: int

    @property
    def per_frame(self) -> float:
        """Seconds per frame of the stream symbol."""
        return self.median / self.pulse

    def load(self, rate: float) -> float:
        """The share of one core that a stream of ``rate`` frames per second takes (the real-time factor)."""
        return self.per_frame * rate

    def keeps_up(self, rate: float) -> bool:
        """Whether all but one call in a hundred are done before the next pulse is there."""
        return self.p99 <= self.pulse / rate


@dataclass(frozen=True)
class Bench:
    """All sizes in the order given. ``whole`` is the batch model's least seconds per frame on runs of ``whole_frames``."""

    symbol: str
    costs: list[Cost]
    whole: float | None
    whole_frames: int

    def least(self, rate: float) -> Cost | None:
        """The smallest pulse that keeps up with ``rate`` frames per second."""
        fine = [c for c in self.costs if c.keeps_up(rate)]
        return min(fine, key=lambda c: c.pulse) if fine else None


class _Track:
    """One pulse size being measured."""

    def __init__(self, conversion: Conversion, seed: int):
        m = conversion.manifest
        self.conversion, self.size = conversion, int(m["pulse"])
        inputs = make_inputs(conversion.batch, self.size, np.random.default_rng(seed))
        streams = {i["name"] for i in m["inputs"] if i["axis"] is not None}
        self.chunk = {n: a for n, a in inputs.items() if n in streams}
        self.session = StreamSession(conversion.open(), static={n: a for n, a in inputs.items() if n not in streams})
        most = (m.get("stream") or {}).get("most")
        self.most = None if most is None else max(1, most // self.size)
        self.seconds: list[float] = []
        self.fed, self.turn = 0, 1

    def call(self) -> float:
        """Seconds of one call. A model that is defined up to some length starts again in time."""
        if self.most is not None and self.fed >= self.most:
            self.session.reset()
            self.fed = 0
        start = time.perf_counter()
        self.session.feed(self.chunk)
        end = time.perf_counter()
        self.fed += 1
        return end - start

    def warm(self) -> None:
        took = [self.call() for _ in range(_WARM)]
        self.turn = max(1, int(_TURN / max(min(took), 1e-9)))

    def cost(self) -> Cost:
        m = self.conversion.manifest
        delays = [d for o in m["outputs"] if (d := contract.input_delay(m, o)) is not None]
        delay = max(delays, default=Fraction(0))
        return Cost(
            self.size, len(self.seconds), float(np.median(self.seconds)), float(np.percentile(self.seconds, 99)), delay,
            self.size + delay, int(m["state_bytes"]), len(self.conversion.graph.graph),
        )  # fmt: skip


def measure(
    conversions: Sequence[Conversion],
    seconds: float = 1.0,
    observe: Callable[[float], None] | None = None,
    seed: int = 0,
) -> Bench:
    """Measure conversions of one model at different fixed pulses, about ``seconds`` each, one stream on one thread.

    ``observe`` is told the share done. UsageError for a dynamic pulse or none at all.
    """
    if not conversions or any(isinstance(c.manifest["pulse"], str) for c in conversions):
        raise UsageError("nothing to measure", why="a cost is one of a pulse of so many frames", hint="--pulse 1 --pulse 8")
    tracks = [_Track(c, seed) for c in conversions]
    whole, frames = _whole(conversions[0], max(t.size for t in tracks), seed)
    wholes: list[float] = []
    for t in tracks:
        t.warm()
    collecting = gc.isenabled()
    gc.disable()
    try:
        spent, total, turn = 0.0, seconds * len(tracks), 0
        while spent < total:
            start = time.perf_counter()
            # Nobody is always the first after the batch model.
            for t in [*tracks[turn % len(tracks) :], *tracks[: turn % len(tracks)]]:
                t.seconds.extend(t.call() for _ in range(t.turn))
            if whole is not None and turn % 8 == 0:
                begun = time.perf_counter()
                whole()
                wholes.append(time.perf_counter() - begun)
            turn += 1
            spent += time.perf_counter() - start
            if observe is not None:
                observe(min(1.0, spent / total))
    finally:
        if collecting:
            gc.enable()
    # A long call is interrupted more often than a short one: its least is what it costs.
    floor = min(wholes) / frames if wholes else None
    return Bench(conversions[0].manifest["symbol"], [t.cost() for t in tracks], floor, frames)


def _whole(c: Conversion, pulse: int, seed: int) -> tuple[Callable[[], Any] | None, int]:
    """A run of the batch model on a recording, and its length; None where it does not run."""
    length = legal_length(c.manifest, max(_WHOLE, 8 * pulse))
    try:
        session = batch_session(c.source, c.batch)
        inputs = make_inputs(c.batch, length, np.random.default_rng(seed))
        session.run(None, inputs)
    except Exception:
        # Some batch models run in no runtime here: then there is no floor to show.
        return None, length
    return lambda: session.run(None, inputs), length
