"""What the Python client costs: ``make bench-client`` (or ``python -m benchmarks.client``).

The first table: a pulse of the reference WaveNet through the emitted model bound once, and through ``StreamSession.feed``.
The second: ``StreamBatch`` on the same model with a batch axis; CPU time for a row and a pulse, and how many streams of
100 frames a second one core serves at that rate. Either all rows have a pulse at every call, or every second of them in
turn, so that all states move between calls.

CPU time of one thread, medians; contenders take turns (``benchmarks.timing``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from benchmarks.contenders import Bound, Client
from benchmarks.timing import take_turns
from models import wavenet
from pulsify import StreamBatch, convert
from pulsify.runtime import open_session

PULSES = (1, 4, 16, 64)
ROWS = (1, 8, 32, 128)
#: Frames of features a second: one every 10 ms.
RATE = 100
SECONDS = 8.0


def overhead(seconds: float) -> None:
    """Print the table of single streams as Markdown."""
    print("| pulse | bound once | StreamSession | overhead |")
    print("|---|---|---|---|")
    for pulse in PULSES:
        done = convert(wavenet.build(), axis="S", pulse=pulse)
        bound, client = Bound(done.model, done), Client(done.model.SerializeToString(), done)
        samples = take_turns({"bound": bound.step, "client": client.step}, seconds)
        a, b = (1e6 * samples.median(name) for name in ("bound", "client"))
        print(f"| {pulse} | {a:.0f} us | {b:.0f} us | {100 * (samples.ratio('client', 'bound') - 1):.1f} % |", flush=True)


def batch_step(client: StreamBatch, rows: int, chunk: Mapping[str, np.ndarray], alternate: bool) -> Callable[[], object]:
    """A call with a pulse for all of so many new rows, or for every second one in turn."""
    all_rows = [client.add() for _ in range(rows)]
    sets = [dict.fromkeys(all_rows[k::2], chunk) for k in range(2)] if alternate else [dict.fromkeys(all_rows, chunk)]
    turn = 0

    def step() -> object:
        nonlocal turn
        turn += 1
        return client.feed(sets[turn % len(sets)])

    return step


def batches(seconds: float) -> None:
    """Print the table of batches as Markdown."""
    print("| pulse | rows | a row and pulse | streams per core | in turn: a row and pulse | streams per core |")
    print("|---|---|---|---|---|---|")
    for pulse in PULSES:
        done = convert(wavenet.build(batch=True), axis="S", pulse=pulse)
        session = open_session(done.model.SerializeToString())
        chunk = {"features": np.random.default_rng(0).standard_normal((1, pulse, wavenet.FEATURES)).astype(np.float32)}
        for rows in ROWS:
            steps = {"all": batch_step(StreamBatch(session), rows, chunk, False)}
            if rows > 1:
                steps["in turn"] = batch_step(StreamBatch(session), rows, chunk, True)
            samples = take_turns(steps, seconds)
            cells = []
            for name, share in (("all", rows), ("in turn", rows // 2)):
                if name in steps:
                    each = samples.median(name) / share
                    cells += [f"{1e6 * each:.0f} us", f"{pulse / RATE / each:,.0f}"]
                else:
                    cells += ["-", "-"]
            print(f"| {pulse} | {rows} | {' | '.join(cells)} |", flush=True)


def main(seconds: float = SECONDS) -> None:
    """Print both."""
    overhead(seconds)
    print()
    batches(seconds / 4)


if __name__ == "__main__":
    main()
