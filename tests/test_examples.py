"""The Python program of examples/; those in other languages run in tests/runtimes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models import wavenet
from pulsify import convert
from pulsify.stages.verify import batch_session
from tests.test_runtime import PADDED

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.parametrize(("build", "shape"), [(wavenet.build, (230, 20)), (lambda: PADDED, (1, 3, 21))], ids=["wavenet", "padded"])
def test_python(build, shape, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = convert(build(), axis="S", pulse=4)
    done.save(tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    command = [sys.executable, EXAMPLES / "stream.py", "m.onnx", "x.npy", "y.npy"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stderr == ""
    session = batch_session(done.source, done.batch)
    want = session.run(None, {session.get_inputs()[0].name: x})[0]
    got = np.load(tmp_path / "y.npy")
    assert got.shape == want.shape and np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
