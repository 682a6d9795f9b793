"""The Triton repository: the config parsed by Triton's own protobuf, held against the manifest and the file, and obeyed by
a server in small that knows nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from models import wavenet
from pulsify import StreamSession, UsageError, contract, convert
from pulsify.api import Conversion
from pulsify.stages.verify import batch_session
from pulsify.triton import Serving, save
from tests.graphs import G
from tests.test_runtime import PADDED

TYPES = {np.float32: pb.TYPE_FP32, np.int64: pb.TYPE_INT64, np.float64: pb.TYPE_FP64, np.bool_: pb.TYPE_BOOL}
DTYPES = {v: k for k, v in TYPES.items()}


def recurrent() -> onnx.ModelProto:
    """A padded convolution, then a GRU whose state has its rows on axis 1."""
    g = G(seed=3)
    x = g.input("x", ["N", 6, "S"])
    y = g("Transpose", g("Conv", x, g.weight(8, 6, 3), pads=[1, 1]), perm=[2, 0, 1])
    y = g("GRU", y, g.weight(1, 15, 8), g.weight(1, 15, 5), n=2, hidden_size=5, linear_before_reset=1)[0]
    return g.model(g("Transpose", g("Squeeze", y, g.ints(1)), perm=[1, 2, 0]))


def with_length() -> onnx.ModelProto:
    """A static input of rows alone, and a running result of rows alone."""
    g = G(seed=5)
    x, n = g.input("x", ["N", 2, "S"]), g.input("gain", ["N"])
    y = g("Mul", g("Conv", x, g.weight(3, 2, 3), pads=[2, 0]), g("Reshape", n, g.ints(-1, 1, 1)))
    return g.model(y, g("ReduceMax", y, g.ints(1, 2), keepdims=0))


BUILD = {"padded": lambda: PADDED, "recurrent": recurrent, "with_length": with_length, "wavenet": wavenet.build}
BATCHED = ("padded", "recurrent", "with_length")


@pytest.fixture(scope="module", params=[(n, p) for n in BUILD for p in (4, "P") if (n, p) != ("wavenet", "P")], ids=str)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Conversion, Path]:
    name, pulse = request.param
    done = convert(BUILD[name](), axis="S", pulse=pulse)
    folder = tmp_path_factory.mktemp("repository")
    save(done, folder, name, Serving(rows=8, streams=100, idle_seconds=5), verify=True)
    return done, folder / name


def parsed(folder: Path) -> pb.ModelConfig:
    return text_format.Parse((folder / "config.pbtxt").read_text(), pb.ModelConfig())


def test_every_field(written: tuple[Conversion, Path]) -> None:
    done, folder = written
    c, m = parsed(folder), done.manifest
    session = ort.InferenceSession(folder / "1" / "model.onnx")
    assert contract.loads(session.get_modelmeta().custom_metadata_map) == m
    batched = folder.name in BATCHED
    assert (c.name, c.backend, c.max_batch_size) == (folder.name, "onnxruntime", 8 if batched else 0)
    own = [i["name"] for i in m["inputs"]] + ([m["valid"]["input"]] if m["valid"] else [])
    assert [i.name for i in c.input] == own
    assert [o.name for o in c.output] == [o["name"] for o in m["outputs"]]
    wires = {w.name: w for w in (*session.get_inputs(), *session.get_outputs())}
    for wire in (*c.input, *c.output):
        shape = wires[wire.name].shape[1:] if batched else wires[wire.name].shape
        assert list(wire.dims) == ([d if isinstance(d, int) else -1 for d in shape] or [1])
        assert wire.HasField("reshape") is (batched and not shape) and not wire.reshape.shape
        assert ort_type(wires[wire.name].type) == wire.data_type
    batching = c.sequence_batching
    assert batching.max_sequence_idle_microseconds == 5_000_000
    assert batching.WhichOneof("strategy_choice") == "oldest" and batching.oldest.max_candidate_sequences == 100
    assert not batching.control_input
    assert len(batching.state) == len(m["states"])
    for got, s in zip(batching.state, m["states"], strict=True):
        assert (got.input_name, got.output_name) == (s["input"], s["output"])
        shape = s["shape"][1:] if batched else s["shape"]
        assert list(got.dims) == [d if isinstance(d, int) else 1 for d in shape] and got.dims
        assert got.data_type == TYPES[np.dtype(s["dtype"]).type]
        (initial,) = got.initial_state
        assert initial.zero_data and initial.name and (initial.data_type, initial.dims) == (got.data_type, got.dims)
        assert wires[s["input"]].shape == wires[s["output"]].shape == s["shape"]
        if batched:
            assert s["batch_axis"] == 0 and s["shape"][0] == "N"


def ort_type(text: str) -> int:
    kinds = {"tensor(float)": pb.TYPE_FP32, "tensor(int64)": pb.TYPE_INT64, "tensor(double)": pb.TYPE_FP64, "tensor(bool)": pb.TYPE_BOOL}
    return kinds[text]


class Server:
    """What Triton does with a config: one state per sequence, zeros at its start, requests of several put together."""

    def __init__(self, folder: Path):
        self.config = parsed(folder)
        self.session = ort.InferenceSession(folder / "1" / "model.onnx")
        self.states: dict[int, dict[str, np.ndarray]] = {}

    def step(self, requests: Mapping[int, Mapping[str, np.ndarray]], start: set[int]) -> dict[int, dict[str, np.ndarray]]:
        """One batch; the arrays of a request have the config's dims behind a batch of 1."""
        states, outputs = self.config.sequence_batching.state, self.config.output
        for i in start:
            self.states[i] = {
                s.input_name: np.zeros(self._shape(s.initial_state[0].dims), DTYPES[s.initial_state[0].data_type]) for s in states
            }
        feeds = {}
        for wire in self.config.input:
            rows = [np.asarray(r[wire.name], DTYPES[wire.data_type]) for r in requests.values()]
            for row in rows:
                assert row.ndim == len(self._shape(wire.dims))
                assert all(d in (-1, n) for d, n in zip(self._shape(wire.dims), row.shape, strict=True))
            feeds[wire.name] = self._in(wire, np.concatenate(rows))
        for s in states:
            feeds[s.input_name] = np.concatenate([self.states[i][s.input_name] for i in requests])
        names = [o.name for o in outputs] + [s.output_name for s in states]
        results = dict(zip(names, self.session.run(names, feeds), strict=True))
        for at, i in enumerate(requests):
            self.states[i] = {s.input_name: self._row(results[s.output_name], at) for s in states}
        return {i: {o.name: self._row(results[o.name], at) for o in outputs} for at, i in enumerate(requests)}

    def _shape(self, dims: Any) -> list[int]:
        return [1, *dims] if self.config.max_batch_size else list(dims)

    def _in(self, wire: Any, value: np.ndarray) -> np.ndarray:
        return value.reshape(len(value), *wire.reshape.shape) if wire.HasField("reshape") else value

    def _row(self, value: np.ndarray, at: int) -> np.ndarray:
        return value[at : at + 1] if self.config.max_batch_size else value


