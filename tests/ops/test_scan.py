"""Scan and Loop over time: carried values, masks in the body, several inputs; refusals by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pulsify.api import convert
from pulsify.errors import Refusal
from tests.contexts import batches, contexts, cut, pulses, verify
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
LENGTHS = (4, 5, 7, 9, 12)


def info(name: str, dtype: int = FLOAT, shape: Any = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def node(op: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [output], **attributes)


def cell(g: G) -> list[onnx.NodeProto]:
    """``hn = tanh(f W + h R)``, ``y = hn^2``, with weights from outside."""
    return [
        node("MatMul", ["f", g.weight(2, 3)], "a"), node("MatMul", ["h", g.weight(3, 3)], "b"), node("Add", ["a", "b"], "ab"),
        node("Tanh", ["ab"], "hn"), node("Mul", ["hn", "hn"], "y"),
    ]  # fmt: skip


def start(g: G, kind: str, x: str, axis: int, batch: Any) -> str:
    """``[N, 3]``: given, zero, or another constant."""
    if kind == "input":
        return g.input("h0", [batch, 3])
    shape = g("Concat", g("Gather", g("Shape", x), g.ints(axis)), g.ints(3), axis=0)
    return g("Expand", g.const(np.full((1, 1), 0.0 if kind == "zero" else 0.4, np.float32)), shape)


def scan(
    g: G, x: str, z: str | None, batch: Any, first: str, axis: int, out: int, count: bool, **attributes: Any
) -> list[str]:
    """Over ``[N, 2, S]`` (and ``[N, 3, S]``): the carried value, a count of frames, and outputs ``[N, 3, S]``."""
    perm = ([2, 0, 1], [0, 2, 1], [0, 1, 2])[axis]
    x = g("Transpose", x, perm=perm)
    states, ins, outs = [start(g, first, x, 1 if axis == 0 else 0, batch)], [info("h")], [info("hn")]
    nodes, tensors, last = cell(g), [], "y"
    if count:
        states.append(g.const([0 if first == "zero" else 2], np.int64))
        ins.append(info("n", INT))
        outs.append(info("nn", INT))
        tensors = [numpy_helper.from_array(np.int64([1]), "one")]
        nodes += [node("Add", ["n", "one"], "nn"), node("Cast", ["nn"], "nf", to=FLOAT), node("Div", ["y", "nf"], "yn")]
        last = "yn"
    ins.append(info("f"))
    frames = [x]
    if z is not None:
        frames.append(g("Transpose", z, perm=perm))
        ins.append(info("e"))
        nodes.append(node("Add", [last, "e"], "ye"))
        last = "ye"
    body = helper.make_graph(nodes, "body", ins, [*outs, info(last)], tensors)
    made = g(
        "Scan", *states, *frames, n=len(states) + 1, body=body, num_scan_inputs=len(frames),
        scan_input_axes=[axis] * len(frames), scan_output_axes=[out], **attributes,
    )  # fmt: skip
    return [*made[:-1], g("Transpose", made[-1], perm=([1, 2, 0], [0, 2, 1], [0, 1, 2])[out % 3])]


@given(context=contexts, at=pulses(), batch=batches, first=st.sampled_from(["zero", "input", "constant"]),
       axis=st.integers(0, 2), out=st.sampled_from([0, 1, 2, -1]), two=st.booleans())  # fmt: skip
@examples(20)
def test_over_time(context: str, at: Any, batch: Any, first: str, axis: int, out: int, two: bool) -> None:
    def op(g: G, x: str) -> str:
        z = g("Conv", x, g.weight(3, 2, 1)) if two else None
        return scan(g, x, z, batch, first, axis, out, False)[-1]

    verify(op, [batch, 2, "S"], context, at, least=False)


@given(before=st.sampled_from(["", "late", "cropped", "same"]), at=pulses(), batch=batches,
       first=st.sampled_from(["zero", "input", "constant"]), two=st.booleans(), used=st.sampled_from(["h", "yh", "hy"]))  # fmt: skip
@examples(15)
def test_final_values(before: str, at: Any, batch: Any, first: str, two: bool, used: str) -> None:
    """Carried values as outputs; inputs of two delays; a count of frames where there is no batch axis to have its own."""
    g = G()
    x = z = g.input("x", [batch, 2, "S"])
    if before == "late":
        x, z = cut(g, x, 2, 3), cut(g, z, 2, 0, 3)
    elif before == "cropped":
        x, z = cut(g, x, 2, 1, 2), cut(g, z, 2, 2, 1)
    elif before == "same":
        x = g("Conv", x, g.weight(2, 2, 5), pads=[2, 2])
    count = batch != "N"
    h, *n, y = scan(g, x, g("Conv", z, g.weight(3, 2, 1)) if two else None, batch, first, 0, 0, count)
    outputs = [*({"y": y, "h": h}[u] for u in used), *n]
    check(g.model(*outputs, **dict.fromkeys(n, INT)), "S", at, lengths=LENGTHS)


def test_costs_nothing_without_a_delay() -> None:
    g = G()
    y = scan(g, g.input("x", ["N", 2, "S"]), None, "N", "zero", 2, 2, False)[-1]
    c = convert(g.model(y), axis="S", pulse=4)
    assert [s["kind"] for s in c.manifest["states"]] == ["recurrent"]
    assert [n.op_type for n in c.model.graph.node].count("Scan") == 1
    assert "Where" not in {n.op_type for n in c.model.graph.node}


def test_pointwise_scan() -> None:
    """Nothing carried."""
    g = G()
    x = g("Transpose", cut(g, g.input("x", ["N", 2, "S"]), 2, 2), perm=[2, 0, 1])
    body = helper.make_graph([node("Exp", ["f"], "y")], "body", [info("f")], [info("y")])
    check(g.model(g("Scan", x, body=body, num_scan_inputs=1)), "S", (1, 3, "P"))


def loop(
    style: str = "scalar", before: str = "", batch: Any = "N", trips: str = "S", condition: str = "same", used: str = "yh"
) -> onnx.ModelProto:
    """A Loop over the frames of ``[N, 2, S]`` as exporters write it."""
    g = G()
    x = g.input("x", [batch, 2, "S"])
    if before == "late":
        x = cut(g, x, 2, 3)
    axis = 1 if style == "axis" else 0
    x = g("Transpose", x, perm=[2, 0, 1] if axis == 0 else [0, 2, 1])
    size = g("Squeeze", g("Gather", g("Shape", x), g.ints(axis)), g.ints(0))
    count = {"S": size, "4": g.const(4, np.int64), "S-1": g("Sub", size, g.const(1, np.int64))}[trips]
    tensors = {"zero": np.int64([0]), "two": np.int64(2), "true": np.array(True), "big": np.float32(5)}
    index = {
        "scalar": [node("Gather", [x, "i"], "f")],
        "axis": [node("Gather", [x, "i"], "f", axis=1)],
        "wide": [node("Unsqueeze", ["i", "zero"], "j"), node("Gather", [x, "j"], "g"), node("Squeeze", ["g", "zero"], "f")],
        "cast": [node("Cast", ["i"], "j", to=TensorProto.INT32), node("Gather", [x, "j"], "f")],
        "other": [node("Mul", ["i", "two"], "j"), node("Sub", ["j", "i"], "k"), node("Gather", [x, "k"], "f")],
    }[style]
    go = {
        "same": [node("Identity", ["c"], "go")],
        "true": [node("Identity", ["true"], "go")],
        "data": [node("ReduceMax", ["hn"], "max", keepdims=0), node("Less", ["max", "big"], "go")],
    }[condition]
    body = helper.make_graph(
        [*index, *cell(g), *go], "body", [info("i", INT, []), info("c", BOOL, []), info("h")],
        [info("go", BOOL, []), info("hn"), info("y")], [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()],
    )  # fmt: skip
    h, y = g("Loop", count, g.const(True), start(g, "constant", x, 1 - axis, batch), n=2, body=body)
    made = {"h": h, "y": g("Transpose", y, perm=[1, 2, 0])}
    return g.model(*(made[u] for u in used))


@given(style=st.sampled_from(["scalar", "axis", "wide", "cast"]), before=st.sampled_from(["", "late"]), at=pulses(),
       batch=batches, condition=st.sampled_from(["same", "true"]), used=st.sampled_from(["y", "h", "yh"]))  # fmt: skip
@examples(12)
def test_loop_over_frames(style: str, before: str, at: Any, batch: Any, condition: str, used: str) -> None:
    check(loop(style, before, batch, condition=condition, used=used), "S", at, lengths=LENGTHS)


def refused(model: onnx.ModelProto) -> str:
    with pytest.raises(Refusal) as e:
        convert(model, axis="S", pulse=2)
    return str(e.value)


@pytest.mark.parametrize("kw", [{"style": "other"}, {"trips": "4"}, {"trips": "S-1"}, {"condition": "data"}])
def test_other_loops_are_refused(kw: dict[str, str]) -> None:
    text = refused(loop(**kw))  # type: ignore[arg-type]
    assert "cannot pulsify Loop node" in text and "it is not a loop over frames" in text
    assert "try:  export the loop as Scan, or as LSTM, GRU or RNN" in text


def counted(
    bounded: bool = True, start_at: int = 0, by: int = 1, compare: str = "Less", past: str = "S", final: bool = False
) -> onnx.ModelProto:
    """A ``while i + 1 < S`` as tf2onnx writes it: the loop counts by itself and hands its weight and S from step to step."""
    g = G()
    x = g("Transpose", g.input("x", ["N", 2, "S"]), perm=[2, 0, 1])
    size = g("Squeeze", g("Gather", g("Shape", x), g.ints(0)), g.ints(0))
    first = g("Less", g.const(np.float32(0)), g("Cast", size, to=FLOAT))
    weight = g.weight(2, 3)
    count = g.const(start_at, np.int64)
    limit = {"S": size, "4": g.const(4, np.int64), "S+3": g("Add", size, g.const(3, np.int64))}[past]
    h0 = start(g, "zero", x, 1, "N")
    cond = {
        "Less": [node("Less", ["jf", "nf"], "less")],
        "Greater": [node("Greater", ["nf", "jf"], "less")],
        "LessOrEqual": [node("Sub", ["n", "one"], "m"), node("LessOrEqual", ["j", "m"], "le"), node("And", ["le", "c"], "less")],
        "data": [node("ReduceMax", ["hn"], "max", keepdims=0), node("Less", ["max", "nf"], "less")],
    }[compare]
    body = helper.make_graph(
        [
            node("Gather", [x, "i"], "f"), node("MatMul", ["f", "w"], "a"), node("Add", ["a", "h"], "ah"), node("Tanh", ["ah"], "hn"),
            node("Identity", ["hn"], "y"), node("Add", ["step", "i"], "j"), node("Cast", ["j"], "jf", to=FLOAT),
            node("Cast", ["n"], "nf", to=FLOAT), *cond, node("And", ["less", "less"], "go"),
        ],
        "body", [info("k", INT, []), info("c", BOOL, []), info("i", INT, []), info("h"), info("n", INT, []), info("w")],
        [info("go", BOOL, []), info("j", INT, []), info("hn"), info("n", INT, []), info("w"), info("y")],
        [numpy_helper.from_array(np.int64(by), "step"), numpy_helper.from_array(np.int64(1), "one")],
    )  # fmt: skip
    most = size if bounded else ""
    i, h, _, w, y = g("Loop", most, g("And", first, first), count, h0, limit, weight, n=5, body=body)
    y = g("Transpose", y, perm=[1, 2, 0])
    return g.model(*((g("Add", y, g("Cast", i, to=FLOAT)), h) if final else (g("Add", y, g("ReduceSum", w)), h)))


@pytest.mark.parametrize("kw", [
    {}, {"bounded": False}, {"compare": "Greater"}, {"compare": "LessOrEqual", "bounded": False}, {"past": "S+3"},
], ids=str)  # fmt: skip
def test_loop_that_counts_by_itself(kw: dict[str, Any]) -> None:
    check(counted(**kw), "S", (1, 3, "P"), lengths=(1, 2, 4, 7, 12))


@pytest.mark.parametrize("kw", [
    {"start_at": 1}, {"by": 2}, {"past": "4"}, {"compare": "data"}, {"bounded": False, "past": "S+3"},
], ids=str)  # fmt: skip
def test_loops_that_count_otherwise_are_refused(kw: dict[str, Any]) -> None:
    """Another first frame, every second one, fewer of them, as many as the data say, or more than there are."""
    assert "it is not a loop over frames" in refused(counted(**kw))


def test_a_count_read_after_the_loop_is_a_summary() -> None:
    assert "summarises the whole stream" in refused(counted(final=True))


#: How a body computes ``f``, frame i, and ``n``: what it carries as what, the nodes, and what of it is next.
NUMBERS: dict[str, tuple[np.ndarray, list[onnx.NodeProto]]] = {
    "scalar": (np.float32(0), [node("Gather", ["x", "i"], "f"), node("Add", ["k", "one"], "kn"), node("Identity", ["kn"], "n")]),
    "of rank 2": (np.float32([[3]]), [node("Gather", ["x", "i"], "f"), node("Add", ["k", "one"], "kn"), node("Identity", ["kn"], "n")]),
    "read as well": (np.int64(0), [
        node("Gather", ["x", "k"], "f"), node("Add", ["k", "one"], "kn"), node("Cast", ["kn"], "n", to=FLOAT),
    ]),
    "of rank 1, read": (np.int64([0]), [
        node("Gather", ["x", "k"], "wide"), node("Squeeze", ["wide", "axis"], "f"), node("Add", ["k", "one"], "kn"), node("Exp", ["f"], "n"),
    ]),
    "of rank 1, squeezed": (np.int64([0]), [
        node("Squeeze", ["k"], "j"), node("Gather", ["x", "j"], "f"), node("Add", ["k", "one"], "kn"), node("Exp", ["f"], "n"),
    ]),
    "of the step": (np.float32(1), [
        node("Gather", ["x", "i"], "f"), node("Cast", ["i"], "fi", to=FLOAT), node("Exp", ["fi"], "e"),
        node("Sqrt", ["k"], "kn"), node("Add", ["e", "k"], "n"),
    ]),
    "rounded": (np.float32(2.5), [
        node("Gather", ["x", "i"], "f"), node("Cast", ["k"], "whole", to=INT), node("Cast", ["whole"], "kn", to=FLOAT), node("Identity", ["k"], "n"),
    ]),
    "of one byte": (np.uint8(253), [node("Gather", ["x", "i"], "f"), node("Add", ["k", "one"], "kn"), node("Cast", ["kn"], "n", to=FLOAT)]),
    "cast to one byte, read": (np.float32(0), [
        node("Cast", ["i"], "b", to=TensorProto.INT8), node("Cast", ["b"], "j", to=INT), node("Gather", ["x", "j"], "f"),
        node("Add", ["k", "one"], "kn"), node("Identity", ["kn"], "n"),
    ]),
    "doubled, read": (np.int64(0), [
        node("Add", ["k", "k"], "j"), node("Sub", ["j", "k"], "l"), node("Gather", ["x", "l"], "f"), node("Add", ["k", "one"], "kn"),
        node("Cast", ["kn"], "n", to=FLOAT),
    ]),
}  # fmt: skip


def numbered(name: str) -> onnx.ModelProto:
    """``y = f / n`` in a Loop over the frames of ``[S, 4]``."""
    g = G()
    first, nodes = NUMBERS[name]
    first = np.asarray(first)
    g.inputs.append(info("x", shape=["S", 4]))
    kind = helper.np_dtype_to_tensor_dtype(first.dtype)
    nodes = [*nodes, node("Div", ["f", "n"], "y0"), node("Reshape", ["y0", "row"], "y"), node("Identity", ["c"], "go")]
    tensors = {"one": np.ones((), first.dtype), "axis": np.int64([0]), "row": np.int64([4])}
    body = helper.make_graph(
        nodes, "body", [info("i", INT, []), info("c", BOOL, []), info("k", kind, first.shape)],
        [info("go", BOOL, []), info("kn", kind, first.shape), info("y")], [numpy_helper.from_array(np.asarray(v), k) for k, v in tensors.items()],
    )  # fmt: skip
    size = g("Squeeze", g("Gather", g("Shape", "x"), g.ints(0)), g.ints(0))
    return g.model(g("Loop", size, g.const(True), g.const(first), n=2, body=body)[1])


REFUSED = ("cast to one byte, read", "doubled, read")


@pytest.mark.parametrize("name", [name for name in NUMBERS if name not in REFUSED])
def test_numbers_that_a_loop_computes_with(name: str) -> None:
    check(numbered(name), "S", (1, 3, "P"), lengths=(1, 2, 4, 7))


@pytest.mark.parametrize("name", REFUSED)
def test_frames_read_by_computed_numbers_are_refused(name: str) -> None:
    """The byte overflows after 127 frames; sums of counters are not understood."""
    assert "its body reads 'x' otherwise" in refused(numbered(name))


@pytest.mark.parametrize("shape", [["S"], ["S", 4]])
@pytest.mark.parametrize("last", [False, True])
def test_carried_scalars(shape: list[Any], last: bool) -> None:
    """``z' = 0.9*z + 1``, over samples or frames; of a scalar no dimension is written down."""
    g = G()
    x = g.input("x", shape)
    nodes = [node("Mul", ["z", "a"], "za"), node("Add", ["za", "one"], "zn"), node("Div", ["f", "zn"], "y")]
    tensors = [numpy_helper.from_array(np.float32(v), n) for n, v in (("a", 0.9), ("one", 1))]
    body = helper.make_graph(nodes, "body", [info("z", shape=[]), info("f")], [info("zn", shape=[]), info("y")], tensors)
    z, y = g("Scan", g.const(np.float32(0)), x, n=2, body=body, num_scan_inputs=1)
    check(g.model(y, *([z] if last else [])), pulses=(1, 3, "P"))


