"""Time of several things that are compared with each other, on a machine that does other things meanwhile.

CPU time of this process, all threads of it, so that waiting for a core does not count and a helper thread does. Contenders
take turns in blocks of a few milliseconds, so that all see the same machine; a ratio is the median over the rounds of the
ratio within a round, which what is slower or faster for seconds does not change.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Samples", "take_turns"]

Step = Callable[[], object]

#: Rounds at least, however slow a contender is.
LEAST_ROUNDS = 5


@dataclass(frozen=True)
class Samples:
    """Seconds per call of each contender, one number per round; contenders that were left out of a round have None."""

    rounds: Mapping[str, list[float | None]]

    def median(self, name: str) -> float:
        """Median seconds per call."""
        return statistics.median(self._of(name))

    def least(self, name: str) -> float:
        """Least seconds per call."""
        return min(self._of(name))

    def ratio(self, a: str, b: str) -> float:
        """Median over the rounds of a to b."""
        return statistics.median(self._ratios(a, b))

    def spread(self, a: str, b: str) -> float:
        """Half the range in which the middle half of those ratios lies, relative to the median."""
        ratios = self._ratios(a, b)
        if len(ratios) < 4:
            return float("nan")
        low, middle, high = statistics.quantiles(ratios, n=4)
        return (high - low) / 2 / middle

    def _of(self, name: str) -> list[float]:
        return [t for t in self.rounds[name] if t is not None]

    def _ratios(self, a: str, b: str) -> list[float]:
        return [s / t for s, t in zip(self.rounds[a], self.rounds[b], strict=True) if s is not None and t is not None]


def take_turns(steps: Mapping[str, Step], seconds: float, seldom: frozenset[str] = frozenset(), block: float = 0.003) -> Samples:
    """Call every step over and over, in turns of ``block`` seconds, for about ``seconds`` in all.

    Those in ``seldom`` take part in every fourth round only: references that need no precision.
    """
    cost = {name: _cost(step) for name, step in steps.items()}
    calls = {name: max(1, round(block / c)) for name, c in cost.items()}
    per_round = sum(calls[n] * c / (4 if n in seldom else 1) for n, c in cost.items())
    count = max(LEAST_ROUNDS, round(seconds / per_round))
    rounds: dict[str, list[float | None]] = {name: [] for name in steps}
    names = list(steps)
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for k in range(count):
            turn = k % len(names)
            for name in (*names[turn:], *names[:turn]):
                if name in seldom and k % 4:
                    rounds[name].append(None)
                    continue
                rounds[name].append(_block(steps[name], calls[name]) / calls[name])
    finally:
        if collecting:
            gc.enable()
    return Samples(rounds)


def _block(step: Step, calls: int) -> float:
    start = time.process_time_ns()
    for _ in range(calls):
        step()
    return (time.process_time_ns() - start) * 1e-9


def _cost(step: Step) -> float:
    """Seconds per call, roughly, once warm."""
    step()
    calls, spent = 1, 0.0
    while spent < 0.002:
        spent = _block(step, calls)
        calls *= 2
    return spent / (calls // 2)
