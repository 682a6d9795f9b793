"""What tract makes of a model: ``python -m models.peer REQUEST.json`` prints a JSON object with ``outcome``.

The request holds ``path``, ``symbol``, ``pulse``, ``axes`` (time axis of each input) and ``outputs`` (time axis of each
output, null for a static one). Runs in a process of its own, as a native library may abort. Needs ``pip install
tract==0.23.9``. Frames of every streaming output are compared with the batch model, over all offsets up to
:data:`REACH` where tract does not tell the delay: the best one counts, so the error is a lower bound.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["VERSION", "outcome", "pulsed", "reason"]

VERSION = "0.23.9"

#: Pulses fed, and frames of delay looked at.
PULSES, REACH = 40, 400

#: Greatest error that counts as right, relative to the largest value.
RIGHT = 1e-4


def pulsed(request: dict[str, Any]) -> tuple[Any, list[str], list[tuple[list[str], str]]]:
    """The pulsed ``tract.Model`` of a batch model; names of its inputs, shapes and types as tract reads them.

    Raises ``tract.TractError`` where tract refuses it.
    """
    import tract

    axes: dict[str, int] = request["axes"]
    loaded = tract.onnx().load(request["path"])
    names = [loaded.input_name(i) for i in range(loaded.input_count())]
    facts = [str(loaded.input_fact(i)) for i in range(loaded.input_count())]
    dims = []
    for i, (name, fact) in enumerate(zip(names, facts, strict=True)):
        *shape, dtype = fact.split(",")
        if name in axes and shape[axes[name]] != request["symbol"]:
            shape[axes[name]] = request["symbol"]
            loaded.set_input_fact(i, ",".join([*shape, dtype]))
        dims.append((shape, dtype))
    model = loaded.into_model()
    others = {d for shape, _ in dims for d in shape if not d.isdigit() and d != request["symbol"]}
    if others:
        model.transform(tract.transform.SetSymbols(dict.fromkeys(sorted(others), 1)))
    model.transform(tract.transform.Pulse(request["pulse"], symbol=request["symbol"]))
    return model, names, dims


def outcome(request: dict[str, Any]) -> str:
    """One line: refused and why, or the worst error of what came out."""
    try:
        model, names, dims = pulsed(request)
        run = model.into_runnable().spawn_state()
    except Exception as e:
        return "refused: " + reason(e)
    try:
        return _compare(request, run, names, dims)
    except Exception as e:
        return "converts; fails when run: " + reason(e)


def reason(e: Exception) -> str:
    """The first line, and the innermost cause."""
    text = str(e).split("Stack backtrace")[0].strip()
    lines = [line.strip() for line in text.splitlines() if line.strip() and line.strip() != "Caused by:"]
    parts = [lines[0], lines[-1]] if len(lines) > 1 else lines
    return "; ".join(part.replace("|", "/").replace(str(Path.home()), "~")[:110] for part in parts)


def _compare(request: dict[str, Any], run: Any, names: list[str], dims: list[tuple[list[str], str]]) -> str:
    import onnxruntime as ort

    rng, pulse, symbol = np.random.default_rng(0), int(request["pulse"]), request["symbol"]
    length = PULSES * pulse
    kinds = {"f32": np.float32, "i64": np.int64, "i32": np.int32, "f16": np.float16}
    batch = {}
    for name, (shape, dtype) in zip(names, dims, strict=True):
        sizes = [length if d == symbol else int(d) if d.isdigit() else 1 for d in shape]
        whole = kinds[dtype.lower()]
        batch[name] = np.full(sizes, length, whole) if dtype.lower().startswith("i") else rng.standard_normal(sizes).astype(whole)
    session = ort.InferenceSession(request["path"], providers=["CPUExecutionProvider"])
    want = dict(zip([o.name for o in session.get_outputs()], session.run(None, batch), strict=True))
    pieces: list[list[np.ndarray]] = []
    for t in range(PULSES + REACH // pulse + 2):
        fed = []
        for name in names:
            x, axis = batch[name], request["axes"].get(name)
            if axis is not None:
                some = np.take(x, range(t * pulse, (t + 1) * pulse), axis=axis) if t < PULSES else np.zeros_like(np.take(x, range(pulse), axis=axis))
                x = np.ascontiguousarray(some)
            fed.append(x)
        pieces.append([r.to_numpy() for r in run.run(fed)])
    worst = 0.0
    for k, name in enumerate(want):
        axis = request["outputs"].get(name)
        if axis is None:
            continue
        got = np.concatenate([p[k] for p in pieces], axis=axis)
        frames = want[name].shape[axis]
        errors = [
            _error(want[name], np.take(got, range(d, d + frames), axis=axis))
            for d in range(min(REACH, got.shape[axis] - frames) + 1)
        ]
        worst = max(worst, min(errors, default=np.inf))
    verdict = "streams" if worst <= RIGHT else "**wrong**"
    return f"{verdict}, worst error {worst:.1e}"


def _error(want: np.ndarray, got: np.ndarray) -> float:
    if want.shape != got.shape:
        return float("inf")
    gap = float(np.max(np.abs(want.astype(np.float64) - got), initial=0.0))
    return gap / (float(np.max(np.abs(want), initial=0.0)) or 1.0) if np.isfinite(gap) else float("inf")


if __name__ == "__main__":
    print(json.dumps({"outcome": outcome(json.loads(Path(sys.argv[1]).read_text()))}))
