"""What the Python client costs: ``make bench-client`` (or ``python -m benchmarks.client``).

The first table: a pulse of the reference WaveNet through the emitted model bound once, and through ``StreamSession.feed``.
The second: ``StreamBatch`` on the same model with a batch axis; CPU time for a row and a pulse, and how many streams of
100 frames a second one core serves at that rate. Either all rows have a pulse at every call, or every second of them in
turn, so that all states move between calls.

CPU time of one thread; contenders take turns (``benchmarks.timing``). The least of the blocks in the first table, whose
difference is smaller than what neighbours on the machine add; medians in the second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from benchmarks.timing import take_turns
from models import wavenet
from pulsify import StreamBatch, StreamSession, convert
from pulsify.runtime import open_session

PULSES = (1, 4, 16, 64)
ROWS = (1, 8, 32, 128)
#: Frames of features a second: one every 10 ms.
RATE = 100
SECONDS = 8.0


def bare(session: ort.InferenceSession, manifest: Mapping[str, Any]) -> Callable[[], object]:
    """The least a program can do: onnxruntime's own arrays bound once, states in two sets that change places."""

    def value(shape: Sequence[int], dtype: str) -> ort.OrtValue:
        made = ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.dtype(dtype).type, "cpu", 0)
        made.update_inplace(np.zeros(shape, dtype))
        return made

    x, y = (value(port.shape, "float32") for port in (session.get_inputs()[0], session.get_outputs()[0]))
    first = [value(s["shape"], s["dtype"]) for s in manifest["states"]]
    second = [a if s.get("in_place") else value(s["shape"], s["dtype"]) for a, s in zip(first, manifest["states"], strict=True)]
    bindings = []
    for past, present in ((first, second), (second, first)):
        io = session.io_binding()
        io.bind_ortvalue_input(session.get_inputs()[0].name, x)
        io.bind_ortvalue_output(session.get_outputs()[0].name, y)
        for s, a, b in zip(manifest["states"], past, present, strict=True):
            io.bind_ortvalue_input(s["input"], a)
            io.bind_ortvalue_output(s["output"], b)
        bindings.append(io)
    now, after = bindings
    run = session.run_with_iobinding

    def step() -> object:
        nonlocal now, after
        run(now)
        now, after = after, now
        return first, second

    return step


def overhead(seconds: float) -> None:
    """Print the table of single streams as Markdown. Both sides run the same onnxruntime session."""
    print("| pulse | bound once | StreamSession | overhead |")
    print("|---|---|---|---|")
    for pulse in PULSES:
        done = convert(wavenet.build(), axis="S", pulse=pulse)
        session = open_session(done.model.SerializeToString())
        client = StreamSession(session)
        chunk = np.random.default_rng(0).standard_normal((pulse, wavenet.FEATURES)).astype(np.float32)
        steps = {"bound": bare(session, done.manifest), "client": lambda client=client, chunk=chunk: client.feed(features=chunk)}
        samples = take_turns(steps, seconds)
        a, b = (1e6 * samples.least(name) for name in ("bound", "client"))
        print(f"| {pulse} | {a:.0f} us | {b:.0f} us | {100 * (b / a - 1):.1f} % |", flush=True)


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
