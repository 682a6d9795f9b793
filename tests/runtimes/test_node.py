"""The client of examples/ in Node, with onnxruntime-node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.runtimes.cases import CASES, Prepared, joined
from tests.runtimes.tools import node_modules

pytestmark = pytest.mark.runtimes

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"


@pytest.fixture(scope="module")
def results(streams: Path) -> dict[str, str]:
    folders = [streams / case.name for case in CASES]
    done = subprocess.run(["node", HERE / "node.mjs", node_modules(), *folders], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {f.name: (f / "out.jsonl").read_text() for f in folders}


@pytest.mark.parametrize("name", [c.name for c in CASES])
def test_equals_batch(name: str, prepared: dict[str, Prepared], results: dict[str, str]) -> None:
    pieces = [(n, d, bytes.fromhex(x)) for n, d, x in map(json.loads, results[name].splitlines())]
    prepared[name].check(joined(prepared[name], pieces))


def test_example_on_raw_samples(prepared: dict[str, Prepared], tmp_path: Path) -> None:
    p = prepared["gigaam_v3_conv"]
    (tmp_path / "in.f32").write_bytes(p.inputs["waveforms"].tobytes())
    command = ["node", EXAMPLES / "stream_node.mjs", p.path, tmp_path / "in.f32"]
    done = subprocess.run(command, cwd=node_modules(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    # Frames come one pulse after another, each [1, 64, 1].
    got = np.frombuffer(done.stdout, np.float32).reshape(-1, 64)
    p.check({**p.want, "features": got.T[None]})


@pytest.mark.parametrize("text", ["S - 4", "-S//3 + 2*(S - 1) % 7", "max(0, min(S, 8) - 3)//2", "-(S - 9)//4 - -2", "7"])
def test_expressions_are_python_s(text: str) -> None:
    from pulsify.contract import evaluate

    values = [evaluate(text, S=s) for s in range(20)]
    script = f"import {{ evaluate }} from '{EXAMPLES / 'manifest.mjs'}';"
    script += f"console.log(JSON.stringify([...Array(20).keys()].map((S) => evaluate({json.dumps(text)}, {{ S }}) + 0)))"
    done = subprocess.run(["node", "--input-type=module", "-e", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == values
