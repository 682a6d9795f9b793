"""The client needs numpy and onnxruntime alone, and can be copied into another program."""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pulsify import StreamSession
from tests.test_readme import blocks
from tests.test_runtime import FILES, NAMES, batch

ROOT = Path(__file__).parents[1]

PAGE = ROOT / "docs/client.md"

PROGRAM = """
import sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {forbidden}:
            raise ImportError(f"{{name}} is not there")

sys.meta_path.insert(0, Forbid())
import {package}
assert "numpy" not in sys.modules and "onnxruntime" not in sys.modules
import numpy as np

x = np.load("x.npy")
session = {package}.StreamSession("m.onnx")
parts = [session.feed(x=x[:, :, :9]), session.feed(x=x[:, :, 9:])]
data = session.save()
session.load(data)
parts.append(session.finish())
batch = {package}.StreamBatch("m.onnx")
row = batch.add()
assert all(np.allclose(a, b) for a, b in zip(parts[0].values(), batch.feed({{row: {{"x": x[:, :, :9]}}}})[row].values()))
try:
    session.feed(x=x)
except {package}.ClientError as e:
    assert e.what == "the stream is finished"
np.savez("out.npz", **{{n: np.concatenate([p[n] for p in parts], axis=2) for n in parts[0]}})
assert {package}.__version__
"""


@pytest.mark.parametrize("package", ["pulsify", "vendored"])
def test_it_needs_neither_the_compiler_nor_the_command_line(tmp_path: Path, package: str) -> None:
    if package == "vendored":
        (command,) = [line for b in blocks(PAGE) for line in b.text.splitlines() if line.startswith("$ cp ")]
        for part in command.split()[3:-1]:
            source, target = ROOT / part, tmp_path / package / Path(part).name
            target.parent.mkdir(exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    (tmp_path / "m.onnx").write_bytes(FILES[4])
    x = np.random.default_rng(0).standard_normal((1, 3, 21)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    forbidden = {"onnx", "onnx_ir", "ml_dtypes", "click", "rich", "pulsify_cli"} | ({"pulsify"} - {package})
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(package=package, forbidden=forbidden)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    got, want = np.load(tmp_path / "out.npz"), batch(x)
    for n in NAMES:
        assert np.allclose(got[n], want[n], atol=1e-5)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every Python block of docs/client.md, one after the other."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(PAGE):
        if block.language == "python":
            exec(compile(block.text, "client.md", "exec"), names)
    (argument_rows,) = [t for t in PAGE.read_text().split("\n\n") if t.startswith("| argument |")]
    listed = re.findall(r"`(\w+)`", argument_rows)
    assert set(listed) == set(inspect.signature(StreamSession).parameters) - {"model", "filler"}


def test_narrow_floats_without_their_package(tmp_path: Path) -> None:
    """bfloat16 goes in and out as the bits of uint16 where ml_dtypes is not installed."""
    import onnx

    from tests.graphs import G
    from tests.test_runtime import pulsed

    g, kind = G(), onnx.TensorProto.BFLOAT16
    y = g("Concat", *[g.input("x", [1, "S"], kind)] * 2, axis=0)
    (tmp_path / "m.onnx").write_bytes(pulsed(g.model(y, **{y: kind})))
    program = f"""
import sys
sys.modules["ml_dtypes"] = None
import numpy as np
from pulsify import StreamSession
x = np.arange(9, dtype=np.uint16)[None] + 0x3F80
session = StreamSession("m.onnx")
got = np.concatenate([session.feed(x=x[:, :6])[{y!r}], session.feed(x=x[:, 6:])[{y!r}], session.finish()[{y!r}]], axis=1)
assert got.dtype == np.uint16 and np.array_equal(got, np.concatenate([x, x]))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
