"""What --triton writes, in Triton's own server: it loads the configuration, keeps the states of many streams, and batches
their pulses. Its onnxruntime backend comes in no package, so triton_backend.cpp stands in for it."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as grpc

from pulsify import convert
from pulsify.api import Conversion
from pulsify.stages.verify import batch_session
from pulsify.triton import Serving, save
from tests.runtimes.tools import cpp_headers, triton_server
from tests.test_triton import BATCHED, BUILD, cut

pytestmark = pytest.mark.runtimes

SOURCE = Path(__file__).with_name("triton_backend.cpp")
STREAMS = 12
TYPES = {"float32": "FP32", "int64": "INT64"}


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for Triton's onnxruntime backend, built."""
    folder = tmp_path_factory.mktemp("backends")
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    (folder / "libonnxruntime.so.1").symlink_to(library)
    (folder / "onnxruntime").mkdir()
    command = ["c++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-fPIC", "-shared", "-isystem", cpp_headers(), SOURCE, library]
    out = folder / "onnxruntime" / "libtriton_onnxruntime.so"
    done = subprocess.run([*command, f"-Wl,-rpath,{folder}", "-o", out], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Conversion]]:
    """A repository with every model of tests/test_triton.py."""
    folder = tmp_path_factory.mktemp("repository")
    done = {name: convert(build(), axis="S", pulse=4) for name, build in BUILD.items()}
    for name, c in done.items():
        save(c, folder, name, Serving(rows=8, streams=64, wait_microseconds=20_000))
    return folder, done


@pytest.fixture(scope="module")
def server(backends: Path, models: tuple[Path, dict[str, Conversion]]) -> Iterator[grpc.InferenceServerClient]:
    """A client of a server that runs here, on a port of its own."""
    program, libraries = triton_server()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = backends / "log"
    args = ["--allow-http=false", "--allow-metrics=false", "--grpc-address=127.0.0.1", f"--grpc-port={port}"]
    with log.open("wb") as out:
        running = subprocess.Popen(
            [program, f"--model-repository={models[0]}", f"--backend-directory={backends}", *args],
            stdout=out, stderr=out, env={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
        )  # fmt: skip
    client = grpc.InferenceServerClient(f"127.0.0.1:{port}")
    try:
        for _ in range(300):
            assert running.poll() is None, log.read_text()[-3000:]
            try:
                if client.is_server_ready():
                    break
            except grpc.InferenceServerException:
                time.sleep(0.1)
        else:
            pytest.fail(log.read_text()[-3000:])
        yield client
    finally:
        client.close()
        running.terminate()
        running.wait()


def request(name: str, array: np.ndarray) -> grpc.InferInput:
    out = grpc.InferInput(name, list(array.shape), TYPES[array.dtype.name])
    out.set_data_from_numpy(np.ascontiguousarray(array))
    return out


def stream(client: grpc.InferenceServerClient, name: str, c: Conversion, number: int, feeds: dict[str, np.ndarray], total: int) -> Any:
    """One stream from its start to its end; all frames that came out, by output."""
    m, batched = c.manifest, name in BATCHED
    streams = {i["name"]: i["axis"] for i in m["inputs"] if i["axis"] is not None}
    reach = max(o["delay"] for o in m["outputs"] if o["axis"] is not None)
    calls = -(-(total + reach) // m["pulse"])
    frames: dict[str, list[np.ndarray]] = {o["name"]: [] for o in m["outputs"]}
    for t in range(calls):
        inputs = []
        for wire, array in feeds.items():
            part = cut(array, streams[wire], t * m["pulse"], m["pulse"]) if wire in streams else array.reshape(1, 1)
            inputs.append(request(wire, part))
        if m["valid"]:
            real = np.array([min(max(total - t * m["pulse"], 0), m["pulse"])])
            inputs.append(request(m["valid"]["input"], real.reshape(1, 1) if batched else real))
        got = client.infer(name, inputs, sequence_id=number, sequence_start=t == 0, sequence_end=t == calls - 1)
        for o in frames:
            frames[o].append(got.as_numpy(o))
    return frames


@pytest.mark.parametrize("name", list(BUILD))
def test_equals_batch(name: str, server: grpc.InferenceServerClient, models: tuple[Path, dict[str, Conversion]]) -> None:
    c = models[1][name]
    session = batch_session(c.source, c.batch)
    streams = {i["name"]: i["axis"] for i in c.manifest["inputs"]}
    feeds, totals = {}, {}
    # The same numbers twice: the second stream of a number starts with zero states, whatever the first one left.
    numbers = [1 + i % (STREAMS - 2) for i in range(STREAMS)]
    for i in range(STREAMS):
        rng = np.random.default_rng(i)
        totals[i] = (190 if name == "wavenet" else 5) + 3 * i
        feeds[i] = {}
        for wire in session.get_inputs():
            axis = streams[wire.name]
            shape = [totals[i] if a == axis else d if isinstance(d, int) else 1 for a, d in enumerate(wire.shape)]
            feeds[i][wire.name] = rng.standard_normal(shape).astype(np.float32)
    results = {}
    for group in (range(STREAMS - 2), range(STREAMS - 2, STREAMS)):
        with ThreadPoolExecutor(STREAMS) as pool:
            waiting = {i: pool.submit(stream, server, name, c, numbers[i], feeds[i], totals[i]) for i in group}
            results.update({i: w.result() for i, w in waiting.items()})
    for i in range(STREAMS):
        want = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds[i]), strict=True))
        for o in c.manifest["outputs"]:
            expected, got = want[o["name"]], results[i][o["name"]]
            if o["axis"] is None:
                assert np.allclose(got[-1].reshape(expected.shape), expected, atol=1e-5)
                continue
            joined = np.concatenate(got, o["axis"])
            joined = np.take(joined, range(o["delay"], o["delay"] + expected.shape[o["axis"]]), o["axis"])
            assert np.abs(joined - expected).max(initial=0) <= 1e-5 * np.abs(expected).max(initial=1e-9)
    (told,) = server.get_inference_statistics(name).model_stats
    sizes = [b.batch_size for b in told.batch_stats]
    # Streams shared batches where the model has a batch axis, and never where it has none.
    assert (max(sizes) > 1) is (name in BATCHED), sizes


def test_a_stream_must_start(server: grpc.InferenceServerClient, models: tuple[Path, dict[str, Conversion]]) -> None:
    x = request("x", np.zeros((1, 3, 4), np.float32))
    valid = request("valid_frames", np.array([[4]]))
    with pytest.raises(grpc.InferenceServerException, match="must specify the START flag"):
        server.infer("padded", [x, valid], sequence_id=99)
