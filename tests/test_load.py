"""What models come like: old opsets, local functions, external data, odd dimensions, odd outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pulsify.api import convert
from pulsify.errors import ModelError, UsageError
from pulsify.source import OLDEST_OPSET, read
from pulsify.stages.load import AxisSpec, declared_dims, load
from pulsify.stages.verify import verify
from tests.contract_check import check
from tests.graphs import G


def small(opset: int) -> onnx.ModelProto:
    """Operators in the spelling of the opset."""
    g = G(opset=opset)
    y = g("Conv", g.input("x", ["N", 2, "S"]), g.weight(2, 2, 3), pads=[1, 1])
    axes = {"axes": [3]} if opset < 13 else {}
    inputs = [] if opset < 13 else [g.ints(3)]
    y = g("Unsqueeze", y, *inputs, **axes)
    y = g("Clip", y, min=-1.0, max=1.0) if opset < 11 else g("Clip", y, g.const(-1.0, "float32"), g.const(1.0, "float32"))
    y = g("Squeeze", y, *inputs, **axes)
    y = g("ReduceMean", y, axes=[1]) if opset < 18 else g("ReduceMean", y, g.ints(1))
    y = g("Softmax", g("Transpose", y, perm=[0, 2, 1]), axis=2)
    y = g("Slice", y, starts=[1], ends=[2**31 - 1], axes=[1]) if opset < 10 else g(
        "Slice", y, g.ints(1), g.ints(2**31 - 1), g.ints(1))  # fmt: skip
    y = g("Dropout", y, ratio=0.5) if opset < 12 else g("Dropout", y)
    y = g("Pad", y, pads=[0, 1, 0, 0, 1, 0]) if opset < 11 else g("Pad", y, g.ints(0, 1, 0, 0, 1, 0))
    model = g.model(y)
    model.ir_version = 4 if opset < 11 else 8 if opset < 21 else 10
    return model


@pytest.mark.parametrize("opset", [OLDEST_OPSET, 10, 11, 12, 13, 15, 17, 18, 19, 20, 21, 22, 23])
def test_opsets(opset: int) -> None:
    c = check(small(opset), "S", (3, "P"))
    assert max(18, opset) == next(o.version for o in c.model.opset_import if o.domain == "")


@pytest.mark.parametrize("opset", [7, 8, 99])
def test_other_opsets_are_named(opset: int) -> None:
    model = small(18)
    model.opset_import[0].version = opset
    with pytest.raises(ModelError, match=f"cannot take opset {opset}"):
        convert(model, axis="S", pulse=1)


@pytest.mark.parametrize("name", ["None", "True", "lambda", "min", "seq-len", "-1", "7", "1T", "S + 2", "T//2", "batch*T", "?", "x²", "T T"])
@pytest.mark.parametrize("axis", [0, 2])
def test_names_of_dimensions(name: str, axis: int) -> None:
    """Any text is the name of the dimension it stands for: time, or the batch."""
    g = G()
    x = g.input("x", [name if axis == 0 else 1, 2, name if axis == 2 else "S0"])
    c = check(g.model(g("Conv", x, g.weight(2, 2, 3), pads=[1, 1])), name if axis == 2 else "S0", pulses=(2, "P"))
    assert c.manifest["symbol"].isidentifier()


def test_names_that_are_expressions() -> None:
    """Of symbols that stand in the model on their own, or multiples of one."""
    g = G()
    x, *others = (g.input(f"x{k}", [1, 2, d]) for k, d in enumerate(("S", "S + 2", "2*S", "floor(S/2)", "T - 1")))
    inputs = load(read(g.model(g("Relu", x), *others)), AxisSpec("S")).graph.inputs
    assert [str(declared_dims(v)[2]) for v in inputs] == ["S", "S + 2", "2*S", "S//2", "T_1"]  # type: ignore[index]
    assert convert(small_on("2*s0"), axis="s0", pulse="P").manifest["inputs"][0]["frames"] == "2*P"


def test_names_that_become_alike_stay_apart() -> None:
    g = G()
    x, y = g.input("x", ["seq_len", 2, "S"]), g.input("y", ["seq-len", 2, "S"])
    z = g("Concat", g("ReduceSum", x, g.ints(0)), g("ReduceSum", y, g.ints(0)), axis=0)
    inputs = load(read(g.model(z)), AxisSpec("S")).graph.inputs
    assert [str(declared_dims(v)[0]) for v in inputs] == ["seq_len", "seq_len_2"]  # type: ignore[index]


def small_on(name: str) -> onnx.ModelProto:
    g = G()
    return g.model(g("Conv", g.input("x", [1, 2, name]), g.weight(2, 2, 3), pads=[1, 1]))


@pytest.mark.parametrize("used", [{"P"}, {"P", "pulse"}])
def test_a_pulse_named_like_a_symbol_is_told_another(used: set[str]) -> None:
    g = G()
    y = g("Conv", g.input("x", [1, 2, "P"]), g.weight(2, 2, 3))
    if len(used) > 1:
        y = g("Add", y, g("ReduceMean", g.input("z", ["pulse", 2, 1]), g.ints(0)))
    with pytest.raises(UsageError, match=f"try:  --pulse {'P0' if len(used) > 1 else 'pulse'}"):
        convert(g.model(y), axis="P", pulse="P")


def test_an_output_listed_twice_is_refused() -> None:
    g = G()
    y = g("Conv", g.input("x", [1, 4, "S"]), g.weight(4, 4, 3))
    with pytest.raises(ModelError, match=f"why:  it lists the output '{y}' twice"):
        convert(g.model(y, y), axis="S", pulse=1)


def test_a_model_in_memory_is_left_as_it_is() -> None:
    """An initializer that is an output has another name within the pulsed model."""
    g = G()
    bias = g.weight(4)
    model = g.model(g("Conv", g.input("x", [1, 4, "S"]), g.weight(4, 4, 3), bias), bias)
    before = model.SerializeToString()
    convert(model, axis="S", pulse=1)
    assert model.SerializeToString() == before


@pytest.mark.parametrize("opset", [14, 18])
def test_local_functions(opset: int) -> None:
    """A function that calls another, with an attribute passed through."""
    body = [helper.make_node("Conv", ["X", "W"], ["y"], pads=[1, 1]), helper.make_node("act", ["y"], ["Y"], domain="own")]
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("own", 1)]
    block = helper.make_function("own", "block", ["X", "W"], ["Y"], body, imports)
    act = helper.make_function("own", "act", ["X"], ["Y"], [helper.make_node("Tanh", ["X"], ["Y"])], imports[:1])
    g = G(opset=opset)
    x = g.input("x", [1, 2, "S"])
    for _ in range(2):
        x = g("block", x, g.weight(2, 2, 3), domain="own")
    model = g.model(x)
    model.functions.extend([block, act])
    c = check(model)
    assert not c.model.functions and {n.op_type for n in c.model.graph.node} >= {"Conv", "Tanh"}


@pytest.mark.parametrize("opset", [13, 18])
def test_external_data_is_never_inlined(opset: int, tmp_path: Path) -> None:
    g = G(opset=opset)
    x = g.input("x", [1, 8, "S"])
    model = g.model(g("Conv", g("Conv", x, g.weight(64, 8, 3)), g.weight(8, 64, 3)))
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=256)
    source = read(path)
    assert all(type(v.const_value).__name__ == "ExternalTensor" for v in source.model.graph.initializers.values())
    c = convert(path, axis="S", pulse=4, optimize="none")
    weights = [v.const_value for v in c.graph.graph.initializers.values() if v.const_value.size > 999]
    assert [type(w).__name__ for w in weights] == ["ExternalTensor"] * 2
    out = c.save(tmp_path / "pulsed.onnx")
    onnx.checker.check_model(str(out))
    assert verify(c.source, c.batch, out).worst < 1e-5


def test_initializers_that_are_also_inputs() -> None:
    """As every model before IR 4: they are defaults, and become constants."""
    g = G(opset=9)
    x = g.input("x", [1, 2, "S"])
    w = g.weight(2, 2, 3)
    model = g.model(g("Conv", x, w))
    model.ir_version = 3
    model.graph.input.append(helper.make_tensor_value_info(w, TensorProto.FLOAT, [2, 2, 3]))
    c = convert(model, axis="S", pulse=2)
    assert [i["name"] for i in c.manifest["inputs"]] == ["x"]


def test_unnamed_and_repeated_dimensions() -> None:
    """An unnamed dimension is one of its own; one name on two inputs is one dimension."""
    g = G()
    x, y = g.input("x", [None, 2, "S"]), g.input("y", [None, 2, "S"])
    check(g.model(g("Conv", x, g.weight(2, 2, 3)), g("Relu", y)), lengths=(9,), pulses=(2, "P"))
    g = G()
    with pytest.raises(Exception, match="2 axes"):
        check(g.model(g("Relu", g.input("x", ["S", "S"]))))


def test_dimension_names_that_are_no_identifiers() -> None:
    g = G()
    check(g.model(g("Relu", g.input("x", ["batch size", 2, "S"]))))


def test_dimension_expressions() -> None:
    """Inputs of different rate: ``2*S`` samples per frame."""
    g = G()
    x, y = g.input("x", [1, 2, "S"]), g.input("y", [1, 2, "2*S"])
    z = g("Conv", y, g.weight(2, 2, 2), strides=[2])
    check(g.model(g("Add", x, z)))


def test_unused_inputs_stay() -> None:
    """The contract keeps every input, in order."""
    g = G()
    g.input("before", ["N", 3, "S"])
    x = g.input("x", ["N", 2, "S"])
    g.input("after", [4])
    c = check(g.model(g("Conv", x, g.weight(2, 2, 3))))
    assert [i["name"] for i in c.manifest["inputs"]] == ["before", "x", "after"]


def declared(model: onnx.ModelProto, **shapes: list[Any]) -> onnx.ModelProto:
    """Give outputs a shape."""
    for o in model.graph.output:
        if o.name in shapes:
            o.CopyFrom(helper.make_tensor_value_info(o.name, o.type.tensor_type.elem_type, shapes[o.name]))
    return model


@pytest.mark.parametrize("shape", [None, ["N", 2, "S"], ["N", 2, "T"]])
def test_an_output_that_is_an_input(shape: list[Any] | None) -> None:
    g = G()
    x = g.input("x", ["N", 2, "S"])
    model = g.model(x, g("Conv", x, g.weight(2, 2, 3), pads=[1, 1]))
    c = check(declared(model, x=shape) if shape else model)
    assert c.manifest["outputs"][0]["delay"] == 0


def test_two_outputs_of_one_wire_and_an_output_read_inside() -> None:
    g = G()
    y = g("Conv", g.input("x", ["N", 2, "S"]), g.weight(2, 2, 3))
    a, b = g("Identity", y), g("Identity", y)
    late = g("Conv", a, g.weight(2, 2, 2))
    c = check(g.model(a, b, y, late))
    assert [o["delay"] for o in c.manifest["outputs"]] == [2, 2, 2, 3]


def test_constant_and_static_outputs() -> None:
    g = G()
    x, k = g.input("x", ["N", 2, "S"]), g.input("k", [3])
    w = g.weight(2, 2)
    c = check(g.model(g("Relu", x), g("Tanh", k), g("Identity", w), w, g("Add", w, w)), lengths=(7,))
    assert [o["axis"] for o in c.manifest["outputs"]] == [2, None, None, None, None]


def test_nodes_without_names_and_with_the_same() -> None:
    g = G()
    x = g.input("x", ["N", 2, "S"])
    y = g("Conv", g("Relu", g("Conv", x, g.weight(2, 2, 3))), g.weight(2, 2, 3))
    model = g.model(y)
    for i, n in enumerate(model.graph.node):
        n.name = "" if i else "same"
    check(model)
    for n in model.graph.node:
        n.name = "same"  # which onnxruntime does not take, and exporters write
    c = convert(model, axis="S", pulse=3)
    assert len({n.name for n in c.model.graph.node}) == len(c.model.graph.node)
    assert len({s["input"] for s in c.manifest["states"]}) == 2


def test_initializers_shared_by_nodes() -> None:
    """One pads tensor and one weight for many readers."""
    g = G()
    y = g.input("x", ["N", 2, "S"])
    w, p, crop = g.weight(2, 2, 3), g.ints(0, 0, 1, 0, 0, 1), g.ints(-1)
    for _ in range(3):
        y = g("Slice", g("Conv", g("Pad", y, p), w), g.ints(0), crop, g.ints(2))
    check(g.model(y))


@pytest.mark.parametrize("name", ["past_x", "valid_frames", "present_y", "position", "weird/name:0", "x.delay"])
def test_names_that_look_like_ours(name: str) -> None:
    """Wires named as states and counters are."""
    g = G()
    x = g.input(name, ["N", 2, "S"])
    y = g("Conv", g("Conv", x, g.weight(2, 2, 3), pads=[1, 1]), g.weight(2, 2, 3), pads=[1, 1])
    c = check(g.model(y))
    assert c.manifest["inputs"][0]["name"] == name


def test_time_axis_by_number() -> None:
    """A declared axis streams though the file has a number there."""
    g = G()
    x = g.input("x", [1, 2, 16])
    model = g.model(g("Conv", x, g.weight(2, 2, 3), pads=[1, 1]))
    c = convert(model, axis="x:2", pulse=4)
    assert c.manifest["outputs"][0]["length"] == c.manifest["symbol"]
    with pytest.raises(UsageError, match="no axis 5 on input 'x'"):
        convert(model, axis="x:5", pulse=4)


def test_a_broken_file(tmp_path: Path) -> None:
    data = small(18).SerializeToString()
    path = tmp_path / "cut.onnx"
    for content in (b"", b"hello", data[: len(data) // 2]):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="cannot read model"):
            read(path)
    with pytest.raises(ModelError, match="cannot read model"):
        read(tmp_path / "missing.onnx")


def test_float16_weights_through_casts() -> None:
    g = G()
    x = g.input("x", ["N", 2, "S"])
    w = g("Cast", g.weight(2, 2, 3, dtype=np.float16), to=TensorProto.FLOAT)
    check(g.model(g("Conv", x, w, pads=[2, 0])))


def test_constants_as_nodes() -> None:
    g = G()
    x = g.input("x", ["N", 2, "S"])
    pads = g("Constant", value=numpy_helper.from_array(np.array([0, 0, 1, 0, 0, 1])))
    value = g("Constant", value_float=0.5)
    check(g.model(g("Conv", g("Pad", x, pads, value), g.weight(2, 2, 3))))


def test_nodes_in_any_order(tmp_path: Path) -> None:
    """Runtimes take a file whose nodes come before those they read from; so do we. A circle is the model's fault."""
    g = G()
    x = g.input("x", [1, 2, "S"])
    model = g.model(g("Relu", g("Conv", x, g.weight(2, 2, 3))))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(reversed(nodes))
    onnx.save(model, tmp_path / "m.onnx")
    assert convert(tmp_path / "m.onnx", axis="S", pulse=2).verify().worst <= 1e-5
    nodes[0].input[0] = nodes[1].output[0]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    with pytest.raises(ModelError, match="read from each other in a circle"):
        read(model)
