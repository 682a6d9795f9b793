"""What a conversion costs and what it leaves: ``make bench-convert`` (or ``python -m benchmarks.convert``).

CPU seconds of the best of a few runs, imports done; the model is in memory. Real models are downloaded if an index is at hand.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import onnx
from onnx import helper

from models import wavenet
from models.registry import MODELS, DownloadError, fetch
from pulsify.api import Conversion, convert
from tests.graphs import G

RUNS = 5
REAL = ("gigaam_v3_conv", "resample_48_16")


def chain(depth: int) -> onnx.ModelProto:
    """Dilated convolutions of kernel 3 in a row, dilations 1, 2, 4, 8 repeated."""
    g = G()
    x = g.input("x", [1, 8, "S"])
    for i in range(depth):
        x = g("Conv", x, g.weight(8, 8, 3), dilations=[2 ** (i % 4)])
    return g.model(x)


def pointwise(nodes: int) -> onnx.ModelProto:
    """Many nodes and no window."""
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 8, "S"])]
    outputs = [helper.make_tensor_value_info(f"y{nodes}", onnx.TensorProto.FLOAT, [1, 8, "S"])]
    body = [helper.make_node("Tanh", [f"y{i}" if i else "x"], [f"y{i + 1}"]) for i in range(nodes)]
    return helper.make_model(
        helper.make_graph(body, "pointwise", inputs, outputs), opset_imports=[helper.make_opsetid("", 18)]
    )


def blocks(nodes: int) -> onnx.ModelProto:
    """Causal convolution, ReLU and residual Add, over and over."""
    g = G()
    y = g.input("x", [1, 8, "S"])
    w = g.weight(8, 8, 3)
    for _ in range(nodes // 3):
        y = g("Add", g("Relu", g("Conv", y, w, pads=[2, 0])), y)
    return g.model(y)


def cases() -> Iterator[tuple[str, onnx.ModelProto, str, int]]:
    """Name, model, axis, pulse."""
    yield "WaveNet, 24 layers", wavenet.build(), "S", 4
    yield "30 convolutions", chain(30), "S", 4
    yield "300 convolutions", chain(300), "S", 4
    yield "1,000 residual blocks", blocks(3_000), "S", 4
    yield "11,000 pointwise nodes", pointwise(11_000), "S", 4
    for name in REAL:
        try:
            yield name, onnx.load(fetch(name)), MODELS[name].axis[0], MODELS[name].pulse
        except DownloadError as e:
            print(f"{name}: {e}")


def measure(model: onnx.ModelProto, axis: str, pulse: int) -> tuple[Conversion, float]:
    """A conversion and the least CPU time of a few, in seconds."""
    best = float("inf")
    for _ in range(RUNS):
        start = time.process_time()
        done = convert(model, axis=axis, pulse=pulse)
        best = min(best, time.process_time() - start)
    return done, best


def main() -> None:
    """Print the table as Markdown."""
    print("| model | nodes | pulse | conversion | delay | states | state bytes |")
    print("|---|---|---|---|---|---|---|")
    for name, model, axis, pulse in cases():
        done, seconds = measure(model, axis, pulse)
        m = done.manifest
        delay = ", ".join(str(o["delay"]) for o in m["outputs"] if o["axis"] is not None)
        print(
            f"| {name} | {len(model.graph.node):,} | {pulse} | {seconds:.2f} s | {delay} | {len(m['states'])} | {m['state_bytes']:,} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