@pytest.mark.parametrize("which", ["scan_input_directions", "scan_output_directions"])
def test_backwards_is_refused(which: str) -> None:
    g = G()
    y = scan(g, g.input("x", ["N", 2, "S"]), None, "N", "zero", 0, 0, False, **{which: [1]})[-1]
    text = refused(g.model(y))
    assert "cannot pulsify Scan node" in text and "it runs backwards from the end of the stream" in text


def test_over_another_axis_is_refused() -> None:
    g = G()
    x = g("Transpose", g.input("x", [1, 2, "S"]), perm=[1, 2, 0])
    body = helper.make_graph([node("Exp", ["f"], "y")], "body", [info("f")], [info("y")])
    assert "time is inside its body" in refused(g.model(g("Scan", x, body=body, num_scan_inputs=1)))


def test_time_read_from_outside_is_refused() -> None:
    g = G()
    x = g("Transpose", g.input("x", [1, 2, "S"]), perm=[2, 0, 1])
    body = helper.make_graph(
        [node("Shape", [x], "s"), node("Cast", ["s"], "t", to=FLOAT), node("ReduceMax", ["t"], "m", keepdims=0),
         node("Div", ["f", "m"], "y")],
        "body", [info("f")], [info("y")],
    )  # fmt: skip
    text = refused(g.model(g("Scan", x, body=body, num_scan_inputs=1)))
    assert "its body reads 'transpose_1', which has time, from outside" in text


