"""The keyword-spotting WaveNet of Coucke et al., "Efficient keyword spotting using dilated convolutions and gating"
(2018): 24 gated layers, kernel 3, dilations 1, 2, 4, 8 six times, residual 16 and skip 32 channels, 20 features.

It shows what a stack of valid convolutions with alignment slices becomes: one buffer per wire, no slice.
``python -m models.wavenet wavenet.onnx`` writes it, with ``batch`` behind it one that has a symbolic batch axis N.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FEATURES, RESIDUAL, SKIP, KERNEL = 20, 16, 32, 3
DILATIONS = (1, 2, 4, 8) * 6


def build(dilations: tuple[int, ...] = DILATIONS, classes: int = 2, seed: int = 0, batch: bool = False) -> onnx.ModelProto:
    """The batch model: input ``features [S, 20]``, output ``logits [S - 2 - 2*sum(dilations), classes]``.

    With ``batch`` both have an axis of N recordings in front.
    """
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def add(op: str, inputs: list[str], out: str, **attributes: object) -> str:
        nodes.append(helper.make_node(op, inputs, [out], name=out, **attributes))
        return out

    def weight(name: str, *shape: int) -> str:
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
        array = rng.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(fan))
        weights.append(numpy_helper.from_array(array, name))
        return name

    def ints(name: str, *values: int) -> str:
        weights.append(numpy_helper.from_array(np.array(values, dtype=np.int64), name))
        return name

    def conv(x: str, name: str, cin: int, cout: int, kernel: int, dilation: int = 1) -> str:
        return add("Conv", [x, weight(f"{name}.w", cout, cin, kernel), weight(f"{name}.b", cout)], name, dilations=[dilation])

    def cut(x: str, name: str, start: int) -> str:
        return add("Slice", [x, ints(f"{name}.start", start), "end", "time"], name)

    ints("end", 2**63 - 1)
    ints("time", 2)
    ints("batch_axis", 0)
    if batch:
        x = add("Transpose", ["features"], "channels_first", perm=[0, 2, 1])
    else:
        x = add("Transpose", ["features"], "channels_first", perm=[1, 0])
        x = add("Unsqueeze", [x, "batch_axis"], "batched")
    x = conv(x, "input_conv", FEATURES, RESIDUAL, KERNEL)
    rest = (KERNEL - 1) * sum(dilations)
    skips = []
    for i, d in enumerate(dilations):
        lost = (KERNEL - 1) * d
        rest -= lost
        f = add("Tanh", [conv(x, f"layer_{i}.filter", RESIDUAL, RESIDUAL, KERNEL, d)], f"layer_{i}.tanh")
        s = add("Sigmoid", [conv(x, f"layer_{i}.gate", RESIDUAL, RESIDUAL, KERNEL, d)], f"layer_{i}.sigmoid")
        h = add("Mul", [f, s], f"layer_{i}.gated")
        skip = conv(h, f"layer_{i}.skip", RESIDUAL, SKIP, 1)
        skips.append(cut(skip, f"layer_{i}.skip_cut", rest) if rest else skip)
        if i + 1 < len(dilations):
            r = conv(h, f"layer_{i}.residual", RESIDUAL, RESIDUAL, 1)
            x = add("Add", [r, cut(x, f"layer_{i}.residual_cut", lost)], f"layer_{i}.out")
    y = skips[0]
    for i, skip in enumerate(skips[1:], 1):
        y = add("Add", [y, skip], f"skip_sum_{i}")
    y = conv(add("Relu", [y], "head.relu"), "head.hidden", SKIP, 128, 1)
    y = conv(add("Relu", [y], "head.relu_2"), "head.out", 128, classes, 1)
    if batch:
        add("Transpose", [y], "logits", perm=[0, 2, 1])
    else:
        y = add("Squeeze", [y, "batch_axis"], "unbatched")
        add("Transpose", [y], "logits", perm=[1, 0])
    rows = ["N"] if batch else []
    graph = helper.make_graph(
        nodes,
        "wavenet",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [*rows, "S", FEATURES])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*rows, "T", classes])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


if __name__ == "__main__":
    import sys

    onnx.save(build(batch="batch" in sys.argv[2:]), sys.argv[1])
