"""LSTM, GRU and RNN over time and over other axes, with every attribute and every subset of outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.api import convert
from pulsify.errors import Refusal
from pulsify.ops.recurrent import GATES
from tests.contexts import batches, contexts, cut, pad, pulses, verify, window
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

ops = pytest.mark.parametrize("op_type", GATES)
IN, HIDDEN = 2, 3

#: Activations onnxruntime has, with their parameters.
ACTIVATIONS: dict[str, tuple[float, ...]] = {
    "Sigmoid": (), "Tanh": (), "Relu": (), "Softsign": (), "Softplus": (), "LeakyRelu": (0.1,), "Elu": (0.5,),
    "HardSigmoid": (0.3, 0.4), "ScaledTanh": (0.8, 0.7), "Affine": (0.5, 0.1), "ThresholdedRelu": (0.2,),
}  # fmt: skip


def weights(g: G, op_type: str, directions: int = 1, dtype: Any = np.float32) -> list[str]:
    k = GATES[op_type] * HIDDEN
    return [g.weight(directions, k, n, dtype=dtype) for n in (IN, HIDDEN)] + [g.weight(directions, 2 * k, dtype=dtype)]


def start(g: G, kind: str, x: str, name: str, batch: Any, directions: int = 1) -> str:
    """An initial state: given, constant, zero or made from the input's shape (``[S, N, I]``)."""
    rows = g("Gather", g("Shape", x), g.ints(1))
    shape = g("Concat", g.ints(directions), rows, g.ints(HIDDEN), axis=0)
    if kind == "input":
        return g.input(name, [directions, batch, HIDDEN])
    if kind == "constant" and isinstance(batch, int):
        return g.weight(directions, batch, HIDDEN)
    if kind == "zero":
        return g("ConstantOfShape", shape)
    return g("Expand", g.weight(directions, 1, HIDDEN), shape)


def outputs(op_type: str) -> int:
    return 3 if op_type == "LSTM" else 2