def test_a_server_that_obeys_it(written: tuple[Conversion, Path]) -> None:
    """Streams that begin at different times share batches; each comes out as the batch model has it."""
    done, folder = written
    m, server, rng = done.manifest, Server(folder), np.random.default_rng(2)
    batched = bool(server.config.max_batch_size)
    size = m["pulse"] if isinstance(m["pulse"], int) else 3 * m["pulse_multiple"]
    (stream,) = [i for i in m["inputs"] if i["axis"] is not None]
    batch = batch_session(done.source, done.batch)
    totals = {7: 41, 8: 5, 9: 23} if batched else {7: 190}
    whole = {}
    for i, total in totals.items():
        whole[i] = {}
        for wire in batch.get_inputs():
            shape = [total if a == stream["axis"] and wire.name == stream["name"] else d for a, d in enumerate(wire.shape)]
            whole[i][wire.name] = rng.standard_normal([d if isinstance(d, int) else 1 for d in shape]).astype(np.float32)
    want = {i: dict(zip([o.name for o in batch.get_outputs()], batch.run(None, whole[i]), strict=True)) for i in totals}
    frames: dict[int, dict[str, list[np.ndarray]]] = {i: {o["name"]: [] for o in m["outputs"]} for i in totals}
    sent = dict.fromkeys(totals, 0)
    for tick in range(90):
        live = [i for i in totals if tick >= 2 * (i - 7) and (i + tick) % 3]
        requests = {}
        for i in live:
            requests[i] = {n: a if n != stream["name"] else cut(a, stream["axis"], sent[i], size) for n, a in whole[i].items()}
            requests[i] = {n: a.reshape(1, 1) if a.ndim == 1 else a for n, a in requests[i].items()}
            if m["valid"]:
                real = np.array([min(max(totals[i] - sent[i], 0), size)])
                requests[i][m["valid"]["input"]] = real.reshape(1, 1) if batched else real
        if not live:
            continue
        for i, outputs in server.step(requests, {i for i in live if sent[i] == 0}).items():
            for name, value in outputs.items():
                frames[i][name].append(value)
            sent[i] += size
    for i in totals:
        for o in m["outputs"]:
            expected = want[i][o["name"]]
            got = frames[i][o["name"]][-1]
            if o["axis"] is not None:
                got = np.concatenate(frames[i][o["name"]], o["axis"])
                got = np.take(got, range(o["delay"], o["delay"] + expected.shape[o["axis"]]), o["axis"])
            assert np.abs(got - expected).max(initial=0) <= 1e-5 * np.abs(expected).max(initial=1e-9)


