"""BeatNet's beat and downbeat activation (Heydari, Cwitkowitz, Duan, 2021), exported from the weights of its package.

``python -m models.beatnet beatnet.onnx`` writes it; needs torch. Only tensors are read from the file of weights. Input
``features [1, S, 272]``, one row per frame of 20 ms; output ``activations [1, 3, S]``. What it shows: time folded into the
batch for a convolution over the features of each frame, and unfolded for two LSTMs.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

__all__ = ["FEATURES", "export"]

FEATURES, HIDDEN, LAYERS, JOINED, KERNEL = 272, 150, 2, 150, 10


def _module() -> Any:
    import torch
    from torch import nn

    class Activation(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv1d(1, 2, KERNEL)
            self.linear0 = nn.Linear(2 * ((FEATURES - KERNEL + 1) // 2), JOINED)
            self.lstm = nn.LSTM(JOINED, HIDDEN, LAYERS, batch_first=True)
            self.linear = nn.Linear(HIDDEN, 3)

        def forward(self, data: torch.Tensor) -> torch.Tensor:
            rows = data.reshape(-1, FEATURES).unsqueeze(1)
            rows = nn.functional.max_pool1d(torch.relu(self.conv1(rows)), 2)
            rows = self.linear0(rows.flatten(1))
            y, _ = self.lstm(rows.reshape(data.shape[0], data.shape[1], JOINED))
            return self.linear(y).transpose(1, 2)

    return Activation()


def export(weights: Path, target: Path) -> Path:
    """Write the model with torch's TorchScript exporter. ImportError without torch."""
    import torch

    module = _module().eval()
    module.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True), strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.zeros(1, 7, FEATURES),),
            str(target),
            input_names=["features"],
            output_names=["activations"],
            dynamic_axes={"features": {1: "S"}, "activations": {2: "S"}},
            opset_version=17,
            dynamo=False,
        )
    return target


if __name__ == "__main__":
    import sys

    from models.registry import fetch

    print(export(fetch("beatnet_weights"), Path(sys.argv[1])))
