"""How many streams one core serves: a batch of rows through one pulse, as a server's sequence batcher makes it.

``python -m benchmarks.fleet`` prints the table of docs/serving.md. Streams per core are those whose pulses a core finishes
in the time that the pulses last: rows * seconds of a pulse / CPU seconds of a call, the least of many, since what others do
on the machine meanwhile is not the model's. Memory is the states' alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnxruntime as ort

from benchmarks.timing import take_turns
from models.registry import fetch
from pulsify import convert
from pulsify.runtime import open_session
from pulsify.triton import rows_first

ROWS = (1, 8, 32, 128)


@dataclass(frozen=True)
class Served:
    """A model with a batch axis, its stream symbol, a pulse, and how many seconds of sound the pulse holds."""

    name: str
    axis: str
    pulse: int
    seconds: float


MODELS = (
    Served("nsnet2", "frames", 1, 0.01),
    Served("nsnet2", "frames", 4, 0.04),
    Served("gigaam_v3_conv", "N", 160, 0.01),
    Served("gigaam_v3_conv", "N", 1600, 0.1),
    Served("resample_48_16", "N", 480, 0.01),
)


def step(session: ort.InferenceSession, rows: int) -> Callable[[], object]:
    """One call with everything bound, for so many rows."""
    rng = np.random.default_rng(0)
    bound = session.io_binding()
    for i in session.get_inputs():
        shape = [d if isinstance(d, int) else rows for d in i.shape]
        whole = i.type == "tensor(int64)"
        value = np.ones(shape, np.int64) if whole else rng.standard_normal(shape).astype(np.float32) * (not i.name.startswith("past_"))
        bound.bind_ortvalue_input(i.name, ort.OrtValue.ortvalue_from_numpy(value))
    for o in session.get_outputs():
        bound.bind_output(o.name)
    return partial(session.run_with_iobinding, bound)


def main() -> None:
    """Print the table."""
    print("| model | pulse | " + " | ".join(f"{n} row{'s' * (n > 1)}" for n in ROWS) + " | state of 1,000 streams |")
    print("|---|---|" + "---|" * (len(ROWS) + 1))
    for m in MODELS:
        done = convert(fetch(m.name), axis=m.axis, pulse=m.pulse)
        rows_first(done.graph)
        session = open_session(done.model.SerializeToString())
        steps = {str(n): step(session, n) for n in ROWS}
        samples = take_turns(steps, seconds=8)
        cells = [f"{n * m.seconds / samples.least(str(n)):,.0f}" for n in ROWS]
        size = done.manifest["state_bytes"] / 1000
        print(f"| {m.name} | {m.pulse} of {m.axis} ({m.seconds * 1000:g} ms) | {' | '.join(cells)} | {size:,.1f} MB |", flush=True)


if __name__ == "__main__":
    main()
