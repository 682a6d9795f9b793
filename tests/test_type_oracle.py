"""Symbolic inference against onnxruntime: every wire an output, every dimension compared, at many lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.dim import evaluate, symbols_of
from pulsify.facts import Elems, Fill, Iota
from pulsify.graph import Graph
from pulsify.source import Source, read
from pulsify.stages.load import AxisSpec, load
from pulsify.stages.type import infer_types
from tests.graphs import G
from tests.profiles import examples
from tests.test_random_graphs import grow

LENGTHS = (1, 2, 3, 4, 5, 7, 8, 12, 16, 23, 64, 101)


def exposed(g: Graph) -> onnx.ModelProto:
    """The loaded graph with every wire as an output."""
    model = g.model.clone()
    have = {v.name for v in model.graph.outputs}
    for node in model.graph:
        for v in node.outputs:
            if v.name not in have:
                model.graph.outputs.append(v)
    proto = ir.to_proto(model)
    del proto.graph.value_info[:]
    for v, info in zip(g.graph.inputs, proto.graph.input, strict=True):
        for axis in g.time_axes(v):
            info.type.tensor_type.shape.dim[axis].dim_param = g.symbol
    for o in proto.graph.output:
        if not o.type.tensor_type.elem_type:
            fact = next(f for v, f in g.facts.items() if v.name == o.name)
            o.type.tensor_type.elem_type = int(fact.dtype)
        o.type.tensor_type.ClearField("shape")
    return proto


def value_at(value: Any, shape: list[int], env: dict[str, int]) -> np.ndarray | None:
    """The elements a fact promises."""
    if isinstance(value, Elems):
        return np.array([evaluate(e, env) for e in value.array.reshape(-1)], dtype=np.float64).reshape(shape)
    if isinstance(value, Fill):
        return np.full(shape, float(evaluate(value.value, env)))
    if isinstance(value, Iota):
        row = evaluate(value.start, env) + evaluate(value.step, env) * np.arange(shape[value.axis])
        return np.broadcast_to(row.reshape([-1 if a == value.axis else 1 for a in range(len(shape))]), shape)
    return None


def compare(
    model: onnx.ModelProto | str | Source, axis: str | Sequence[str] = "S", lengths: Sequence[int] = LENGTHS, batch: int = 3,
    least: int = 0, most: int = 99,
) -> int:  # fmt: skip
    """Every dimension and every known value of every wire, at ``least`` lengths or more, and no more than ``most``. Returns
    how many dimensions were compared."""
    g = infer_types(
        load(model if isinstance(model, Source) else read(model), AxisSpec.parse([axis] if isinstance(axis, str) else axis))
    )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(exposed(g).SerializeToString(), options)
    facts = {v.name: f for v, f in g.facts.items()}
    rng = np.random.default_rng(0)
    count = compared = 0
    for s in lengths:
        if not g.assume.allows(s) or compared == most:
            continue
        env = {n: batch for f in g.facts.values() for d in f.shape or () for n in symbols_of(d)} | {g.symbol: s}
        feeds = {}
        for v in g.graph.inputs:
            f = g.facts[v]
            shape = [int(evaluate(d, env)) for d in f.shape or ()]
            dtype = f.dtype.numpy()
            # An integer without a time axis usually is a number of frames.
            feeds[v.name] = np.full(shape, s, dtype) if dtype.kind in "iu" else rng.standard_normal(shape).astype(dtype)
        try:
            results = session.run(None, feeds)
        except Exception:
            # onnxruntime wants at least one frame per window; such lengths have nothing to compare.
            assert any(evaluate(d, env) <= 0 for f in facts.values() for d in f.shape or ()), s
            continue
        compared += 1
        for o, array in zip(session.get_outputs(), results, strict=True):
            f = facts[o.name]
            assert f.shape is not None, f"the rank of {o.name} is unknown"
            if batch == 1 and len(f.shape) != array.ndim and not f.time_axes(g.symbol):
                continue  # a Squeeze without axes takes a batch of 1 along
            want = [evaluate(d, env) for d in f.shape]
            assert want == list(array.shape), f"{o.name} at {s}: inferred {f.shape} = {want}, is {array.shape}"
            assert array.dtype == f.dtype.numpy(), o.name
            known = value_at(f.value, list(array.shape), env)
            assert known is None or np.array_equal(known, array.astype(np.float64)), (o.name, s, known, array)
            count += len(want)
    assert compared >= least, f"only {compared} of the lengths {lengths} could be compared"
    return count


@given(data=st.data())
@examples(25)
def test_random_graphs(data: st.DataObject) -> None:
    assert compare(grow(data, 2, 10)) > 0


#: Arithmetic on sizes: what may follow a size, as (operator, constant).
STEPS = ["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Neg", "Identity", "Cast", "CeilDiv", "Where"]


def step(data: st.DataObject, g: G, v: str, sizes: list[str]) -> str:
    op = data.draw(st.sampled_from(STEPS))
    k = g.ints(data.draw(st.integers(1, 5)))
    if op in ("Identity", "Neg"):
        return g(op, v)
    if op == "Cast":
        return g("Cast", g("Cast", v, to=TensorProto.FLOAT), to=TensorProto.INT64)
    if op == "CeilDiv":
        f = g("Div", g("Cast", v, to=TensorProto.FLOAT), g.const([data.draw(st.sampled_from([2.0, 4.0]))], "float32"))
        return g("Cast", g(data.draw(st.sampled_from(["Ceil", "Floor"])), f), to=TensorProto.INT64)
    if op == "Where":
        return g("Where", g("Greater", v, k), v, k)
    other = data.draw(st.sampled_from([*sizes, k, k]))
    return g(op, v, k if op in ("Div", "Mod") else other)


@given(data=st.data())
@examples(60)
def test_shape_arithmetic(data: st.DataObject) -> None:
    """Sizes through arithmetic as exporters write it: values known exactly at every allowed length."""
    from pulsify.errors import Refusal

    g = G()
    x = g.input("x", [2, "S", 6])
    y = g("Slice", x, g.ints(data.draw(st.integers(0, 3))), g.ints(2**31 - 1), g.ints(1))
    length = g("Gather", g("Shape", y), g.ints(1))
    sizes = [length, g("Slice", g("Shape", x), g.ints(1), g.ints(2), g.ints(0))]
    for _ in range(data.draw(st.integers(1, 6))):
        sizes.append(step(data, g, data.draw(st.sampled_from(sizes)), sizes))
    last = sizes[-1]
    made = g("Concat", *data.draw(st.lists(st.sampled_from(sizes), min_size=1, max_size=3)), axis=0)
    total = g("ReduceProd", made) if data.draw(st.booleans()) else g("ReduceSum", made)
    row = g("Range", g.const(0, np.int64), g("Squeeze", g("Abs", length)), g.const(1, np.int64))
    fill = g("Expand", g.const([1.5], "float32"), g("Abs", g("Min", last, g.ints(50))))
    outputs = [g("Identity", o) for o in (made, total, row, fill)]
    kinds = dict.fromkeys(outputs[:3], TensorProto.INT64)
    try:
        compare(g.model(y, *outputs, **kinds))
    except Refusal as e:
        # What depends on S modulo something is not decided here.
        assert "modulo" in str(e) or "only where S %" in str(e) or "depends on" in str(e), e


def test_views_as_exporters_write_them() -> None:
    """torch's ``x.view(b, t, h, -1)``, ``transpose``, ``flatten`` and a mask from sizes."""
    g = G()
    x = g.input("x", ["N", "S", 12])
    shape = g("Shape", x)
    b, t = (g("Unsqueeze", g("Gather", shape, g.const(i, np.int64)), g.ints(0)) for i in (0, 1))
    y = g("Reshape", x, g("Concat", b, t, g.ints(3), g.ints(-1), axis=0))
    y = g("Transpose", y, perm=[0, 2, 1, 3])
    z = g("Reshape", g("Transpose", y, perm=[0, 2, 1, 3]), g("Concat", b, t, g.ints(-1), axis=0))
    scores = g("MatMul", y, g("Transpose", y, perm=[0, 1, 3, 2]))
    index = g("Range", g.const(0, np.int64), g("Squeeze", t), g.const(1, np.int64))
    row, column = g("Unsqueeze", index, g.ints(0)), g("Unsqueeze", index, g.ints(1))
    causal = g("Where", g("LessOrEqual", row, column), scores, g.const(np.float32(-1e9)))
    ones = g("ConstantOfShape", g("Concat", t, t, axis=0))
    counts = g("Mul", g("Add", t, g.ints(1)), g.ints(2))
    assert compare(g.model(z, g("Softmax", causal), ones, counts, **{counts: TensorProto.INT64})) > 100


def test_strides_and_ceilings() -> None:
    """Lengths like ``((S - 1)//2 + 1)//3``, joined and padded up to a multiple."""
    g = G()
    x = g.input("x", [1, 2, "S"])
    y = x
    for k, s, p in ((3, 2, 1), (4, 3, 2), (2, 2, 0)):
        y = g("Conv", y, g.weight(2, 2, k), strides=[s], pads=[p, p])
    length = g("Gather", g("Shape", x), g.ints(2))
    rest = g("Mod", g("Sub", g.ints(8), g("Mod", length, g.ints(8))), g.ints(8))
    padded = g("Pad", x, g("Concat", g.ints(0, 0, 0, 0, 0), rest, axis=0))
    blocks = g("Reshape", padded, g.ints(1, 2, -1, 8))
    assert compare(g.model(y, blocks)) > 100


@pytest.mark.real
@pytest.mark.parametrize("name", ["gigaam_v3_conv", "kaldi_conv", "nemo80_conv", "whisper80_conv", "resample_48_16"])
def test_real_models(name: str) -> None:
    """Every wire of models as exporters write them."""
    from models.registry import MODELS, fetch

    assert compare(str(fetch(name)), *MODELS[name].axis, lengths=(800, 1600, 2401), batch=1) > 50
