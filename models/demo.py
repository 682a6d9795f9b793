"""``make demo``: the main job on a real model, or on the WaveNet built here where nothing can be downloaded."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from models.registry import MODELS, DownloadError, fetch

NAME = "gigaam_v3_conv"


def main() -> int:
    """Run ``pulsify`` in ``demo/`` and pass on its exit code."""
    folder = Path("demo")
    folder.mkdir(exist_ok=True)
    try:
        model = folder / f"{NAME}.onnx"
        model.write_bytes(fetch(NAME).read_bytes())
        axis, pulse = MODELS[NAME].axis[0], MODELS[NAME].pulse
    except DownloadError as e:
        from models import wavenet

        print(f"no real model today ({e}); the WaveNet of models/wavenet.py instead", flush=True)
        model = folder / "wavenet.onnx"
        model.write_bytes(wavenet.build().SerializeToString())
        axis, pulse = "S", 4
    args = [str(model), "--axis", axis, "--pulse", str(pulse)]
    print("$ pulsify", shlex.join(args), flush=True)
    return subprocess.run([sys.executable, "-m", "pulsify", *args]).returncode


if __name__ == "__main__":
    sys.exit(main())
