"""The C++ example, compiled against onnxruntime's headers and the library of its Python package, and run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.runtimes.cases import CASES, Prepared
from tests.runtimes.tools import cpp_headers, json_headers

pytestmark = pytest.mark.runtimes

SOURCE = Path(__file__).parents[2] / "examples" / "stream.cpp"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    json_headers()
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    folder = tmp_path_factory.mktemp("cpp")
    out = folder / "stream"
    (folder / "libonnxruntime.so.1").symlink_to(library)
    command = ["c++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-isystem", cpp_headers(), SOURCE, library, f"-Wl,-rpath,{folder}"]
    done = subprocess.run([*command, "-o", out], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return out


@pytest.mark.parametrize("name", [c.name for c in CASES if c.total >= c.pulse])
def test_equals_batch(name: str, program: Path, prepared: dict[str, Prepared]) -> None:
    p = prepared[name]
    i, o = p.manifest["inputs"][0], p.manifest["outputs"][0]
    x, axis, size = p.inputs[i["name"]], i["axis"], i["frames"]
    whole, total = np.moveaxis(x, axis, 0), p.case.total
    if any(d > 1 for d in x.shape[:axis]):
        # The end of a raw pulse is the end of the stream where time comes first; elsewhere only whole pulses will do.
        total -= total % p.case.pulse
        whole = whole[: total // p.case.pulse * size]
    pulses = [whole[at : at + size] for at in range(0, len(whole), size)]
    fed = b"".join(np.ascontiguousarray(np.moveaxis(part, 0, axis)).tobytes() for part in pulses)
    done = subprocess.run([program, p.path], input=fed, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    want = p.batch(total)
    shape = [o["frames"] if a == o["axis"] else d for a, d in enumerate(want.shape)]
    calls = np.frombuffer(done.stdout, np.float32).reshape(-1, *shape)
    first = o["delay"] % o["frames"]
    got = np.take(np.concatenate(list(calls), o["axis"]), range(first, first + want.shape[o["axis"]]), o["axis"])
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