@st.composite
def attributes(draw: st.DrawFn, op_type: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    if draw(st.booleans()):
        out["clip"] = draw(st.sampled_from([0.3, 2.0]))
    if op_type == "LSTM" and draw(st.booleans()):
        out["input_forget"] = 1
    if op_type == "GRU" and draw(st.booleans()):
        out["linear_before_reset"] = 1
    if draw(st.booleans()):
        count = {"LSTM": 3, "GRU": 2, "RNN": 1}[op_type]
        names = [draw(st.sampled_from(sorted(ACTIVATIONS))) for _ in range(count)]
        out["activations"] = names
        out["activation_alpha"] = [float((*ACTIVATIONS[n], 0.0)[0]) for n in names]
        out["activation_beta"] = [float((*ACTIVATIONS[n], 0.0, 0.0)[1]) for n in names]
    return out


def recurrent(op_type: str, batch: Any, first: str, peepholes: bool, full: bool, **attributes: Any) -> Any:
    """``op(g, x)`` on ``[N, I, S]``, giving ``[N, H, S]``."""

    def op(g: G, x: str) -> str:
        x = g("Transpose", x, perm=[2, 0, 1])
        inputs = [x, *weights(g, op_type), ""]
        if full:
            size = g("Cast", g("Gather", g("Shape", x), g.ints(0)), to=TensorProto.INT32)
            inputs[4] = g("Expand", size, g("Gather", g("Shape", x), g.ints(1)))
        if first != "absent":
            inputs += [start(g, first, x, "h", batch)]
            inputs += [start(g, first, x, "c", batch)] if op_type == "LSTM" else []
        if op_type == "LSTM" and peepholes:
            inputs += [""] * (7 - len(inputs)) + [g.weight(1, 3 * HIDDEN)]
        y, *_ = g(op_type, *inputs, n=outputs(op_type), hidden_size=HIDDEN, **attributes)
        return g("Transpose", g("Squeeze", y, g.ints(1)), perm=[1, 2, 0])

    return op


@ops
@given(data=st.data(), context=contexts, at=pulses(), batch=batches, first=st.sampled_from(["absent", "input", "constant", "zero", "shape"]),
       peepholes=st.booleans(), full=st.booleans())  # fmt: skip
@examples(12)
def test_over_time(op_type: str, data: Any, context: str, at: Any, batch: Any, first: str, peepholes: bool, full: bool) -> None:
    op = recurrent(op_type, batch, first, peepholes, full, **data.draw(attributes(op_type)))
    verify(op, [batch, IN, "S"], context, at, least=False)


def finals(op_type: str, batch: Any, first: str, before: str, used: str) -> onnx.ModelProto:
    """Final states (``h``, ``c``), what a classifier makes of them (``k``), and frames (``y``) in any combination."""
    g = G()
    x = g.input("x", [batch, IN, "S"])
    if before == "late":
        x = cut(g, x, 2, 3)
    elif before == "cropped":
        x = cut(g, x, 2, 1, 2)
    elif before == "same":
        x = g("Conv", x, g.weight(IN, IN, 5), pads=[2, 2])
    elif before == "strided":
        x = g("Conv", x, g.weight(IN, IN, 3), pads=[1, 1], strides=[2])
    elif before == "padded":
        x = pad(g, cut(g, x, 2, 2), 2, 3, 1, 3, 0.5)
    x = g("Transpose", x, perm=[2, 0, 1])
    inputs = [x, *weights(g, op_type), ""]
    if first != "absent":
        inputs += [start(g, first, x, "h0", batch)] + ([start(g, first, x, "c0", batch)] if op_type == "LSTM" else [])
    y, h, *c = g(op_type, *inputs, n=outputs(op_type), hidden_size=HIDDEN)
    made = {
        "y": lambda: g("Transpose", g("Squeeze", y, g.ints(1)), perm=[1, 2, 0]),
        "h": lambda: h,
        "c": lambda: c[0] if c else g("Neg", h),
        "k": lambda: g("Softmax", g("MatMul", g("Squeeze", h, g.ints(0)), g.weight(HIDDEN, 4)), axis=-1),
    }
    return g.model(*(made[u]() for u in used))


@ops
@given(batch=batches, first=st.sampled_from(["absent", "input", "constant", "shape"]),
       before=st.sampled_from(["", "late", "cropped", "same", "strided", "padded"]),
       used=st.sampled_from(["h", "yh", "k", "kc", "hy"]), at=pulses())  # fmt: skip
@examples(10)
def test_final_states(op_type: str, batch: Any, first: str, before: str, used: str, at: Any) -> None:
    by = 2 if before == "strided" else 1
    check(finals(op_type, batch, first, before, used), "S", [p if isinstance(p, str) else p * by for p in at])


@ops
@given(direction=st.sampled_from(["forward", "reverse", "bidirectional"]), first=st.sampled_from(["absent", "zero", "shape"]),
       lens=st.booleans(), context=contexts, at=pulses(), used=st.integers(0, 1), clip=st.booleans())  # fmt: skip
@examples(10)
def test_over_another_axis(
    op_type: str, direction: str, first: str, lens: bool, context: str, at: Any, used: int, clip: bool
) -> None:
    """Frequency is the sequence and time the batch: every frame is a sequence of its own."""
    d = 2 if direction == "bidirectional" else 1
    more = {"clip": 0.2} if clip else {}

    def op(g: G, x: str) -> str:
        x = g("Transpose", x, perm=[1, 2, 0])  # [F, S, I]
        inputs = [x, *weights(g, op_type, d), ""]
        if lens:
            frames = g("Gather", g("Shape", x), g.ints(1))
            inputs[4] = g("ConstantOfShape", frames, value=onnx.numpy_helper.from_array(np.int32([3])))
        if first != "absent":
            inputs += [start(g, first, x, "h", "S", d)]
        out = g(op_type, *inputs, n=outputs(op_type), hidden_size=HIDDEN, direction=direction, **more)[used]
        if used == 0:
            out = g("Reshape", g("Transpose", out, perm=[0, 1, 3, 2]), g.ints(4, d * HIDDEN, -1))
        else:
            out = g("Transpose", out, perm=[0, 2, 1])
        return out

    verify(op, [IN, 4, "S"], context, at, least=False)


def test_costs_nothing_without_a_delay() -> None:
    """No mask, no counter: the operator and its states."""
    for op_type in GATES:
        c = convert(finals(op_type, "N", "absent", "", "y"), axis="S", pulse=4)
        assert [s["kind"] for s in c.manifest["states"]] == ["recurrent"] * (outputs(op_type) - 1)
        assert [n.op_type for n in c.model.graph.node] == ["Transpose", op_type, "Squeeze", "Transpose"]


@ops
@pytest.mark.parametrize("batch", ["N", 2])
def test_layers_share_what_they_know_of_the_stream(op_type: str, batch: Any) -> None:
    g = G()
    x = g("Transpose", cut(g, g.input("x", [batch, IN, "S"]), 2, 3), perm=[2, 0, 1])
    finals = []
    for _ in range(3):
        y, h, *_ = g(op_type, x, *weights(g, op_type), n=outputs(op_type), hidden_size=HIDDEN)
        x = g("MatMul", g("Squeeze", y, g.ints(1)), g.weight(HIDDEN, IN))
        finals.append(h)
    c = check(g.model(x), "S", (1, 3, "P"))
    assert [n.op_type for n in c.model.graph.node].count("Clip") == 1
    c = check(g.model(x, *finals), "S", (1, 3, "P"))
    assert [n.op_type for n in c.model.graph.node].count("Clip") == 2


@ops
def test_delay_stays_least(op_type: str) -> None:
    for context in ("alone", "late", "masked", "merged", "padded", "causal"):
        verify(recurrent(op_type, 1, "absent", False, False), [1, IN, "S"], context, (2,), least=True)


@ops
def test_half_precision(op_type: str) -> None:
    g = G()
    x = g("Transpose", cut(g, g.input("x", ["N", IN, "S"], TensorProto.FLOAT16), 2, 2), perm=[2, 0, 1])
    y, h, *_ = g(op_type, x, *weights(g, op_type, dtype=np.float16), n=outputs(op_type), hidden_size=HIDDEN)
    check(g.model(y, h, **{y: TensorProto.FLOAT16, h: TensorProto.FLOAT16}), "S", (1, 3, "P"))


@ops
def test_rows_first(op_type: str) -> None:
    """Layout 1, which onnxruntime does not have: against layout 0."""
    g = G()
    x = cut(g, g.input("x", ["N", "S", IN]), 1, 2)
    w = weights(g, op_type)
    h0 = g.input("h0", ["N", 1, HIDDEN])
    n = outputs(op_type)
    y, h, *_ = g(op_type, x, *w, "", h0, n=n, hidden_size=HIDDEN, layout=1)
    pulsed = convert(g.model(g("Squeeze", y, g.ints(2)), h), axis="S", pulse=3)
    assert [n.op_type for n in pulsed.model.graph.node].count(op_type) == 1
    assert not any(a.name == "layout" for n in pulsed.model.graph.node for a in n.attribute)
    # The same by hand, run against the stream of the other.
    f = G()
    x = cut(f, f.input("x", ["N", "S", IN]), 1, 2)
    w = weights(f, op_type)
    h0 = f("Transpose", f.input("h0", ["N", 1, HIDDEN]), perm=[1, 0, 2])
    y, h, *_ = f(op_type, f("Transpose", x, perm=[1, 0, 2]), *w, "", h0, n=n, hidden_size=HIDDEN)
    plain = f.model(f("Transpose", f("Squeeze", y, f.ints(1)), perm=[1, 0, 2]), f("Transpose", h, perm=[1, 0, 2]))
    check(plain, "S", (1, 3, "P"))
    ours, theirs = pulsed.manifest, convert(plain, axis="S", pulse=3).manifest
    assert [s["shape"] for s in ours["states"]] == [s["shape"] for s in theirs["states"]]
    from pulsify.runtime import open_session

    a, b = (open_session(m.model.SerializeToString()) for m in (pulsed, convert(plain, axis="S", pulse=3)))
    rng = np.random.default_rng(0)
    fa = {"x": rng.standard_normal((2, 3, IN)).astype(np.float32), "h0": rng.standard_normal((2, 1, HIDDEN)).astype(np.float32)}
    fa["valid_frames"] = np.int64([3, 2])
    fb = dict(fa)
    for _ in range(3):
        for feeds, m in ((fa, ours), (fb, theirs)):
            for s in m["states"]:
                feeds.setdefault(s["input"], np.zeros([d if isinstance(d, int) else 2 for d in s["shape"]], s["dtype"]))
        ra, rb = a.run(None, fa), b.run(None, fb)
        for p, q in zip(ra, rb, strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-6, atol=1e-6)
        fa.update(zip([s["input"] for s in ours["states"]], ra[2:], strict=True))
        fb.update(zip([s["input"] for s in theirs["states"]], rb[2:], strict=True))


@ops
def test_padding_nobody_reads_still_moves_the_state(op_type: str) -> None:
    """The frames cut away behind the operator are part of what it remembers."""

    def op(g: G, x: str) -> str:
        y = recurrent(op_type, 1, "absent", False, False)(g, pad(g, window(g, x, 2), 2, 3, 2, 0))
        return cut(g, y, 2, 2)

    verify(op, [1, IN, "S"], "late", (1, 3, "P"), least=False)


#: What onnx's reference passes over when it evaluates the operators.
PASSED_OVER: list[dict[str, Any]] = [{"clip": 0.1}, {"lens": True}, {"activations": True}]


@ops
@pytest.mark.parametrize("which", PASSED_OVER, ids=lambda w: next(iter(w)))
@pytest.mark.parametrize("constant", [True, False])
def test_evaluated_when_converting(op_type: str, which: dict[str, Any], constant: bool) -> None:
    """An operator over constants, and one over padding that announces its frames (time in the batch)."""
    more = dict(which)
    if more.pop("activations", False):
        more["activations"] = ["Softsign"] * {"LSTM": 3, "GRU": 2, "RNN": 1}[op_type]
    lens = more.pop("lens", False)
    g = G()
    x = g.input("x", [1, 4, IN, "S"])
    z = g.weight(4, 3, IN) if constant else g("Squeeze", g("Transpose", pad(g, x, 3, 4, 2, 0, 0.7), perm=[1, 3, 2, 0]), g.ints(3))
    inputs = [z, *weights(g, op_type)]
    if lens:
        rows = g("Gather", g("Shape", z), g.ints(1))
        inputs.append(g("ConstantOfShape", rows, value=onnx.numpy_helper.from_array(np.int32([2]))))
    y, *_ = g(op_type, *inputs, n=outputs(op_type), hidden_size=HIDDEN, **more)
    if constant:
        y = g("Mul", x, g("ReduceSum", y))
    else:  # [F, 1, S + 2, H]
        y = g("Transpose", y, perm=[1, 0, 3, 2])
        y = g("Conv", g("Reshape", y, g.ints(0, 4 * HIDDEN, -1)), g.weight(1, 4 * HIDDEN, 3))
    check(g.model(y), "S", (1, 3))


def refused(model: onnx.ModelProto) -> str:
    with pytest.raises(Refusal) as e:
        convert(model, axis="S", pulse=2)
    return str(e.value)


def over_time(op_type: str, directions: int = 1, lens: str = "", **attributes: Any) -> onnx.ModelProto:
    g = G()
    x = g.input("x", ["S", 1, IN])
    if lens == "input":
        lens = g.input("lengths", [1], TensorProto.INT32)
    elif lens == "constant":
        lens = g.const([5], np.int32)
    elif lens == "shorter":
        lens = g("Cast", g("Sub", g("Gather", g("Shape", x), g.ints(0)), g.ints(1)), to=TensorProto.INT32)
    y, *_ = g(op_type, x, *weights(g, op_type, directions), lens, n=2, hidden_size=HIDDEN, **attributes)
    return g.model(y)


@ops
def test_backwards_over_time_is_refused(op_type: str) -> None:
    text = refused(over_time(op_type, direction="reverse"))
    assert f"cannot pulsify {op_type} node" in text
    assert "on axis 0\n  why:  it runs backwards from the end of the stream" in text
    assert "try:  train a forward model" in text
    text = refused(over_time(op_type, 2, direction="bidirectional"))
    assert "one of its two directions runs backwards from the end of the stream" in text


@pytest.mark.parametrize("lens", ["input", "constant", "shorter"])
def test_lengths_not_full_are_refused(lens: str) -> None:
    text = refused(over_time("GRU", lens=lens))
    assert "are not known to be the length of the stream, S" in text
    assert "try:  leave sequence_lens out" in text


def test_a_summary_fed_back_is_refused() -> None:
    g = G()
    x = g.input("x", ["S", 1, IN])
    _, h = g("GRU", x, *weights(g, "GRU"), n=2, hidden_size=HIDDEN)
    y, _ = g("GRU", x, *weights(g, "GRU"), "", h, n=2, hidden_size=HIDDEN)
    text = refused(g.model(y))
    assert "cannot pulsify GRU node" in text and "summarises the whole stream" in text


def test_a_state_of_another_batch_is_refused() -> None:
    g = G()
    x = g("Transpose", g.input("x", ["N", "S", IN]), perm=[1, 0, 2])
    y, _ = g("GRU", x, *weights(g, "GRU"), "", g.input("h", [1, "M", HIDDEN]), n=2, hidden_size=HIDDEN)
    assert "its initial state 'h' is [1, M, 3], and its state [1, N, 3]" in refused(g.model(y))


@given(at=pulses(), kind=st.sampled_from(["constant", "position"]), late=st.booleans())
@examples(4)
def test_over_what_is_known_of_every_frame(at: Any, kind: str, late: bool) -> None:
    """A recurrence over a constant, or over positions, as long as the stream."""
    g = G()
    x = g.input("x", ["N", IN, "S"])
    x = g("Transpose", cut(g, x, 2, 3) if late else x, perm=[2, 0, 1])
    if kind == "constant":
        z = g("ConstantOfShape", g("Shape", x), value=onnx.numpy_helper.from_array(np.float32([0.5])))
    else:
        size = g("Squeeze", g("Gather", g("Shape", x), g.ints(0)), g.ints(0))
        index = g("Cast", g("Range", g.const(0, np.int64), size, g.const(1, np.int64)), to=TensorProto.FLOAT)
        z = g("Expand", g("Unsqueeze", g("Mul", index, g.const(0.1, np.float32)), g.ints(1, 2)), g("Shape", x))
    y, _ = g("GRU", z, *weights(g, "GRU"), n=2, hidden_size=HIDDEN)
    y = g("MatMul", g("Squeeze", y, g.ints(1)), g.weight(HIDDEN, IN))
    check(g.model(g("Mul", x, y)), "S", at, lengths=(4, 5, 7, 12))


def test_time_as_features_is_refused() -> None:
    g = G()
    x = g.input("x", [4, 1, "S"])
    y, _ = g("GRU", x, g.weight(1, 9, IN), g.weight(1, 9, 3), n=2, hidden_size=3)
    assert "on axis 2" in refused(g.model(y))


def test_rows_merged_with_another_axis_are_refused() -> None:
    g = G()
    x = g.input("x", ["N", 4, "S", IN])
    x = g("Reshape", g("Transpose", x, perm=[2, 0, 1, 3]), g.ints(0, -1, IN))
    y, _ = g("GRU", x, *weights(g, "GRU"), n=2, hidden_size=HIDDEN)
    assert "its state is [1, 4*N, 3], and a state needs fixed sizes besides the batch" in refused(g.model(y))


@pytest.mark.parametrize("how", ["ReverseSequence", "Slice"])
def test_reversed_time_is_refused(how: str) -> None:
    g = G()
    x = g.input("x", ["S", 1, IN])
    if how == "Slice":
        x = g("Slice", x, g.ints(-1), g.ints(-(2**63) + 1), g.ints(0), g.ints(-1))
    else:
        lens = g("Gather", g("Shape", x), g.ints(0))
        x = g("ReverseSequence", x, lens, time_axis=0, batch_axis=1)
    y, _ = g("GRU", x, *weights(g, "GRU"), n=2, hidden_size=HIDDEN)
    assert f"cannot pulsify {how} node" in refused(g.model(y)) and "it reverses time" in refused(g.model(y))


@given(context=contexts, at=pulses(), batch_axis=st.integers(0, 1))
@examples(6)
def test_reverse_sequence_over_another_axis(context: str, at: Any, batch_axis: int) -> None:
    def op(g: G, x: str) -> str:
        lens = g.const([1, 3, 2, 3][: 3 if batch_axis == 0 else 4], np.int64)
        return g("ReverseSequence", x, lens, time_axis=1 - batch_axis, batch_axis=batch_axis)

    verify(op, [3, 4, "S"], context, at)
