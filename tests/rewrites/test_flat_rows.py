"""Rows of several recordings as one matrix: exact whatever reads and makes them, and a Gemm per layer."""

from __future__ import annotations

from collections import Counter
from unittest import mock

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify import StreamBatch
from pulsify.api import Conversion
from pulsify.dim import sym
from pulsify.rewrites import flat_rows, frame_rows
from pulsify.rewrites._held import Shape, _told
from pulsify.rewrites._region import Choice
from tests.contexts import pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

#: What works on rows, and the number of columns it leaves of four.
KINDS = (
    "product", "bias", "bias first", "thin bias", "activated", "residual", "twice", "norm", "softmax", "centred", "split", "cut", "beside",
    "scale", "number", "gate", "where", "slope", "window", "padded", "mixed", "depthwise", "narrow", "widened",
)  # fmt: skip


def kinds(c: Conversion) -> Counter[str]:
    return Counter(n.op_type for n in c.model.graph.node)


def along(g: G, y: str, op: str, *inputs: str, **attributes: object) -> str:
    """An operator with channels in front of time, on frames ``[N, S, C]``."""
    z = g(op, g("Transpose", y, perm=[0, 2, 1]), *inputs, **attributes)
    return str(g("Transpose", z, perm=[0, 2, 1]))


def layer(g: G, kind: str, y: str) -> str:
    """A layer over the last axis, four long."""
    w, product = lambda *s: g.weight(*s), lambda v: g("MatMul", v, g.weight(4, 4))
    return str({
        "product": lambda: product(y),
        "bias": lambda: g("Add", product(y), w(4)),
        "bias first": lambda: g("Add", w(1, 1, 4), product(y)),
        "thin bias": lambda: g("Add", product(y), w(1)),
        "activated": lambda: g("Relu", g("Add", product(y), w(4))),
        "residual": lambda: g("Tanh", g("Add", y, product(y))),
        "twice": lambda: g("Add", product(y), product(g("Sin", y))),
        "norm": lambda: g("LayerNormalization", y, w(4), w(4)),
        "softmax": lambda: g("Softmax", y, axis=-1),
        "centred": lambda: g("Sub", y, g("ReduceMean", y, g.ints(-1))),
        "split": lambda: g("Concat", *reversed(g("Split", y, g.ints(1, 3), n=2, axis=-1)), axis=-1),
        "cut": lambda: g("Concat", g("Slice", y, g.ints(1), g.ints(3), g.ints(-1)), g("Slice", y, g.ints(0), g.ints(2), g.ints(2)), axis=2),
        "beside": lambda: g("MatMul", g("Concat", y, g("Cos", y), axis=2), w(8, 4)),
        "scale": lambda: g("Mul", w(4), g("Add", y, w(1, 1, 4))),
        "number": lambda: g("Add", g("Mul", y, g.const(np.float32(0.5))), w(1, 1, 1)),
        "gate": lambda: g("Mul", g("Tanh", g("Add", product(y), w(4))), g("Sigmoid", g("Add", product(y), w(4)))),
        "where": lambda: g("Where", g("Greater", y, g.const(np.float32(0))), product(y), g("ReduceMax", y, g.ints(2))),
        "slope": lambda: g("PRelu", y, w(4)),
        "window": lambda: along(g, y, "Conv", w(4, 4, 3), w(4)),
        "padded": lambda: along(g, y, "Conv", w(4, 4, 3), w(4), pads=[1, 1]),
        "mixed": lambda: g("Relu", along(g, g("Relu", y), "Conv", w(4, 4, 2), w(4), pads=[1, 0])),
        "narrow": lambda: g("Add", g("MatMul", y, w(4, 1)), y),
        "widened": lambda: g("Relu", g("Add", g("MatMul", y, w(4, 1)), w(4))),
        "average": lambda: g("Sub", y, g("ReduceMean", y, g.ints(2))),
        "depthwise": lambda: along(g, y, "Conv", w(4, 1, 3), w(4), group=4, pads=[2, 0]),
    }[kind]())  # fmt: skip


@given(data=st.data())
@examples(80)
def test_whatever_works_on_rows(data: st.DataObject) -> None:
    """Whether it pays or not, with readers outside, as outputs, for one recording and for several."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    y = g.input("x", [data.draw(st.sampled_from(["N", "N", 1]), "batch"), "S", 4])
    made = []
    for kind in data.draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=5), "kinds"):
        y = layer(g, kind, y)
        made.append(y)
    others = [g("Sin", v) for v in made[:-1] if data.draw(st.integers(0, 3), "read elsewhere") == 0]
    least = data.draw(st.sampled_from([0.0, -1e9]), "worth at least")
    gain, choose = flat_rows._gain, frame_rows.choose
    rows = data.draw(st.booleans(), "all in rows")
    with (
        mock.patch.object(flat_rows, "_gain", lambda *a: gain(*a) - least),
        mock.patch.object(frame_rows, "choose", lambda g, forms: Choice(set(forms), set()) if rows else choose(g, forms)),
    ):
        check(g.model(*dict.fromkeys([*others[:1], y])), pulses=data.draw(pulses()))


@given(data=st.data())
@examples(30)
def test_more_axes(data: st.DataObject) -> None:
    """Frames of frequencies, of each of which there is a row."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    y = g.input("x", [data.draw(st.sampled_from(["N", 1]), "batch"), "S", 3, 4])
    fine = ("product", "bias", "activated", "residual", "norm", "softmax", "scale", "number", "gate", "slope", "average", "narrow", "twice")
    for kind in data.draw(st.lists(st.sampled_from(fine), min_size=1, max_size=4), "kinds"):
        y = layer(g, kind, y)
    check(g.model(y), pulses=data.draw(pulses()))


