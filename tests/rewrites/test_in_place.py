"""States bound in place: the same numbers in any order of execution that the graph allows."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from models import chain, crn, hifigan, wavenet
from pulsify import contract
from pulsify.api import Conversion, convert
from pulsify.runtime import open_session
from pulsify.stages.verify import make_inputs
from tests.families import FAMILIES, MEMORIES
from tests.profiles import examples
from tests.rewrites.test_frame_rows import forced
from tests.test_random_graphs import grow

PULSES = 12


def shuffled(model: onnx.ModelProto, seed: int) -> bytes:
    """The same graph, its nodes in another order that respects it."""
    rng = random.Random(seed)
    known = {i.name for i in model.graph.input} | {i.name for i in model.graph.initializer} | {""}
    left, order = list(model.graph.node), []
    while left:
        ready = [n for n in left if all(i in known for i in n.input)]
        node = rng.choice(ready)
        left.remove(node)
        order.append(node)
        known.update(node.output)
    out = onnx.ModelProto()
    out.CopyFrom(model)
    del out.graph.node[:]
    out.graph.node.extend(order)
    return out.SerializeToString()


def run(session: ort.InferenceSession, done: Conversion, in_place: bool) -> list[np.ndarray]:
    """All outputs of some pulses, states bound in place where the manifest allows it."""
    m = done.manifest
    shapes = {v.name: [d if isinstance(d, int) else 1 for d in v.shape] for v in session.get_inputs()}
    pairs = [
        (s, *(ort.OrtValue.ortvalue_from_numpy(np.zeros(shapes[s["input"]], s["dtype"])) for _ in range(2))) for s in m["states"]
    ]
    rng, seen = np.random.default_rng(0), []
    for _ in range(PULSES):
        binding = session.io_binding()
        for name, a in make_inputs(done.batch, int(m["pulse"]), rng).items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(np.array(a)))
        if m["valid"]:
            binding.bind_ortvalue_input("valid_frames", ort.OrtValue.ortvalue_from_numpy(np.full(shapes["valid_frames"], m["pulse"])))
        for s, a, b in pairs:
            binding.bind_ortvalue_input(s["input"], a)
            binding.bind_ortvalue_output(s["output"], a if in_place and s["in_place"] else b)
        for o in m["outputs"]:
            binding.bind_output(o["name"])
        session.run_with_iobinding(binding)
        seen += [v.numpy() for v in binding.get_outputs()[-len(m["outputs"]) :]]
        pairs = [(s, a, b) if in_place and s["in_place"] else (s, b, a) for s, a, b in pairs]
    return seen


def same_in_any_order(done: Conversion, orders: int = 2) -> None:
    want = run(open_session(done.model.SerializeToString()), done, False)
    for seed in range(orders):
        for got, expected in zip(run(open_session(shuffled(done.model, seed)), done, True), want, strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("level", ["none", "speed"])
@pytest.mark.parametrize("name", ["wavenet", "chain", "crn", "hifigan"])
def test_models(name: str, level: str) -> None:
    build: Any = {"wavenet": wavenet.build, "chain": lambda: chain.build(128, 20), "crn": crn.build, "hifigan": lambda: hifigan.build(16)}[name]
    done = convert(build(), axis="S", pulse=2, optimize=level)
    same_in_any_order(done)
    # A state of one pulse is the wire itself, which is there before the state is read.
    marked = [s["in_place"] for s in done.manifest["states"] if s["axis"] is None or s["shape"][s["axis"]] != 2]
    assert sum(marked) >= len(marked) - 3


@given(data=st.data())
@examples(15)
def test_random_graphs(data: st.DataObject) -> None:
    with forced(data.draw(st.booleans(), "ring")):
        same_in_any_order(convert(grow(data, 1, 6, FAMILIES | MEMORIES), axis="S", pulse=data.draw(st.integers(1, 3))), 1)


def edited(nodes: list[onnx.NodeProto], shape: list[int]) -> dict[str, Any]:
    """What is said of a state of one hand-made graph."""
    import onnx_ir as ir

    from pulsify.facts import State
    from pulsify.graph import StateSlot
    from pulsify.stages._in_place import mark_in_place

    info = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, shape) for n in ("past", "present", "x", "y")]
    graph = helper.make_graph(nodes, "g", [info[0], info[2]], [info[3], info[1]])
    g = ir.from_proto(helper.make_model(graph)).graph
    slot = StateSlot(State("s", ir.DataType.FLOAT, tuple(shape), 0, None, "buffer", ""), g.inputs[0], g.outputs[1])
    mark_in_place(g, [slot])
    return {"in_place": slot.in_place}


def node(op: str, inputs: str, out: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [out], **attributes)


@pytest.mark.parametrize(
    ("nodes", "safe"),
    [
        ([node("Tanh", "past", "y"), node("Add", "y x", "present")], True),
        ([node("Tanh", "past", "y"), node("Neg", "x", "present")], False),
        ([node("Add", "past x", "present"), node("Neg", "x", "y")], True),
        ([node("Add", "past x", "present"), node("Tanh", "past", "y")], False),
        ([node("MatMul", "past x", "present"), node("Neg", "x", "y")], False),
        ([node("Identity", "past", "r"), node("Tanh", "r", "y"), node("Neg", "x", "present")], False),
        ([node("Identity", "past", "r"), node("Tanh", "r", "y"), node("Add", "y x", "present")], True),
        ([node("Identity", "past", "present"), node("Neg", "x", "y")], False),
    ],
)
def test_what_is_safe(nodes: list[onnx.NodeProto], safe: bool) -> None:
    assert edited(nodes, [2, 2]) == {"in_place": safe}


def test_the_manifest_says_so() -> None:
    c = convert(wavenet.build(), axis="S", pulse=1)
    states = json.loads(c.graph.model.metadata_props[contract.KEY])["states"]
    assert {s["input"]: s["in_place"] for s in states}["past_frames.16"]
