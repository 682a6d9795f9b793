"""Every operator of ONNX is answered for: it streams, or it is refused with a reason and a remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from pulsify.errors import Refusal
from pulsify.ops._rule import Rule, registry
from tests.contract_check import check
from tests.graphs import G

SCHEMAS = {s.name: s for s in onnx.defs.get_all_schemas() if s.domain == ""}


def test_every_operator_has_a_rule() -> None:
    assert sorted(set(SCHEMAS) - {op for domain, op in registry() if domain == ""}) == []


def test_statuses() -> None:
    """Conditions and refusals say what they are."""
    for key, rule in registry().items():
        assert rule.status in ("streams", "conditions", "refused", "pseudo"), key
        assert bool(rule.note) == (rule.status in ("conditions", "refused")), key
        assert (type(rule).plan is not Rule.plan) or rule.status == "pseudo", key


REFUSED = sorted(op for (domain, op), rule in registry().items() if domain == "" and rule.status == "refused")


def types_of(name: str) -> list[int]:
    """A type each input takes."""
    schema = SCHEMAS[name]
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    out = []
    for i in schema.inputs:
        if i.option == onnx.defs.OpSchema.FormalParameterOption.Optional:
            break
        kinds = [t[7:-1] for t in allowed.get(i.type_str, [i.type_str]) if t.startswith("tensor(")]
        kind = next((k for k in ("float", "int64", "string", "uint8") if k in kinds), kinds[0] if kinds else "float")
        out.append(getattr(TensorProto, kind.upper()))
    return out


@pytest.mark.parametrize("name", [n for n in REFUSED if SCHEMAS[n].max_input and SCHEMAS[n].since_version < 27])
def test_refused_by_name(name: str) -> None:
    g = G(opset=26)
    wires = [g.input(f"x{k}", [1, 2, "S"], kind) for k, kind in enumerate(types_of(name))]
    outs = g(name, *wires, n=max(1, SCHEMAS[name].min_output))
    out = outs if isinstance(outs, str) else outs[0]
    with pytest.raises(Refusal, match=rf"cannot pulsify {name} node 'n_.*' on axis 2\n  why:  \w(.|\n)*  try:  \w"):
        check(g.model(out))


@pytest.mark.parametrize("name", ["RandomNormalLike", "RandomNormal", "Bernoulli"])
def test_random_numbers_are_refused_even_where_static(name: str) -> None:
    g = G()
    x = g.input("x", [1, 2, "S"])
    inputs = [] if name == "RandomNormal" else [g.const(np.full((1, 2, 1), 0.5, np.float32))]
    attributes: dict[str, Any] = {} if inputs else {"shape": [1, 2, 1]}
    with pytest.raises(Refusal, match=rf"cannot pulsify {name} node .*\n  why:  it draws random numbers"):
        check(g.model(g("Add", x, g(name, *inputs, **attributes))))


def test_static_parts_are_copied() -> None:
    """Operators that cannot stream are no trouble beside the stream; shapes and types behind them are known."""
    g = G()
    x, w = g.input("x", [1, 2, "S"]), g.input("w", [3, 2, 2])
    first = g("SequenceAt", g("SequenceConstruct", w, w), g.const(0, np.int64))
    boxes, scores = g.weight(1, 6, 4), g.weight(1, 1, 6)
    kept = g("NonMaxSuppression", boxes, scores, g.const([2], np.int64))
    size = g("Cast", g("Slice", kept, g.ints(0), g.ints(1), g.ints(1)), to=TensorProto.FLOAT)
    rows = g("ReduceSum", g("Reshape", first, g.ints(3, 2, 2)), g.ints(0), keepdims=0)
    c = check(g.model(g("MatMul", rows, x), size))
    assert [o["axis"] for o in c.manifest["outputs"]] == [2, None]
    assert c.model.graph.output[1].type.tensor_type.elem_type == TensorProto.FLOAT