def test_a_summary_read_from_outside_is_refused() -> None:
    g = G()
    x = g("Transpose", g.input("x", [1, 2, "S"]), perm=[2, 0, 1])
    k = [g.weight(1, 6, 2), g.weight(1, 6, 2)]
    _, h = g("GRU", x, *k, n=2, hidden_size=2)
    body = helper.make_graph([node("Mul", ["f", h], "y")], "body", [info("f")], [info("y")])
    text = refused(g.model(g("Scan", x, body=body, num_scan_inputs=1)))
    assert "cannot pulsify Scan node" in text and "summarises the whole stream" in text


@pytest.mark.parametrize("clash", ["y", "past_n_scan_2.carried_0", "present_n_scan_2.carried_0"])
def test_names_of_a_body_are_its_own(clash: str) -> None:
    """A wire of a body may be called like one around it: an output made later, a state."""
    g = G()
    x = g.input("x", ["S", 4])
    nodes = [node("Mul", ["h", "a"], "b"), node("Add", ["b", "f"], "hn"), node("Tanh", ["hn"], clash), node("Neg", [clash], "o")]
    body = helper.make_graph(nodes, "body", [info("h"), info("f")], [info("hn"), info("o")], [numpy_helper.from_array(np.float32(0.5), "a")])
    out = g("Scan", g.const(np.zeros(4), np.float32), x, n=2, body=body, num_scan_inputs=1)[1]
    g.nodes.append(node("Exp", [out], "y"))
    c = check(g.model("y"), pulses=(2,))
    around = {v.name for v in (*c.model.graph.input, *c.model.graph.initializer)} | {o for n in c.model.graph.node for o in n.output}
    (inner,) = [a.g for n in c.model.graph.node for a in n.attribute if a.name == "body"]
    assert not around & ({v.name for v in (*inner.input, *inner.initializer)} | {o for n in inner.node for o in n.output})


def test_carried_values_of_changing_shape_are_refused() -> None:
    g = G()
    x = g("Transpose", g.input("x", [1, 2, "S"]), perm=[2, 0, 1])
    body = helper.make_graph(
        [node("Concat", ["h", "f"], "hn", axis=0), node("Identity", ["f"], "y")], "body", [info("h"), info("f")],
        [info("hn"), info("y")],
    )  # fmt: skip
    _, y = g("Scan", g.weight(1, 2), x, n=2, body=body, num_scan_inputs=1)
    assert "changes its shape from FLOAT [1, 2] to FLOAT [2, 2]" in refused(g.model(y))