def tcn(g: G, batch: int | str, layers: int = 3, kernel: int = 3, gated: bool = False) -> str:
    y = g.input("x", [batch, 8, "S"])
    for k in range(layers):
        d = 2**k
        conv = lambda: g("Conv", y, g.weight(8, 8, kernel), g.weight(8), dilations=[d], pads=[(kernel - 1) * d, 0])  # noqa: B023, E731
        z = g("Mul", g("Tanh", conv()), g("Sigmoid", conv())) if gated else g("Relu", conv())
        y = g("Add", y, z)
    return str(y)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("kernel", [2, 3])
def test_as_few_nodes_as_for_one_recording(kernel: int, gated: bool) -> None:
    """At one frame a batch costs two Reshapes and a Concat for all layers together."""
    count = {}
    for batch in (1, "N"):
        g = G()
        c = check(g.model(tcn(g, batch, 3, kernel, gated)), pulses=(1,))
        count[batch] = kinds(c)
    assert count["N"]["Gemm"] == count[1]["Gemm"] == (6 if gated else 3) and not count["N"]["MatMul"]
    assert count["N"].total() <= count[1].total() + 4


def test_masks_of_one_frame() -> None:
    """Padding on either side: what is not of the stream is let through for no recording, over a matrix as well."""
    g = G()
    y = g.input("x", ["N", 4, "S"])
    for _ in range(2):
        y = g("Relu", g("Conv", y, g.weight(4, 4, 3), g.weight(4), pads=[1, 1]))
    c = check(g.model(y), pulses=(1,))
    assert kinds(c)["Gemm"] == 2 and not kinds(c)["MatMul"]
    (mask,) = [n for n in c.model.graph.node if n.op_type == "Mul"]
    assert mask.input[1] in {o for n in c.model.graph.node for o in n.output}
    run = ort.InferenceSession(g.model(y).SerializeToString())
    streams, rng = StreamBatch(c.model.SerializeToString()), np.random.default_rng(0)
    waves = [rng.standard_normal((1, 4, n)).astype(np.float32) for n in (9, 4, 6)]
    rows = [streams.add() for _ in waves]
    parts: list[list[np.ndarray]] = [[] for _ in waves]
    for at in range(9):
        fed = {row: {"x": x[:, :, at : at + 1]} for row, x in zip(rows, waves, strict=True) if at < x.shape[2]}
        for row, made in streams.feed(fed).items():
            parts[rows.index(row)].append(*made.values())
        for k, x in enumerate(waves):
            if at == x.shape[2] - 1:
                parts[k].append(*streams.finish(rows[k]).values())
    for x, got in zip(waves, parts, strict=True):
        np.testing.assert_allclose(np.concatenate(got, axis=2), run.run(None, {"x": x})[0], atol=1e-5)


def test_residual_within_the_product() -> None:
    """``x W + y`` without a bias is one Gemm; of two products added, one is in the other."""
    g = G()
    x = g.input("x", ["N", "S", 4])
    c = check(g.model(g("Relu", g("Add", g("MatMul", x, g.weight(4, 4)), x))), pulses=(1, 3))
    assert kinds(c)["Gemm"] == 1 and not kinds(c)["Add"]
    g = G()
    x = g.input("x", ["N", "S", 3, 4])
    c = check(g.model(g("Relu", g("Add", g("MatMul", x, g.weight(4, 4)), g("MatMul", g("Sin", x), g.weight(4, 4))))), pulses=(1, 3))
    assert kinds(c)["Gemm"] == 2 and not kinds(c)["Add"] + kinds(c)["MatMul"]


@pytest.mark.parametrize("kernel", [2, 3])
def test_histories_of_several_frames(kernel: int) -> None:
    """What is remembered together is several rows of each recording."""
    g = G()
    with mock.patch.object(frame_rows, "choose", lambda g, forms: Choice(set(forms), set())):
        c = check(g.model(tcn(g, "N", 3, kernel)), pulses=(2, 4))
    assert kinds(c)["Gemm"] == 3


