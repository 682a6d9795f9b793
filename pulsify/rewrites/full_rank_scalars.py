"""A constant scalar beside a wire with axes of length 1 has as many axes as the wire.

``[1, 12, 128, 1] * []`` and ``[1, 12, 128, 1] * [1, 1, 1, 1]`` are the same numbers. A runtime's broadcast leaves out last axes that
are 1 in both operands; where one operand has none to leave out it goes number by number, 15 us for these 1,536 instead of 0.2.
"""

from __future__ import annotations

import onnx_ir as ir

from pulsify.graph import Graph
from pulsify.ops.elementwise import BINARY, COMPARE
from pulsify.rewrites._rows import Rows

__all__ = ["apply"]

_BROADCAST = {*BINARY.split(), *COMPARE.split(), "Div", "Where"} - {"SwiGLU"}


def apply(g: Graph) -> int:
    rows, count = Rows(g), 0
    for node in g.graph:
        if node.domain or node.op_type not in _BROADCAST:
            continue
        held = g.chunks.get(node.outputs[0])
        if held is None or len(held) < 2 or (held[-1] != 1 and isinstance(held[-1], int)):
            continue
        for k, v in enumerate(node.inputs):
            constant = None if v is None else v.const_value
            if constant is not None and constant.dtype != ir.DataType.STRING and constant.size == 1 and len(constant.shape) < len(held):
                array = constant.numpy().reshape([1] * len(held))
                node.replace_input_with(k, rows.const(array, array.dtype, "scalar"))
                count += 1
    return count
