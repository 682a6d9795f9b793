"""``python -m models.exporters [NAME ...]``: export the modules again, without anything of this machine in the files."""

from __future__ import annotations

import io
import logging
import sys
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from models.exporters.clean import strip
from models.exporters.zoo import ZOO, Entry

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "exported"
DYNAMO, TORCHSCRIPT = "dynamo", "torchscript"


def build(entry: Entry) -> nn.Module:
    """The module, the same at every call: weights and running statistics from one seed."""
    torch.manual_seed(0)
    module = entry.build().eval()
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                m.running_mean.normal_(0, 0.3)
                m.running_var.uniform_(0.5, 1.5)
                m.weight.uniform_(0.5, 1.5)
                m.bias.normal_(0, 0.2)
    return module


def export(entry: Entry, exporter: str, raw: bool) -> onnx.ModelProto:
    """One exported model, see the package's docstring."""
    module, x = build(entry), (entry.example(1 if raw else 2),)
    batch = {} if raw else {entry.shape.index(0): "N"}
    if exporter == TORCHSCRIPT:
        file = io.BytesIO()
        torch.onnx.export(
            module, x, file, dynamo=False, opset_version=17, input_names=["x"], output_names=["y"],
            dynamic_axes={"x": {**batch, entry.time: "T"}}, do_constant_folding=not raw,
        )  # fmt: skip
        return onnx.load_from_string(file.getvalue())
    dims: dict[int, Any] = {entry.time: torch.export.Dim.DYNAMIC} if raw else {**batch, entry.time: "T"}
    program = torch.onnx.export(
        module, x, dynamo=True, input_names=["x"], output_names=["y"], dynamic_shapes=(dims,), optimize=not raw,
        verbose=False,
    )  # fmt: skip
    assert program is not None
    return program.model_proto


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names or ZOO:
        for exporter in (DYNAMO, TORCHSCRIPT):
            for raw in (False, True):
                file = FOLDER / f"{name}{'-raw' if raw else ''}.{exporter}.onnx"
                try:
                    model = strip(export(ZOO[name], exporter, raw))
                except Exception as e:
                    print(f"{file.name}: not exported: {type(e).__name__}: {str(e).splitlines()[0]}")
                    continue
                onnx.checker.check_model(model)
                file.write_bytes(model.SerializeToString(deterministic=True))
                print(f"{file.name}: {file.stat().st_size} bytes, {len(model.graph.node)} nodes")


if __name__ == "__main__":
    main(sys.argv[1:])
