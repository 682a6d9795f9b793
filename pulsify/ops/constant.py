"""Constants: ``load`` turns them into initializers, so this law serves the ones made later."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from pulsify.facts import Plan, WireFact
from pulsify.ops._rule import NodeView, Rule, register


class Constant(Rule):
    def infer(self, n: NodeView) -> list[WireFact]:
        tensor = n.attr("value")
        if tensor is None:
            for name, dtype in (("float", np.float32), ("int", np.int64)):
                for key in (f"value_{name}", f"value_{name}s"):
                    if n.attr(key) is not None:
                        tensor = ir.tensor(np.asarray(n.attr(key), dtype))
        if tensor is None:
            n.refuse("it holds strings or a sparse tensor")
        return [WireFact(tensor.dtype, tuple(int(d) for d in tensor.shape.numpy()), const=tensor)]

    def plan(self, n: NodeView) -> Plan:
        return Plan((), kind="free")


register(Constant(), "Constant")
