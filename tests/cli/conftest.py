"""The command line as tests call it: in this process, output captured."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from pulsify_cli.main import run

from tests.graphs import G


@dataclass
class Result:
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Result]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command line in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def call(*args: str | os.PathLike[str]) -> Result:
        code = run([os.fspath(a) for a in args])
        got = capsys.readouterr()
        return Result(code, got.out, got.err)

    return call


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A convolution of kernel 3 over [1, 8, S]: delay 2, one buffer."""
    return write(tmp_path / "model.onnx", conv())


def conv(stride: int = 1, time: Any = "S", pads: tuple[int, int] = (0, 0)) -> onnx.ModelProto:
    """One convolution over [1, 8, time]."""
    g = G()
    return g.model(g("Conv", g.input("x", [1, 8, time]), g.weight(8, 8, 3), strides=[stride], pads=list(pads)))


def write(path: Path, model: onnx.ModelProto) -> Path:
    onnx.save(model, path)
    return path


def failed(result: Result, code: int, *said: str) -> None:
    """The exit code, a message in the one shape on stderr, nothing on stdout and no traceback."""
    assert result.code == code, result
    assert result.out == ""
    head, *rest = result.err.rstrip("\n").split("\n")
    assert head and not head.startswith(" ") and "Traceback" not in result.err
    assert all(line[:2] == "  " and line[2:8].rstrip() in ("why:", "wire:", "try:") for line in rest), result.err
    for text in said:
        assert text in result.err, f"{text!r} not in\n{result.err}"


def untouched(folder: Path, *names: str) -> None:
    """Nothing is in the folder but these."""
    assert sorted(p.name for p in folder.iterdir()) == sorted(names)


def wrong_conv(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the compiler emit a model that computes something else."""
    from pulsify import pipeline

    def spoil(g: Any) -> Any:
        out = emit(g)
        weight = next(v for v in out.graph.initializers.values() if v.const_value.dtype.name == "FLOAT")
        import onnx_ir as ir

        weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1.01))
        return out

    emit = pipeline.emit
    monkeypatch.setattr(pipeline, "emit", spoil)
