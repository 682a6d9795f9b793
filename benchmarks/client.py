"""What the client costs: ``python -m benchmarks.client``.

Calls of the two sides alternate one by one, so that whatever else the machine does falls on both; medians of single
calls. One thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import onnxruntime as ort

from models import wavenet
from pulsify import StreamSession, convert
from pulsify.runtime import open_session

CALLS = 4000
PULSES = (1, 4, 16, 64)


def bare(session: ort.InferenceSession, manifest: dict, x: np.ndarray) -> Callable[[], object]:  # type: ignore[type-arg]
    """The least that a program can do: everything bound once, states in two sets that change places."""
    (i,), (o,) = manifest["inputs"], manifest["outputs"]
    y = np.zeros(list(session.get_outputs()[0].shape), np.float32)
    sets = [[np.zeros(s["shape"], s["dtype"]) for s in manifest["states"]] for _ in range(2)]
    ios = [session.io_binding(), session.io_binding()]
    for k, io in enumerate(ios):
        io.bind_input(i["name"], "cpu", 0, x.dtype.type, x.shape, x.ctypes.data)
        io.bind_output(o["name"], "cpu", 0, y.dtype.type, y.shape, y.ctypes.data)
        for s, past, present in zip(manifest["states"], sets[k], sets[1 - k], strict=True):
            io.bind_input(s["input"], "cpu", 0, past.dtype.type, past.shape, past.ctypes.data)
            io.bind_output(s["output"], "cpu", 0, present.dtype.type, present.shape, present.ctypes.data)
    run, turn = session.run_with_iobinding, 0

    def call() -> object:
        nonlocal turn
        run(ios[turn])
        turn = 1 - turn
        return x, y, sets

    return call


def medians(*calls: Callable[[], object], n: int = CALLS) -> list[float]:
    """Microseconds of each call, one after the other ``n`` times."""
    clock = time.perf_counter_ns
    taken = np.zeros((n, len(calls)))
    for row in taken:
        for k, call in enumerate(calls):
            start = clock()
            call()
            row[k] = clock() - start
    return [float(m) / 1000 for m in np.median(taken[n // 10 :], axis=0)]


def main() -> None:
    """Print the table as Markdown."""
    print("| pulse | bare bound session | StreamSession | overhead |")
    print("|---|---|---|---|")
    for pulse in PULSES:
        c = convert(wavenet.build(), axis="S", pulse=pulse)
        session = open_session(c.model.SerializeToString())
        x = np.random.default_rng(0).standard_normal((pulse, wavenet.FEATURES)).astype(np.float32)
        client = StreamSession(session)
        a, b = medians(bare(session, c.manifest, x), lambda client=client, x=x: client.feed(features=x))
        print(f"| {pulse} | {a:.1f} us | {b:.1f} us | {100 * (b / a - 1):.1f} % |", flush=True)


if __name__ == "__main__":
    main()
