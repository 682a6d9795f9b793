"""STFT over time, DFT over other axes, framing by indices or by a kernel, overlap-add, tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pulsify.errors import Refusal
from tests.contexts import CONTEXTS, batches, contexts, pulses, verify
from tests.contract_check import check, check_least_delay
from tests.graphs import G
from tests.profiles import examples


def stft(hop: int, size: int, window: str, onesided: int):
    """The operator on ``[N, S]`` or ``[N, S, c]``."""

    def op(g: G, x: str) -> str:
        step = g.const(hop, np.int64)
        if window == "none":
            return g("STFT", x, step, "", g.const(size, np.int64), onesided=onesided)
        w = g.const(np.linspace(0.5, 1, size), np.float32)
        if window == "table":
            w = g("HammingWindow", g.const(size, np.int64))
        extra = [g.const(size, np.int64)] if window == "both" else []
        return g("STFT", x, step, w, *extra, onesided=onesided)

    return op


@st.composite
def stfts(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "hop": draw(st.integers(1, 5)),
        "size": draw(st.sampled_from([1, 2, 3, 4, 6, 8, 9])),
        "window": draw(st.sampled_from(["none", "given", "table", "both"])),
        "onesided": draw(st.integers(0, 1)),
    }


@pytest.mark.parametrize("context", CONTEXTS)
@given(a=stfts(), fill=st.sampled_from([0.0, 1.5]), batch=batches, at=pulses(), last=st.sampled_from([None, 1, 2]))
@examples(10)
def test_any_stft(context: str, a: dict[str, Any], fill: float, batch: Any, at: Any, last: int | None) -> None:
    if last == 2:
        a["onesided"] = 0
    if a["window"] == "table" and a["size"] == 1:
        a["window"] = "given"  # the table of one sample is 0 / 0
    shape = [batch, "S"] if last is None else [batch, "S", last]
    verify(stft(**a), shape, context, at, axis=1, out=1, rank=4, multiple=a["hop"], fill=fill, least=False)


@pytest.mark.parametrize(("hop", "size"), [(1, 6), (2, 8), (3, 8), (8, 8), (5, 3)])
def test_the_delay_is_the_least(hop: int, size: int) -> None:
    g = G()
    check_least_delay(g.model(stft(hop, size, "given", 1)(g, g.input("x", [1, "S"]))))


def test_time_in_the_batch_of_an_stft() -> None:
    verify(stft(3, 8, "table", 1), ["S", 20], "late", axis=0, rank=4)


@given(
    data=st.data(), axis=st.integers(0, 2), length=st.sampled_from([None, 4, 7, 11]), onesided=st.integers(0, 1),
    inverse=st.integers(0, 1), opset=st.sampled_from([18, 19, 20]), last=st.sampled_from([1, 2]),
)  # fmt: skip
@examples(30)
def test_any_dft(
    data: st.DataObject, axis: int, length: int | None, onesided: int, inverse: int, opset: int, last: int
) -> None:
    """Time on any axis but the one transformed."""
    if onesided:
        last = 2 if inverse else 1
    time = data.draw(st.sampled_from([a for a in range(3) if a != axis]))
    shape: list[Any] = [3, 6, 7, last]
    shape[time] = "S"

    def op(g: G, x: str) -> str:
        size = "" if length is None else g.const(length, np.int64)
        if opset >= 20:
            return g("DFT", x, size, g.const(axis - 4, np.int64), onesided=onesided, inverse=inverse)
        return g("DFT", x, size, axis=axis, onesided=onesided, inverse=inverse)

    verify(op, shape, data.draw(contexts), data.draw(pulses()), axis=time, opset=opset)


@pytest.mark.parametrize("opset", [18, 20])
def test_the_default_axis_of_a_dft(opset: int) -> None:
    """1 up to opset 19, the last but one since."""
    shape: list[Any] = [2, 5, "S", 1] if opset < 20 else [2, "S", 5, 1]
    verify(lambda g, x: g("DFT", x), shape, axis=shape.index("S"), opset=opset)


def test_log_mel() -> None:
    """Power spectrum, mel weights from their own operator, logarithm: one buffer of samples, nothing else."""
    g = G()
    x = g.input("x", ["N", "S"])
    power = g("ReduceSumSquare", stft(4, 16, "table", 1)(g, x), g.ints(-1), keepdims=0)
    sizes = [g.const(v, np.int64) for v in (5, 16, 8000)]
    mel = g("MatMul", power, g("MelWeightMatrix", *sizes, g.const(20.0, np.float32), g.const(4000.0, np.float32)))
    model = g.model(g("Log", g("Add", mel, g.const(1e-3, np.float32))))
    c = check(model, "S", (4, 12, "P"))
    assert [s["shape"] for s in c.manifest["states"]] == [["N", 12]]
    assert c.manifest["valid"] is None
    assert not {"MelWeightMatrix", "HammingWindow"} & {n.op_type for n in c.model.graph.node}


def test_centred_stft() -> None:
    """Zero padding on both sides, as librosa and torch do with center=True and pad_mode='constant'."""

    def op(g: G, x: str) -> str:
        return stft(4, 8, "table", 1)(g, g("Pad", x, g.ints(0, 4, 0, 4)))

    verify(op, ["N", "S"], "alone", (1, 2, "P"), axis=1, rank=4, multiple=4, least=False)


@pytest.mark.parametrize("mode", ["reflect", "edge", "constant"])
@pytest.mark.parametrize("spelling", ["plain", "squeeze", "reshape", "transpose"])
def test_centred_stft_in_any_spelling(mode: str, spelling: str) -> None:
    """torch pads a signal of rank 3 and takes the axis off again: that costs no delay."""
    g = G()
    x = g.input("x", ["N", "S"])
    if spelling == "plain":
        y = g("Pad", x, g.ints(0, 4, 0, 4), mode=mode)
    elif spelling == "transpose":
        y = g("Transpose", g("Pad", g("Transpose", x, perm=[1, 0]), g.ints(4, 0, 4, 0), mode=mode), perm=[1, 0])
    else:
        y = g("Pad", g("Unsqueeze", x, g.ints(1)), g.ints(0, 0, 4, 0, 0, 4), mode=mode)
        y = g("Squeeze", y, g.ints(1)) if spelling == "squeeze" else g("Reshape", y, g.ints(0, -1))
    model = g.model(stft(4, 8, "given", 1)(g, y))
    c = check(model, "S", (4, 12, "P"))
    assert c.manifest["outputs"][0]["delay"] == (1 if mode == "reflect" else 0)
    check_least_delay(model)


# -- framing -----------------------------------------------------------------------------------------------------------


def grid(g: G, x: str, axis: int, hop: int, size: int, *, start: int = 0, less: int = 0, swap: bool = False) -> str:
    """The index matrix ``start + hop*j + k`` (or its transpose) of all windows but the last ``less``."""
    whole = g("Squeeze", g("Shape", x, start=axis, end=axis + 1))
    stop = g("Sub", whole, g.const(size - 1 + less * hop, np.int64))
    rows = g("Range", g.const(start, np.int64), stop, g.const(hop, np.int64))
    columns = g("Range", g.const(0, np.int64), g.const(size, np.int64), g.const(1, np.int64))
    rows, columns = g("Unsqueeze", rows, g.ints(0 if swap else 1)), g("Unsqueeze", columns, g.ints(1 if swap else 0))
    return g("Add", columns, rows) if swap else g("Add", rows, columns)


@pytest.mark.parametrize("context", CONTEXTS)
@given(
    hop=st.integers(1, 4), size=st.integers(1, 6), start=st.integers(0, 2), less=st.integers(0, 1), swap=st.booleans(),
    batch=batches, at=pulses(),
)  # fmt: skip
@examples(8)
def test_framing_by_indices(
    context: str, hop: int, size: int, start: int, less: int, swap: bool, batch: Any, at: Any
) -> None:
    def op(g: G, x: str) -> str:
        return g("Gather", x, grid(g, x, 2, hop, size, start=start, less=less, swap=swap), axis=2)

    out = 3 if swap else 2
    verify(op, [batch, 2, "S"], context, at, axis=2, out=out, rank=4, multiple=hop, least=False)


def test_framing_by_long_indices() -> None:
    """Index matrices larger than what is carried element by element, of integers, at the usual sizes."""
    g = G()
    x = g.input("x", ["N", "S"], TensorProto.INT32)
    y = g("Gather", x, grid(g, x, 1, 160, 400), axis=1)
    c = check(g.model(y, **{y: TensorProto.INT32}), "S", (160, 480, "P"), ints=1000)
    assert c.manifest["outputs"][0]["delay"] == 2
    assert [s["shape"] for s in c.manifest["states"]] == [["N", 320]]


def test_constant_columns() -> None:
    """Columns that are a constant, in any order, with gaps."""
    g = G()
    x = g.input("x", [1, "S"])
    whole = g("Squeeze", g("Shape", x, start=1, end=2))
    rows = g("Range", g.const(0, np.int64), g("Sub", whole, g.const(7, np.int64)), g.const(2, np.int64))
    y = g("Gather", x, g("Add", g("Unsqueeze", rows, g.ints(1)), g.const([[7, 0, 3]], np.int64)), axis=1)
    check(g.model(y), "S", (2, 6, "P"))


@pytest.mark.parametrize("hop", [1, 2])
def test_frames_of_padding_come_first(hop: int) -> None:
    """Windows over nothing but a padding of 1.5 are known before the stream begins."""
    g = G()
    x = g("Pad", g.input("x", ["N", "S"]), g.ints(0, 8, 0, 0), g.const(1.5, np.float32))
    model = g.model(g("Gather", x, grid(g, x, 1, hop, 3), axis=1))
    assert check(model, "S", (hop, 3 * hop, "P")).manifest["outputs"][0]["delay"] == 0
    check_least_delay(model)


def test_every_third_by_indices() -> None:
    """A row of indices is a strided slice."""
    g = G()
    x = g.input("x", ["N", "S", 2])
    whole = g("Squeeze", g("Shape", x, start=1, end=2))
    rows = g("Range", g.const(1, np.int64), whole, g.const(3, np.int64))
    check(g.model(g("Gather", x, rows, axis=1)), "S", (3, "P"))


@pytest.mark.parametrize("context", ["alone", "late"])
@pytest.mark.parametrize("axis", [1, 2])
def test_framing_by_one_row_of_indices(context: str, axis: int) -> None:
    """The index matrix flattened, and the frames made of the row it looks up."""

    def op(g: G, x: str) -> str:
        row = g("Gather", x, g("Reshape", grid(g, x, axis, 2, 5), g.ints(-1)), axis=axis)
        target = [0, *([0] * (axis - 1)), -1, 5, *([3] * (2 - axis))]
        return g("Reshape", row, g.ints(*target))

    shape: list[Any] = ["N", "S", 3] if axis == 1 else ["N", 3, "S"]
    verify(op, shape, context, (1, 2, "P"), axis=axis, rank=4, multiple=2, least=False)


def test_framing_by_blocks() -> None:
    """The signal cut into blocks of the greatest common divisor of hop and length, and blocks looked up."""
    g = G()
    x = g.input("x", ["N", "S"])
    whole = g("Shape", x, start=1, end=2)
    even = g("Slice", x, g.ints(0), g("Mul", g("Div", whole, g.ints(4)), g.ints(4)), g.ints(1))
    blocks = g("Reshape", even, g.ints(0, -1, 4))
    frames = g("Gather", blocks, grid(g, blocks, 1, 2, 5), axis=1)
    check(g.model(g("Reshape", frames, g.ints(0, -1, 20))), "S", (8, 24, "P"))


def glue(hop: int, overlap: int) -> onnx.GraphProto:
    """A Scan body: the frame is what is left of the last one and a block of ``hop`` samples."""
    values = [helper.make_tensor_value_info(v, TensorProto.FLOAT, None) for v in ("prev", "block", "rest", "frame")]
    ends = [numpy_helper.from_array(np.array([v]), n) for v, n in ((hop, "low"), (2**63 - 1, "high"), (-1, "last"))]
    nodes = [
        helper.make_node("Concat", ["prev", "block"], ["frame"], axis=-1),
        helper.make_node("Slice", ["frame", "low", "high", "last"], ["rest"]),
    ]
    return helper.make_graph(nodes, "glue", values[:2], values[2:], ends)


@pytest.mark.parametrize(("hop", "overlap"), [(1, 2), (3, 5), (4, 4), (160, 240)])
@pytest.mark.parametrize("context", ["alone", "late"])
def test_framing_by_a_scan(hop: int, overlap: int, context: str) -> None:
    """Blocks glued to the end of the last frame: the first frame begins with the first samples."""

    def op(g: G, x: str) -> str:
        whole = g("Shape", x, start=1, end=2)
        rest = g("Sub", whole, g.ints(overlap))
        stop = g("Sub", whole, g("Mod", rest, g.ints(hop)))
        first = g("Slice", x, g.ints(0), g.ints(overlap), g.ints(1))
        blocks = g("Reshape", g("Slice", x, g.ints(overlap), stop, g.ints(1)), g.ints(0, -1, hop))
        _, frames = g(
            "Scan", first, blocks, n=2, body=glue(hop, overlap), num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1]
        )
        return frames

    least = {"least": context == "alone" and hop < 160}
    c = verify(op, ["N", "S"], context, (1, 2, "P"), axis=1, rank=3, multiple=hop, **least)
    assert "Scan" not in {n.op_type for n in c.model.graph.node}


def test_framing_by_a_kernel_and_back() -> None:
    """Frames by a Conv with the identity, spectrum, inverse, overlap-add by ConvTranspose with the identity."""
    g = G()
    x = g.input("x", ["N", 1, "S"])
    eye = g.const(np.eye(8)[:, None], np.float32)
    frames = g("Conv", x, eye, strides=[4])  # [N, 8, F]
    spectrum = g("DFT", g("Unsqueeze", frames, g.ints(3)), axis=1, onesided=1)  # [N, 5, F, 2]
    spectrum = g("Mul", spectrum, g.const(np.linspace(1, 2, 5).reshape(5, 1, 1), np.float32))
    back = g("DFT", spectrum, g.const(8, np.int64), axis=1, onesided=1, inverse=1)  # [N, 8, F, 1]
    y = g("ConvTranspose", g("Squeeze", back, g.ints(3)), eye, strides=[4])
    model = g.model(y)
    c = check(model, "S", (4, 12, "P"))
    assert c.manifest["outputs"][0]["length"] == "4*(S//4)"
    check_least_delay(model)


# -- refusals ----------------------------------------------------------------------------------------------------------


def refused(g: G, y: str, match: str) -> str:
    with pytest.raises(Refusal, match=match) as e:
        check(g.model(y))
    return str(e.value)


def test_dft_over_time_is_refused() -> None:
    g = G()
    text = refused(g, g("DFT", g.input("x", [1, "S", 1])), "transforms the whole stream at once")
    assert "DFT node" in text
    assert "on axis 1" in text
    assert "STFT" in text


def test_a_window_as_long_as_the_stream_is_refused() -> None:
    g = G()
    x = g.input("x", [1, "S"])
    w = g("HannWindow", g("Squeeze", g("Shape", x, start=1, end=2)))
    refused(g, g("STFT", x, g.const(4, np.int64), w), "the length of its frames is unknown")
    g = G()
    x = g.input("x", [1, "S"])
    refused(g, g("Mul", x, g("HannWindow", g("Squeeze", g("Shape", x, start=1, end=2)))), "size depends on the length")


def test_window_and_frame_length_must_agree() -> None:
    g = G()
    y = g("STFT", g.input("x", [1, "S"]), g.const(4, np.int64), g.weight(6), g.const(8, np.int64))
    refused(g, y, "its window holds 6 samples, its frames 8")


def test_a_pulse_that_is_no_multiple_of_the_hop_is_refused() -> None:
    g = G()
    model = g.model(stft(160, 400, "given", 1)(g, g.input("x", ["N", "S"])))
    with pytest.raises(Refusal, match=r"a pulse of 500 frames does not split into strides of 160") as e:
        check(model, "S", (500,))
    assert "nearest: 480, 640" in str(e.value)


def test_indices_that_run_backwards_are_refused() -> None:
    g = G()
    x = g.input("x", [1, "S"])
    whole = g("Squeeze", g("Shape", x, start=1, end=2))
    rows = g("Range", g.const(1, np.int64), g("Add", whole, g.const(1, np.int64)), g.const(1, np.int64))
    refused(g, g("Gather", x, g("Sub", whole, rows), axis=1), "looks frames up by index along time")


def clipped(g: G, x: str, axis: int, offsets: list[int], how: str) -> str:
    """``clip(arange(S)[:, None] + offsets, 0, S - 1)``."""
    whole = g("Squeeze", g("Shape", x, start=axis, end=axis + 1))
    zero, last = g.const(0, np.int64), g("Sub", whole, g.const(1, np.int64))
    rows = g("Add", g("Unsqueeze", g("Range", zero, whole, g.const(1, np.int64)), g.ints(1)), g.const([offsets], np.int64))
    return g("Clip", rows, zero, last) if how == "Clip" else g("Min", g("Max", zero, rows), last)


@given(how=st.sampled_from(["Clip", "Min"]), low=st.integers(-3, 1), high=st.integers(0, 3), context=contexts, batch=batches, at=pulses())
@examples(16)
def test_spliced_frames(how: str, low: int, high: int, context: str, batch: Any, at: Any) -> None:
    """Frames with their neighbours, those beyond the ends being the first or the last frame."""
    offsets = list(range(low, max(low, high) + 1))
    verify(lambda g, x: g("Gather", x, clipped(g, x, 2, offsets, how), axis=2), [batch, 2, "S"], context, at, rank=4, least=False)


def test_spliced_frames_wait_for_the_frames_they_show() -> None:
    g = G()
    x = g.input("x", ["N", "S", 4])
    model = g.model(g("Gather", x, clipped(g, x, 1, [-3, -2, -1, 0, 1, 2, 3], "Clip"), axis=1))
    assert check(model, "S", (1, "P")).manifest["outputs"][0]["delay"] == 3
    check_least_delay(model)


def test_low_frame_rates() -> None:
    """Every sixth frame with the six that follow, the last frame standing in for those that are missing."""
    g = G()
    x = g.input("x", ["N", "S", 4])
    first = g("Slice", x, g.ints(0), g.ints(1), g.ints(1))
    x = g("Concat", g("Tile", first, g.ints(1, 3, 1)), x, axis=1)
    whole = g("Squeeze", g("Shape", "x", start=1, end=2))
    count = g("Div", g("Add", whole, g.const(5, np.int64)), g.const(6, np.int64))
    rows = g("Mul", g("Range", g.const(0, np.int64), count, g.const(1, np.int64)), g.const(6, np.int64))
    rows = g("Add", g("Unsqueeze", rows, g.ints(1)), g.const([list(range(7))], np.int64))
    y = g("Gather", x, g("Min", rows, g("Add", whole, g.const(2, np.int64))), axis=1)
    check(g.model(y), "S", (6, 12, "P"))


@pytest.mark.parametrize("bounds", [(0, 6), (1, 1), (-1, 1)])
def test_indices_clipped_elsewhere_are_refused(bounds: tuple[int, int]) -> None:
    g = G()
    x = g.input("x", [1, "S"])
    whole = g("Squeeze", g("Shape", x, start=1, end=2))
    rows = g("Range", g.const(0, np.int64), g("Sub", whole, g.const(4, np.int64)), g.const(1, np.int64))
    rows = g("Add", g("Unsqueeze", rows, g.ints(1)), g.const([[-2, 0]] if bounds[0] < 0 else [[0, 1]], np.int64))
    rows = g("Clip", rows, g.const(bounds[0], np.int64), g("Sub", whole, g.const(bounds[1], np.int64)))
    refused(g, g("Gather", x, rows, axis=1), r"frames hop\*j \+ k of window j")


def test_a_clip_that_never_clips_is_none() -> None:
    g = G()
    x = g.input("x", [1, "S"])
    whole = g("Squeeze", g("Shape", x, start=1, end=2))
    rows = g("Range", g.const(0, np.int64), g("Sub", whole, g.const(4, np.int64)), g.const(1, np.int64))
    rows = g("Add", g("Unsqueeze", rows, g.ints(1)), g.const([[0, 1]], np.int64))
    c = check(g.model(g("Gather", x, g("Clip", rows, g.const(-3, np.int64), g("Sub", whole, g.const(3, np.int64))), axis=1)), "S", (1, "P"))
    assert c.manifest["valid"] is None