def test_only_where_it_pays() -> None:
    """Between operators that need all axes, a product without bias and activation stays as it is."""
    g = G()
    x = g.input("x", ["N", "S", 4])
    plain = g.model(g("CumSum", g("MatMul", g("CumSum", x, g.const(1)), g.weight(4, 4)), g.const(1)))
    c = check(plain, pulses=(4,))
    assert kinds(c)["MatMul"] == 1 and not kinds(c)["Gemm"]


def test_pulses_of_any_size_with_a_batch_stay() -> None:
    """Two sizes nobody knows cannot be told apart again; one can."""
    counts: dict[object, Counter[str]] = {}
    for batch in ("N", 1):
        g = G()
        x = g.input("x", [batch, "S", 4])
        counts[batch] = kinds(check(g.model(g("Relu", g("Add", g("MatMul", x, g.weight(4, 4)), g.weight(4)))), pulses=("P",)))
    assert counts["N"]["MatMul"] == 1 and counts[1]["Gemm"] == 1


def test_what_broadcasts_over_rows_stays() -> None:
    """A static input per recording and a constant per frequency need their axes, but where there is a single frame."""
    g = G()
    x, h = g.input("x", ["N", "S", 4]), g.input("h", ["N", 1, 4])
    y = g("Add", g("Relu", g("Add", g("MatMul", x, g.weight(4, 4)), g.weight(4))), h)
    assert [kinds(check(g.model(y), axis="x:1", pulses=(p,)))["Add"] for p in (1, 3)] == [1, 1]
    g = G()
    x = g.input("x", [1, "S", 3, 4])
    y = g("Mul", g("Relu", g("Add", g("MatMul", x, g.weight(4, 4)), g.weight(4))), g.weight(3, 1))
    assert kinds(check(g.model(y), pulses=(2,)))["Mul"] == 1


def test_norms_whose_scale_has_all_axes() -> None:
    """A scale ``[1, 1, C]`` lines up with three axes, not with two; outputs nobody reads are no hindrance."""
    for shape in ((1, 1, 4), (4,)):
        g = G()
        y = g("LayerNormalization", g.input("x", ["N", "S", 4]), g.weight(*shape), g.weight(*shape), n=3)[0]
        for _ in range(2):
            y = g("Relu", g("Add", g("MatMul", y, g.weight(4, 4)), g.weight(4)))
        assert kinds(check(g.model(y), pulses=(1, 3)))["Gemm"] == 2


def test_doubles() -> None:
    g = G()
    x = g.input("x", ["N", "S", 4], onnx.TensorProto.DOUBLE)
    y = g("Relu", g("Add", g("MatMul", x, g.weight(4, 4, dtype=np.float64)), g.weight(4, dtype=np.float64)))
    assert kinds(check(g.model(y, **{y: onnx.TensorProto.DOUBLE}), pulses=(1, 2)))["Gemm"] == 1


N, S = sym("N"), sym("S")


@pytest.mark.parametrize(
    ("op", "shapes", "constants", "attributes", "told"),
    [
        ("Reshape", [(N, 4, 6)], [[-1, 8, 3]], {}, [(N, 8, 3)]),
        ("Reshape", [(N, 4, 6)], [[-1, 2, 6]], {}, [(None, 2, 6)]),
        ("Reshape", [(N, S, 6)], [[-1, 2, 3]], {}, [(None, 2, 3)]),
        ("Reshape", [(N, 4, 6)], [[0, 4, 6]], {}, []),
        ("Add", [(N, 4, 6), (N, 1, 6)], [], {}, [(N, 4, 6)]),
        ("Add", [(N, 4, 6), (S, 4, 6)], [], {}, []),
        ("Add", [(None, 4, 6), (1, 4, 1)], [], {}, [(None, 4, 6)]),
        ("Split", [(N, 5, 6)], [], {"axis": 1, "num_outputs": 2}, [(N, 3, 6), (N, 2, 6)]),
        ("Slice", [(N, 5, 6)], [[-2], [1 << 40], [1]], {}, [(N, 2, 6)]),
        ("Gather", [(N, 5, 6)], [[[0, 1], [1, 2]]], {"axis": 1}, [(N, 2, 2, 6)]),
        ("Concat", [(N, 5, 6), (None, 1, 6)], [], {"axis": -2}, [(N, 6, 6)]),
        ("ReduceSum", [(N, 5, 6)], [[1]], {"keepdims": 0}, [(N, 6)]),
        ("CumSum", [(N, 5, 6)], [], {}, []),
    ],
)  # fmt: skip
def test_what_wires_hold(op: str, shapes: list[Shape], constants: list[object], attributes: dict[str, int], told: list[Shape]) -> None:
    wires = [ir.Value(name=f"x{k}") for k in range(len(shapes))]
    fixed = [ir.Value(name=f"c{k}", const_value=ir.tensor(np.asarray(c, np.int64))) for k, c in enumerate(constants)]
    node = ir.Node("", op, [*wires, *fixed], [ir.AttrInt64(k, v) for k, v in attributes.items()], num_outputs=2 if op == "Split" else 1)
    assert _told(node, dict(zip(wires, shapes, strict=True))) == told