def cut(array: np.ndarray, axis: int, start: int, frames: int) -> np.ndarray:
    """A pulse of the stream, filled up with noise past its end."""
    part = np.moveaxis(array, axis, 0)[start : start + frames]
    filled = np.full((frames, *part.shape[1:]), 7, array.dtype)
    filled[: len(part)] = part
    return np.ascontiguousarray(np.moveaxis(filled, 0, axis))


def test_the_model_is_still_one_of_the_contract(tmp_path: Path) -> None:
    done = convert(recurrent(), axis="S", pulse=4)
    plain = convert(recurrent(), axis="S", pulse=4)
    path = save(done, tmp_path, "m")
    assert {s["batch_axis"] for s in plain.manifest["states"]} == {0, 1}
    x = np.random.default_rng(0).standard_normal((3, 6, 21)).astype(np.float32)
    ends = []
    for model in (path, plain.model.SerializeToString()):
        session = StreamSession(model)
        ends.append([session.feed(x=x), session.finish()])
    for a, b in zip(*ends, strict=True):
        assert all(np.array_equal(a[n], b[n]) for n in a)


def test_why_there_is_no_batch(tmp_path: Path) -> None:
    g = G()
    x = g.input("x", ["S", "N", 3])
    y = g("GRU", x, g.weight(1, 15, 3), g.weight(1, 15, 5), n=2, hidden_size=5)[0]
    save(convert(g.model(y), axis="S", pulse=2), tmp_path, "m")
    assert "# No batches: x has no rows on its first axis." in (tmp_path / "m" / "config.pbtxt").read_text()
    assert parsed(tmp_path / "m").max_batch_size == 0
    assert list(parsed(tmp_path / "m").input[0].dims) == [2, 1, 3]


def test_names_that_need_escapes(tmp_path: Path) -> None:
    g = G()
    x = g.input('a "quoted\\ name\u00e9', ["N", 3, "S"])
    save(convert(g.model(g("Relu", x)), axis="S", pulse=2), tmp_path, "m")
    assert parsed(tmp_path / "m").input[0].name == x


def test_a_name_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=re.escape("a Triton model named 'a/b'")):
        save(convert(PADDED, axis="S", pulse=4), tmp_path, "a/b")
