"""Reductions over time: the value after every pulse is that of the frames so far."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from pulsify.api import Conversion, convert
from pulsify.errors import Refusal
from pulsify.ops.reduce import NAMES
from pulsify.runtime import open_session
from tests.contexts import batches, pad, pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

#: What comes before the reduction: nothing; a delay; padding that announces frames; a mask at both ends; a crop that
#: must wait; a padded window (delay 1, masked); two of them at half the rate.
SOURCES = ("alone", "late", "early", "masked", "cropped", "conv", "halved")
sources = st.sampled_from(SOURCES)
END = 2**62


def source(g: G, kind: str, x: str, channels: int = 3) -> str:
    """A wire ``[N, channels, .., 2]`` with time on axis 2."""
    w = g.weight(channels, channels, 3, 1)
    if kind == "late":
        return g("Slice", x, g.ints(3), g.ints(END), g.ints(2))
    if kind == "cropped":
        return g("Slice", x, g.ints(0), g.ints(-2), g.ints(2))
    if kind in ("early", "masked"):
        return pad(g, x, 2, 4, *((2, 0) if kind == "early" else (1, 3)), 0.5)
    if kind == "conv":
        return g("Conv", x, w, pads=[1, 0, 1, 0])
    if kind == "halved":
        return g("Relu", g("Conv", g("Conv", x, w, pads=[1, 0, 1, 0], strides=[2, 1]), w))
    return x


def positive(g: G, x: str) -> str:
    """Tolerances are relative to the output, which a sum near zero would make arbitrarily small."""
    return g("Add", g("Abs", x), g.const(0.5, np.float32))


def legal(kind: str, at: Any) -> Any:
    return tuple(p if isinstance(p, str) or kind != "halved" else 2 * p for p in at)


def typed(y: str, result: int = TensorProto.FLOAT) -> dict[str, int]:
    return {y: result}


@pytest.mark.parametrize("name", NAMES.split())
@given(
    axes=st.sampled_from([[2], [-2], [1, 2], [2, 3], [1, 2, 3]]), keep=st.integers(0, 1), kind=sources, at=pulses(),
    batch=batches, old=st.booleans(),
)  # fmt: skip
@examples(5)
def test_reductions(name: str, axes: list[int], keep: int, kind: str, at: Any, batch: Any, old: bool) -> None:
    g = G(opset=(11 if name == "Sum" else 13) if old else 18)
    x = source(g, kind, g.input("x", [batch, 3, "S", 2]))
    x = positive(g, x) if name in ("Sum", "Mean", "LogSum", "LogSumExp") else x
    attributes: dict[str, Any] = {"keepdims": keep} | ({"axes": axes} if old else {})
    check(g.model(g(f"Reduce{name}", x, *([] if old else [g.ints(*axes)]), **attributes)), "S", legal(kind, at))


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@given(
    keep=st.integers(0, 1), last=st.integers(0, 1), kind=sources, at=pulses(), batch=batches,
    dtype=st.sampled_from([TensorProto.FLOAT, TensorProto.INT64, TensorProto.DOUBLE, TensorProto.INT32]),
)  # fmt: skip
@examples(8)
def test_args(op: str, keep: int, last: int, kind: str, at: Any, batch: Any, dtype: int) -> None:
    """Rounded, so that there are ties; every third value is infinite."""
    g = G()
    x = source(g, kind, g.input("x", [batch, 3, "S", 2]))
    x = g("Round", x)
    x = g("Where", g("Greater", x, g.const(0.5, np.float32)), g.const(-np.inf if dtype in (1, 11) else -7.0, np.float32), x)
    y = g(op, g("Cast", x, to=dtype), axis=2, keepdims=keep, select_last_index=last)
    check(g.model(y, **typed(y, TensorProto.INT64)), "S", legal(kind, at))


@pytest.mark.parametrize("name", NAMES.split())
@pytest.mark.parametrize("dtype", ["INT32", "INT64", "DOUBLE", "FLOAT16", "INT8", "UINT8", "BOOL"])
def test_dtypes(name: str, dtype: str) -> None:
    """Integers of both signs, over time and channels, behind a delay."""
    if dtype in ("INT8", "UINT8", "BOOL") and name not in ("Max", "Min"):
        return  # onnxruntime has no such reduction
    kind = getattr(TensorProto, dtype)
    g = G(opset=20)
    x = g.input("x", ["N", 3, "S"], TensorProto.FLOAT)
    x = g("Round", g("Mul", x, g.const(3.0, np.float32)))
    x = g("Abs", x) if name == "LogSum" or dtype == "UINT8" else x
    x = g("Cast", x, to=kind)
    if dtype != "BOOL":
        x = g("Slice", x, g.ints(1), g.ints(END), g.ints(2))
    y = g(f"Reduce{name}", x, g.ints(1, 2), keepdims=0)
    check(g.model(y, **typed(y, kind)), "S", (1, 3))


def test_infinities() -> None:
    """Real frames of -inf and +inf are not mistaken for nothing."""
    g = G()
    x = g.input("x", ["N", 4, "S"])
    low = g("Where", g("Greater", x, g.const(-0.3, np.float32)), g.const(-np.inf, np.float32), x)
    high = g("Where", g("Greater", x, g.const(1.0, np.float32)), g.const(np.inf, np.float32), x)
    outs = [g(f"Reduce{n}", v, g.ints(2)) for v in (low, high) for n in ("LogSumExp", "Max", "Min")]
    arg = g("ArgMax", low, axis=2, select_last_index=1)
    check(g.model(*outs, arg, **typed(arg, TensorProto.INT64)), "S", (1, 3))


@pytest.mark.parametrize("name", NAMES.split())
def test_before_the_first_frame(name: str) -> None:
    """What onnxruntime gives for an empty axis, whatever filler was sent."""
    for dtype in (TensorProto.FLOAT, TensorProto.INT64):
        g = G()
        x = g.input("x", ["N", 2, "S"], dtype)
        y = g(f"Reduce{name}", x, g.ints(2))
        model = g.model(y, **typed(y, dtype))
        c = convert(model, axis="S", pulse=2)
        kind = helper.tensor_dtype_to_np_dtype(dtype)
        (want,) = open_session(model.SerializeToString()).run(None, {"x": np.zeros((1, 2, 0), kind)})
        states = {s["input"]: np.zeros([d if isinstance(d, int) else 1 for d in s["shape"]], s["dtype"]) for s in c.manifest["states"]}
        feeds = {"x": np.full((1, 2, 2), 7, kind), "valid_frames": np.zeros(1, np.int64), **states}
        session = open_session(c.model.SerializeToString())
        got = session.run([y], feeds)[0]
        assert np.array_equal(got, want), (got, want)


def stream(c: Conversion, x: np.ndarray, pulse: int, extra: int = 0) -> list[np.ndarray]:
    """The first output after every pulse of x ``[1, C, S]``, then of ``extra`` pulses of filler."""
    session = open_session(c.model.SerializeToString())
    states = {s["input"]: np.zeros([d if isinstance(d, int) else 1 for d in s["shape"]], s["dtype"]) for s in c.manifest["states"]}
    names = [o.name for o in session.get_outputs()]
    out = []
    for at in range(0, x.shape[2] + extra * pulse, pulse):
        chunk = x[:, :, at : at + pulse]
        real = chunk.shape[2]
        chunk = np.pad(chunk, [(0, 0), (0, 0), (0, pulse - real)], constant_values=np.nan)
        got = dict(zip(names, session.run(None, {"x": chunk, "valid_frames": np.array([real]), **states}), strict=True))
        states = {s["input"]: got[s["output"]] for s in c.manifest["states"]}
        out.append(got[c.manifest["outputs"][0]["name"]])
    return out


@pytest.mark.parametrize("name", ["Sum", "Mean", "L1", "L2", "SumSquare", "LogSum", "LogSumExp"])
def test_long_streams_do_not_drift(name: str) -> None:
    """Against exact sums the error is that of summing one pulse, at 200,000 frames (the batch model's own is 1e-3)."""
    pulse, frames = 100, 200_000
    g = G()
    y = g(f"Reduce{name}", g.input("x", ["N", 1, "S"]), g.ints(2))
    c = convert(g.model(y), axis="S", pulse=pulse)
    x = np.random.default_rng(0).random((1, 1, frames)).astype(np.float32)
    wide = x.astype(np.float64)
    want = {
        "Sum": wide.sum(), "Mean": wide.mean(), "L1": wide.sum(), "L2": np.sqrt((wide**2).sum()), "SumSquare": (wide**2).sum(),
        "LogSum": np.log(wide.sum()), "LogSumExp": np.log(np.exp(wide).sum()),
    }[name]  # fmt: skip
    got = float(stream(c, x, pulse)[-1].reshape(()))
    assert abs(got - want) <= pulse * 2.0**-24 * abs(want)


@pytest.mark.parametrize("kind", SOURCES)
def test_settle_is_exact_and_least(kind: str) -> None:
    """Sums of ones count frames: final ``settle`` frames after the end, and for some length not one sooner."""
    g = G()
    x = g.input("x", ["N", 1, "S"])
    y = g("Unsqueeze", x, g.ints(3))
    y = source(g, kind, y, 1)
    real = g("Exp", g("Mul", y, g.const(0.0, np.float32)))
    model = g.model(g("ReduceSum", real, g.ints(2)))
    step = 2 if kind == "halved" else 1
    c = convert(model, axis="S", pulse=step)
    settle = c.manifest["outputs"][0]["settle"]
    worst = 0
    for length in (8, 9, 10, 11):
        values = np.array([v.item() for v in stream(c, np.zeros((1, 1, length), np.float32), step, 12)])
        last = int(np.argmax(values == values[-1])) + 1
        worst = max(worst, last * step - length)
        assert last * step <= length + settle + (step - 1)
    assert worst >= settle, (worst, settle)


# -- variances ---------------------------------------------------------------------------------------------------------


def variance(g: G, x: str, how: str, axes: list[int], keep: int) -> str:
    """Squares about the mean, as exporters write them; of ``[N, 3, S, 2]``."""
    mean = g("GlobalAveragePool", x) if how == "pool" else g("ReduceMean", x, g.ints(*axes))
    d = g("Sub", mean, x) if how == "reversed" else g("Sub", x, mean)
    if how in ("ReduceSumSquare", "ReduceL2"):
        return g(how, d, g.ints(*axes), keepdims=keep)
    square = g("Pow", d, g.const(2.0, np.float32)) if how == "pow" else g("Mul", d, d)
    return g("ReduceSum" if how == "sum" else "ReduceMean", square, g.ints(*axes), keepdims=keep)


@given(
    how=st.sampled_from(["mul", "reversed", "pow", "sum", "ReduceSumSquare", "ReduceL2", "pool"]),
    axes=st.sampled_from([[2], [1, 2], [2, 3]]), keep=st.integers(0, 1), kind=sources, at=pulses(), batch=batches,
)  # fmt: skip
@examples(20)
def test_variances(how: str, axes: list[int], keep: int, kind: str, at: Any, batch: Any) -> None:
    g = G()
    x = source(g, kind, g.input("x", [batch, 3, "S", 2]))
    check(g.model(variance(g, x, how, [2, 3] if how == "pool" else axes, keep)), "S", legal(kind, at))


@pytest.mark.parametrize("batch", ["N", 1])
def test_statistics_pooling(batch: Any) -> None:
    """Mean and unbiased deviation, then an embedding, as speaker models end."""
    g = G()
    x = g("Relu", g("Conv", g.input("x", [batch, 3, "S"]), g.weight(3, 3, 5), pads=[2, 2]))
    mean = g("ReduceMean", x, g.ints(2))
    d = g("Sub", x, mean)
    n, one = g("Cast", g("Shape", x, start=2, end=3), to=TensorProto.FLOAT), g.const(1.0, np.float32)
    var = g("Div", g("ReduceSum", g("Mul", d, d), g.ints(2), keepdims=0), g("Max", one, g("Sub", n, one)))
    both = g("Concat", g("Squeeze", mean, g.ints(2)), g("Sqrt", var), axis=1)
    c = check(g.model(g("Gemm", both, g.weight(6, 4))), "S", (1, 4, "P"))
    assert c.manifest["outputs"][0]["settle"] == 2


def test_variance_far_from_zero() -> None:
    """About the mean, not as a difference of squares: 1e4 +- 1 over 100,000 frames."""
    g = G()
    x = g.input("x", ["N", 1, "S"])
    d = g("Sub", x, g("ReduceMean", x, g.ints(2)))
    c = convert(g.model(g("ReduceMean", g("Mul", d, d), g.ints(2))), axis="S", pulse=100)
    data = (1e4 + np.random.default_rng(0).standard_normal((1, 1, 100_000))).astype(np.float32)
    got = float(stream(c, data, 100)[-1].reshape(()))
    want = data.astype(np.float64).var()
    assert abs(got - want) <= 1e-4 * want


def test_differences_read_elsewhere_are_refused() -> None:
    for other in (True, False):
        g = G()
        x = g.input("x", ["N", 3, "S"])
        d = g("Sub", x, g("ReduceMean", x, g.ints(2) if other else g.ints(1, 2)))
        var = g("ReduceMean", g("Mul", d, d), g.ints(2))
        y = g("Div", d, g("Sqrt", var)) if other else var
        with pytest.raises(Refusal, match=r"cannot pulsify Sub node .* on axis 2"):
            convert(g.model(y), axis="S", pulse=2)


# -- the static part ---------------------------------------------------------------------------------------------------


def head(name: str) -> onnx.ModelProto:
    g = G(opset=20)
    x = g.input("x", [1 if name == "If" else "N", 3, "S"])
    m = g("ReduceMean", x, g.ints(2), keepdims=0)
    if name == "TopK":
        values, indices = g("TopK", m, g.ints(2), n=2, axis=-1)
        return g.model(values, indices, **typed(indices, TensorProto.INT64))
    if name == "If":
        c = g("Greater", g("ReduceMax", m, keepdims=0), g.const(0.0, np.float32))
        branches = [
            helper.make_graph([helper.make_node(op, [m], [f"{op}_out"])], op, [], [helper.make_empty_tensor_value_info(f"{op}_out")])
            for op in ("Relu", "Neg")
        ]
        for b in branches:
            b.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
        return g.model(g("If", c, then_branch=branches[0], else_branch=branches[1]))
    if name == "Gemm":
        return g.model(g("Softmax", g("Gemm", g("Reshape", m, g.ints(-1, 3)), g.weight(3, 5), g.weight(5)), axis=-1))
    if name == "deviation":
        s = g("ReduceMean", g("Mul", x, x), g.ints(2), keepdims=0)
        return g.model(g("Concat", m, g("Sqrt", g("Relu", g("Sub", s, g("Mul", m, m)))), axis=1))
    m = g("Unsqueeze", m, g.ints(2))
    return g.model(g("Add", g("ReduceMax", m, g.ints(1)), g("Conv", m, g.weight(1, 3, 1))))


@pytest.mark.parametrize("name", ["TopK", "If", "Gemm", "deviation", "Conv"])
def test_static_part_behind(name: str) -> None:
    """Computed again after every pulse; several means share the one counter of frames."""
    c = check(head(name), "S", (1, 3, "P"))
    assert [s["input"] for s in c.manifest["states"] if s["kind"] == "counter"] == ["past_frames"]


def test_reductions_at_two_delays_and_a_stream() -> None:
    g = G()
    x = g.input("x", ["N", 3, "S"])
    y = g("Conv", x, g.weight(3, 3, 3), pads=[1, 1])
    c = check(g.model(g("ReduceMax", x, g.ints(2)), g("ReduceMean", y, g.ints(1, 2)), y), "S", (1, 3, "P"))
    assert [o.get("settle") for o in c.manifest["outputs"]] == [0, 1, None]
    counters = [s["input"] for s in c.manifest["states"] if s["kind"] == "counter"]
    assert sorted(counters) == ["past_frames", "past_position"]


def test_a_sum_of_the_stream_itself_needs_no_counter() -> None:
    """``valid_frames`` alone tells which frames of a pulse are real."""
    g = G()
    x = g("Relu", g.input("x", ["N", 3, "S"]))
    c = check(g.model(g("ReduceSum", x, g.ints(2)), g("ReduceL1", x, g.ints(1, 2))), "S", (1, 3, "P"))
    assert [s["kind"] for s in c.manifest["states"]] == ["accumulator"] * 2
    assert c.manifest["valid"] == {"input": "valid_frames"}


def squeeze_excite(g: G, x: str) -> str:
    return g("Mul", x, g("Sigmoid", g("GlobalAveragePool", x)))


FEEDBACK = {
    "squeeze-excite": squeeze_excite,
    "minus the mean": lambda g, x: g("Sub", x, g("ReduceMean", x, g.ints(2))),
    "softmax by hand": lambda g, x: g("Div", g("Exp", x), g("ReduceSum", g("Exp", x), g.ints(2))),
    "expanded back": lambda g, x: g("Expand", g("ReduceMean", x, g.ints(2)), g("Shape", x)),
    "concatenated": lambda g, x: g("Concat", x, g("Expand", g("ReduceMax", x, g.ints(2)), g("Shape", x)), axis=1),
    "times a position": lambda g, x: g(
        "Mul", g("ReduceMax", x, g.ints(2)), g("CumSum", g("Expand", g.const(1.0, np.float32), g("Shape", x)), g.const(2))
    ),
    "through static nodes": lambda g, x: g(
        "Add", x, g("Unsqueeze", g("Gemm", g("ReduceMean", x, g.ints(2), keepdims=0), g.weight(3, 3)), g.ints(2))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FEEDBACK)
@pytest.mark.parametrize("batch", ["N", 1])
def test_feeding_back_is_refused(name: str, batch: Any) -> None:
    g = G()
    y = FEEDBACK[name](g, g.input("x", [batch, 3, "S"]))
    with pytest.raises(Refusal) as e:
        convert(g.model(y), axis="S", pulse=2)
    text = str(e.value)
    assert " on axis 2\n" in text and "summarises the whole stream" in text and "and every frame needs it" in text
    assert "Reduce" in text or "GlobalAveragePool" in text
    assert "try:  only an output may depend on such a summary" in text


def test_feeding_back_comes_first() -> None:
    """A clamp below the loudest frame (decibels): that it also reduces over the batch is the lesser trouble."""
    g = G()
    x = g.input("x", ["N", 3, "S"])
    floor = g("Sub", g("ReduceMax", x, keepdims=0), g.const(8.0, np.float32))
    with pytest.raises(Refusal) as e:
        convert(g.model(g("Max", x, floor)), axis="S", pulse=2)
    assert "cannot pulsify Max node" in str(e.value) and "summarises the whole stream (ReduceMax node" in str(e.value)


def refused(*parts: str, batch: Any = 1, **kw: Any) -> None:
    g = G()
    x = g.input("x", [batch, 3, "S"], **kw)
    if parts[0] == "scores":
        x = g("MatMul", g("Transpose", x, perm=[0, 2, 1]), x)
    y = g("ReduceMax", x) if batch == "N" else g("ReduceMax", x, g.ints(2))
    with pytest.raises(Refusal) as e:
        convert(g.model(y, **typed(y, kw.get("dtype", TensorProto.FLOAT))), axis="S", pulse=2)
    for part in parts[1:]:
        assert part in str(e.value), str(e.value)


def test_refusals() -> None:
    refused("scores", "ReduceMax node", "on axis 2", "time is on axes 1 and 2", "every frame of one needs the whole of the other")
    refused("batch", "on axis 0", "it reduces over time and the batch together", "fix the batch to 1", batch="N")
    refused("uint64", "on axis 2", "a running value of uint64 is not supported", "cast to int64", dtype=TensorProto.UINT64)


def test_over_everything_without_a_batch() -> None:
    g = G()
    x = g.input("x", [1, 3, "S"])
    check(g.model(g("ReduceMax", x, keepdims=0), g("ReduceMean", x)), "S", (1, 3, "P"))


def test_frames_made_from_nothing() -> None:
    """A sum over positions reads them as if they had been sent."""
    g = G()
    x = g.input("x", [1, 3, "S"])
    index = g("Range", g.const(0), g("Squeeze", g("Shape", x, start=2, end=3)), g.const(1))
    total = g("ReduceSum", index, g.ints(0))
    check(g.model(total, g("Relu", x), **typed(total, TensorProto.INT64)), "S", (1, 3, "P"))
