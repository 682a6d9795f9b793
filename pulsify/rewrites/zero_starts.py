"""A recurrent operator that starts with zeros starts as it would by itself: the zeros are left out.

Exporters make them for a batch of their own reckoning, ``N*T`` rows where time is merged into the batch.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.facts import Fill
from pulsify.graph import Graph
from pulsify.ops.recurrent import C0, GATES, H0

__all__ = ["apply"]


def apply(g: Graph) -> int:
    count = 0
    for node in g.graph:
        if node.domain or node.op_type not in GATES:
            continue
        for k in (H0, C0):
            if k < len(node.inputs) and _zeros(g, node.inputs[k]):
                node.replace_input_with(k, None)
                count += 1
    return count


def _zeros(g: Graph, start: ir.Value | None) -> bool:
    fact = g.fact(start)
    if fact is None:
        return False
    if isinstance(fact.value, Fill):
        return bool(fact.value.value == 0)
    array = fact.array() if fact.const is not None and fact.const.nbytes <= 1 << 20 else None
    return array is not None and not np.any(array)
