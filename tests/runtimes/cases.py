"""The models that go through every runtime, with a stream each and what the batch model makes of it."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from models import conformer, crn, depthwise, hifigan, wavenet
from models import recurrent as recurrent_layers
from models.registry import fetch
from pulsify import convert
from pulsify.stages.verify import batch_session
from tests.graphs import G
from tests.rewrites.test_narrow_histories import Quantised
from tests.test_runtime import PADDED

#: Largest difference from the batch model, in parts of the output's largest value. Every runtime has its own kernels.
TOLERANCE = 1e-5


def recurrent() -> onnx.ModelProto:
    """A padded convolution, a GRU and an LSTM: garbage before the first frame must not reach their states."""
    g = G(seed=3)
    x = g.input("x", ["N", 6, "S"])
    y = g("Transpose", g("Conv", x, g.weight(8, 6, 3), g.weight(8), pads=[1, 1]), perm=[2, 0, 1])
    y = g("GRU", y, g.weight(1, 15, 8), g.weight(1, 15, 5), g.weight(1, 30), n=2, hidden_size=5, linear_before_reset=1)[0]
    y = g("Squeeze", y, g.ints(1))
    y = g("LSTM", y, g.weight(1, 16, 5), g.weight(1, 16, 4), g.weight(1, 32), n=3, hidden_size=4)[0]
    return g.model(g("Transpose", g("Squeeze", y, g.ints(1)), perm=[1, 2, 0]))


def summing() -> onnx.ModelProto:
    """A running mean over time and a mean over the whole stream, the latter an output without a time axis."""
    g = G(seed=4)
    x = g.input("x", ["N", 3, "S"])
    y = g("Relu", g("Conv", x, g.weight(4, 3, 3), pads=[1, 1]))
    return g.model(g("CumSum", y, g.const(2, np.int64)), g("ReduceMean", y, g.ints(2), keepdims=0))


def scales() -> onnx.ModelProto:
    """Scales and shifts per channel that go into no product."""
    g = G(seed=5)
    y = g("Relu", g("Conv", g.input("x", ["N", 4, "S"]), g.weight(8, 4, 3), g.weight(8), pads=[1, 1]))
    y = g("Sin", g("Add", g("Mul", y, g.weight(8, 1)), g.weight(8, 1)))
    y = g("BatchNormalization", y, g.weight(8), g.weight(8), g.weight(8), g.const(np.full(8, 0.5, np.float32)))
    return g.model(g("Conv", y, g.weight(2, 8, 3), pads=[1, 1]))


def quantised() -> onnx.ModelProto:
    """A wire of eight bits with a history, padded by its zero point; what it becomes is not rounded again."""
    n = Quantised(np.uint8, 113, seed=6)
    q = n.narrow(n.g.input("x", ["N", 4, "S"]))
    return n.g.model(n.conv(q, 4, 3, [1, 1]), n.conv(q, 4, 3, [4, 0], dilations=[2]))


@dataclass(frozen=True)
class Case:
    """A model, its stream symbol and pulse, and the stream's length in frames."""

    name: str
    model: Callable[[], onnx.ModelProto | Path]
    axis: str
    pulse: int
    total: int
    real: bool = False
    target: str = "onnx"


CASES = (
    Case("wavenet", wavenet.build, "S", 4, 403),
    Case("wavenet_batch", lambda: wavenet.build(batch=True), "S", 1, 203),
    Case("tcn_batch", lambda: depthwise.tcn(8, 16, depth=3, batch="N"), "S", 1, 29),
    Case("crn", crn.build, "S", 4, 61),
    Case("hifigan", hifigan.build, "S", 2, 31),
    Case("conformer", lambda: conformer.build(16, 2, rms=True), "S", 4, 41),
    Case("scales", scales, "S", 4, 41),
    Case("padded", lambda: PADDED, "S", 4, 37),
    Case("padded_short", lambda: PADDED, "S", 16, 5),
    Case("recurrent", recurrent, "S", 4, 30),
    Case("summing", summing, "S", 5, 33),
    Case("quantised", quantised, "S", 4, 37),
    Case("tcn_onnxruntime", lambda: depthwise.tcn(8, 16, depth=3), "S", 4, 29, target="onnxruntime"),
    Case("gru_native", lambda: recurrent_layers.build("GRU", 592, 1, 8), "S", 2, 21, target="onnxruntime-native"),
    Case("gigaam_v3_conv", lambda: fetch("gigaam_v3_conv"), "N", 160, 4001, real=True),
    Case("nsnet2", lambda: fetch("nsnet2"), "frames", 4, 50, real=True),
)


