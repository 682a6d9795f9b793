"""The same model gives the same bytes: on repeat runs, and whatever the hash seed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from models import wavenet
from pulsify.api import convert
from pulsify.dump import dump
from pulsify.graph import Graph, Pulse
from pulsify.pipeline import Options, run
from pulsify.stages.load import AxisSpec
from tests.graphs import G

ROOT = Path(__file__).parent.parent


def busy() -> onnx.ModelProto:
    """Masks, counters, two inputs, several outputs, shared states."""
    g = G()
    x, z = g.input("x", ["N", 4, "S"]), g.input("z", ["N", 4, "S"])
    a = g("Conv", x, g.weight(4, 4, 5), pads=[2, 2])
    b = g("Conv", g("Pad", z, g.ints(0, 0, 1, 0, 0, 3), g.const(1.0, "float32")), g.weight(4, 4, 5))
    parts = g("Split", g("Mul", a, b), n=2, axis=1, num_outputs=2)
    c = g("Concat", *(g("Conv", p, g.weight(2, 2, 3), pads=[1, 1]) for p in parts), axis=1)
    return g.model(g("Add", c, x), a, b)


def digest(model: onnx.ModelProto, pulse: int | str) -> str:
    """All stages as text, and the file."""
    h = hashlib.sha256()

    def look(g: Graph) -> None:
        h.update(dump(g).encode())

    run(model, Options(AxisSpec.parse(["S"]), Pulse(pulse)), observe=look)
    h.update(convert(model, axis="S", pulse=pulse).model.SerializeToString(deterministic=True))
    return h.hexdigest()


def everything() -> str:
    return " ".join([digest(busy(), 3), digest(busy(), "P"), digest(wavenet.build((1, 2, 4)), 4)])


def test_repeat_runs() -> None:
    assert everything() == everything()


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_hash_seeds(seed: str) -> None:
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
    script = "from tests.test_determinism import everything; print(everything())"
    done = subprocess.run([sys.executable, "-c", script], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == everything()


def test_the_model_is_left_alone() -> None:
    """Converting changes nothing of what it was given."""
    model = busy()
    before = model.SerializeToString(deterministic=True)
    convert(model, axis="S", pulse=2)
    assert model.SerializeToString(deterministic=True) == before