@dataclass(frozen=True)
class Prepared:
    """A converted case: the pulsed file, the whole stream, and the batch model's outputs."""

    case: Case
    path: Path
    manifest: dict[str, Any]
    inputs: dict[str, np.ndarray]
    want: dict[str, np.ndarray]
    session: ort.InferenceSession

    def batch(self, total: int) -> np.ndarray:
        """The batch model's first output on the first ``total`` frames of the stream."""
        feeds = {}
        for i in self.manifest["inputs"]:
            whole = self.inputs[i["name"]]
            cut = whole if i["axis"] is None else np.take(whole, range(whole.shape[i["axis"]] * total // self.case.total), i["axis"])
            feeds[i["name"]] = cut
        out: np.ndarray = self.session.run(None, feeds)[0]
        return out

    def check(self, got: dict[str, np.ndarray]) -> None:
        """All outputs, on every frame."""
        assert set(got) == set(self.want)
        for name in got:
            a, b = self.want[name], got[name]
            assert a.shape == b.shape, f"{name}: batch {a.shape}, stream {b.shape}"
            limit = TOLERANCE * np.abs(a).max()
            assert a.size and np.abs(a - b).max() <= limit, f"{name}: {np.abs(a - b).max()} > {limit}"


def prepare(case: Case, folder: Path) -> Prepared:
    """Convert a case into ``folder``; one row, seeded noise."""
    done = _converted(case)
    path = done.save(folder / f"{case.name}.onnx")
    session = batch_session(done.source, done.batch)
    rng = np.random.default_rng(11)
    inputs: dict[str, np.ndarray] = {}
    axes = {i["name"]: i["axis"] for i in done.manifest["inputs"]}
    for i in session.get_inputs():
        if axes[i.name] is None:
            inputs[i.name] = np.array([case.total], dtype=np.int64)
            continue
        shape = [d if isinstance(d, int) else 1 for d in i.shape]
        shape[axes[i.name]] = case.total
        inputs[i.name] = rng.standard_normal(shape).astype(np.float32)
    names = [o.name for o in session.get_outputs()]
    want = dict(zip(names, session.run(names, inputs), strict=True))
    return Prepared(case, path, done.manifest, inputs, want, session)


@functools.cache
def _converted(case: Case) -> Any:
    return convert(case.model(), axis=case.axis, pulse=case.pulse, target=case.target)


def write_stream(p: Prepared, folder: Path) -> None:
    """What a runner in another language needs: the model, the arrays as raw files, and ``stream.json`` about them."""
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(p.path.read_bytes())
    for name, array in p.inputs.items():
        (folder / f"in.{name}").write_bytes(array.tobytes())
    about = {"total": p.case.total, "inputs": [{"name": n, "type": str(a.dtype), "dims": a.shape} for n, a in p.inputs.items()]}
    (folder / "stream.json").write_text(json.dumps(about))


def joined(p: Prepared, pieces: list[tuple[str, list[int], bytes]]) -> dict[str, np.ndarray]:
    """The pieces that a runner gave back, put together along time."""
    out = {}
    for o in p.manifest["outputs"]:
        name = o["name"]
        mine = [np.frombuffer(data, p.want[name].dtype).reshape(dims) for n, dims, data in pieces if n == name]
        out[name] = mine[-1] if o["axis"] is None else np.concatenate(mine, axis=o["axis"])
    return out
