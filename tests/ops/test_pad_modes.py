"""Edge and reflect padding along time, constant padding by computed amounts: exact at both ends, at the least delay."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.api import Conversion, convert
from pulsify.errors import Refusal
from pulsify.facts import Splice
from tests.contexts import CONTEXTS, batches, contexts, pulses, verify
from tests.contract_check import check, check_least_delay
from tests.graphs import G
from tests.profiles import examples

modes = st.sampled_from(["edge", "reflect"])
FAR = 2**63 - 1


def padded(g: G, x: str, before: int, after: int, mode: str, rank: int = 3, axis: int = 2) -> str:
    amounts = [0] * (2 * rank)
    amounts[axis], amounts[axis + rank] = before, after
    return g("Pad", x, g.ints(*amounts), mode=mode)


@given(before=st.integers(-2, 4), after=st.integers(-2, 4), mode=modes, context=contexts, batch=batches, at=pulses())
@examples(40)
def test_in_every_context(before: int, after: int, mode: str, context: str, batch: Any, at: Any) -> None:
    verify(lambda g, x: padded(g, x, before, after, mode), [batch, 2, "S"], context, at, least=False)


@given(
    before=st.integers(0, 4), after=st.integers(0, 4), mode=modes, kernel=st.integers(1, 5), dilation=st.integers(1, 2),
    ahead=st.integers(0, 2), batch=batches, at=pulses(),
)  # fmt: skip
@examples(40)
def test_a_window_over_it_waits_for_no_more_than_it_reads(
    before: int, after: int, mode: str, kernel: int, dilation: int, ahead: int, batch: Any, at: Any
) -> None:
    """Behind a delay of ``ahead``, padded, then a window: the delay is the least there is."""
    g = G()
    x = g.input("x", [batch, 2, "S"])
    if ahead:
        x = g("Conv", x, g.weight(2, 2, 1 + ahead))
    y = g("Conv", padded(g, x, before, after, mode), g.weight(2, 2, kernel), dilations=[dilation])
    model = g.model(y)
    check(model, "S", at)
    check_least_delay(model)


def windows(g: G, x: str, kernel: int, stride: int = 1, dilation: int = 1) -> str:
    """``x[.., stride*j + dilation*k]`` of a wire ``[N, C, S]`` by a matrix of indices: ``[N, C, frames, kernel]``."""
    length = g("Squeeze", g("Shape", x, start=2, end=3))
    stop = g("Sub", length, g.const((kernel - 1) * dilation, np.int64))
    rows = g("Unsqueeze", g("Range", g.const(0, np.int64), stop, g.const(stride, np.int64)), g.ints(1))
    return g("Gather", x, g("Add", rows, g.const([range(0, kernel * dilation, dilation)], np.int64)), axis=2)


def remembered(c: Conversion, rows: Any = 1) -> int:
    """Frames of two features that the buffers hold of each stream."""
    buffers = [s for s in c.manifest["states"] if s["kind"] == "buffer"]
    return sum(prod(1 if k == s["batch_axis"] else d for k, d in enumerate(s["shape"])) for s in buffers) // (2 if rows == "N" else 2 * rows)


def source(mode: str, j: int, length: int) -> int:
    """Which frame of the stream is frame j of the padded one, counted from the stream's first."""
    return min(max(j, 0), length - 1) if mode == "edge" else length - 1 - abs(length - 1 - abs(j))


@given(mode=modes, before=st.integers(0, 6), after=st.integers(0, 6), span=st.integers(1, 14))
@examples(60)
def test_a_window_reads_no_further_behind_its_first_frame_than_the_law_says(mode: str, before: int, after: int, span: int) -> None:
    """``before + max(0, c*after + 1 - span)`` is the most over all windows of all streams."""
    reached = [
        f - source(mode, j - before, length)
        for length in range(1 + max(before, after), 40)
        for f in range(before + length + after - span + 1)
        for j in range(f, f + span)
    ]
    assert Splice(mode, before, after).behind(span, after) == max(reached)


@given(
    mode=modes, before=st.integers(0, 4), after=st.integers(0, 4), kernel=st.integers(1, 6), stride=st.integers(1, 3),
    dilation=st.integers(1, 2), times=st.sampled_from([1, 2, 3, 7, 16]), batch=batches, reader=st.sampled_from(["Conv", "Gather"]),
)  # fmt: skip
@examples(40)
def test_the_history_is_what_its_windows_read(
    mode: str, before: int, after: int, kernel: int, stride: int, dilation: int, times: int, batch: Any, reader: str
) -> None:
    """The state holds the frames that are read of earlier pulses, and none beside them, at the least delay."""
    g, span = G(), (kernel - 1) * dilation + 1
    x = padded(g, g.input("x", [batch, 2, "S"]), before, after, mode)
    y = windows(g, x, kernel, stride, dilation) if reader == "Gather" else g("Conv", x, g.weight(2, 2, kernel), strides=[stride], dilations=[dilation])
    model = g.model(y)
    check(model, "S", [stride * times, "P"])
    check_least_delay(model)
    for level in ("none", "speed", "size"):
        c = convert(model, axis="S", pulse=stride * times, optimize=level)
        (out,) = c.manifest["outputs"]
        reads = [
            (q + out["delay"]) // times * times * stride - source(mode, stride * q - before + dilation * k, length)
            for length in range(1 + max(before, after), 60 + 2 * stride * times)
            for q in range((before + length + after - span) // stride + 1)
            for k in range(kernel)
        ]
        assert remembered(c, batch) == max(0, *reads), level


@pytest.mark.parametrize("mode", ["edge", "reflect"])
@pytest.mark.parametrize("kernel", [5, 31])
def test_same_convolutions_keep_the_history_of_a_zero_padded_one(mode: str, kernel: int) -> None:
    g = G()
    y = g("Conv", padded(g, g.input("x", [1, 2, "S"]), kernel // 2, kernel // 2, mode), g.weight(2, 2, kernel))
    assert remembered(check(g.model(y), "S", (1, 2, 3, 7, 16, "P"))) == kernel - 1


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("spelling", ["whole", "cropped", "slices"])
def test_gathered_windows_look_ahead_as_far_as_slices_do(mode: str, spelling: str) -> None:
    """Windows of 7 over a padding of 3: three frames late, seven frames seen, six remembered."""
    g = G()
    x = g.input("x", [1, 2, "S"])
    w = padded(g, x, 3, 3, mode)
    length = g("Shape", x, start=2, end=3)
    if spelling == "whole":
        y = windows(g, w, 7)
    elif spelling == "cropped":
        rows = g("Unsqueeze", g("Range", g.const(0, np.int64), g("Squeeze", length), g.const(1, np.int64)), g.ints(1))
        y = g("Gather", w, g("Add", rows, g.const([range(7)], np.int64)), axis=2)
    else:
        y = g("Concat", *(g("Slice", w, g.ints(k), g("Add", length, g.ints(k)), g.ints(2)) for k in range(7)), axis=1)
    c = check(g.model(y), "S", (1, 2, 3, 7, 16, "P"))
    (out,) = c.manifest["outputs"]
    assert (out["delay"], out["lookahead"], out["receptive_field"], remembered(c)) == (3, 3, 7, 6)


@pytest.mark.parametrize(("mode", "delay"), [("reflect", 2), ("edge", 2)])
def test_same_padding_costs_its_look_ahead(mode: str, delay: int) -> None:
    g = G()
    y = g("Conv", padded(g, g.input("x", ["N", 2, "S"]), 2, 2, mode), g.weight(2, 2, 5))
    (out,) = check(g.model(y)).manifest["outputs"]
    assert (out["delay"], out["lookahead"]) == (delay, 2)


@pytest.mark.parametrize(("mode", "delay"), [("reflect", 3), ("edge", 0)])
def test_causal_padding_costs_what_the_first_frame_waits_for(mode: str, delay: int) -> None:
    g = G()
    y = g("Conv", padded(g, g.input("x", ["N", 2, "S"]), 3, 0, mode), g.weight(2, 2, 4))
    (out,) = check(g.model(y)).manifest["outputs"]
    assert (out["delay"], out["lookahead"]) == (delay, delay)


@given(
    mode=modes, stride=st.integers(1, 3), kernel=st.integers(1, 5), before=st.integers(0, 3), after=st.integers(0, 3),
    batch=batches, dynamic=st.booleans(), times=st.integers(1, 2),
)  # fmt: skip
@examples(25)
def test_strided_windows(
    mode: str, stride: int, kernel: int, before: int, after: int, batch: Any, dynamic: bool, times: int
) -> None:
    g = G()
    y = g("Conv", padded(g, g.input("x", [batch, 2, "S"]), before, after, mode), g.weight(2, 2, kernel), strides=[stride])
    y = g("Conv", padded(g, y, 1, 1, mode), g.weight(2, 2, 3))
    model = g.model(y)
    check(model, "S", ["P"] if dynamic else [stride * times])


@given(a=modes, b=modes, x=st.integers(0, 3), y=st.integers(0, 3), z=st.integers(0, 2), at=pulses(), batch=batches)
@examples(20)
def test_padding_of_padding(a: str, b: str, x: int, y: int, z: int, at: Any, batch: Any) -> None:
    """Spliced wires read each other, constants before, between and after."""
    g = G()
    w = padded(g, g.input("x", [batch, 2, "S"]), z, 1, "constant")
    w = padded(g, padded(g, w, x, y, a), y, x, b)
    check(g.model(g("Conv", padded(g, w, 2, z, "constant"), g.weight(2, 2, 3))), "S", at)


@given(mode=modes, size=st.integers(1, 3), at=pulses(), batch=batches)
@examples(15)
def test_splicing_by_slices(mode: str, size: int, at: Any, batch: Any) -> None:
    """``x[t - size .. t + size]`` joined on the features: slices of one padded wire."""
    g = G()
    w = padded(g, g.input("x", [batch, "S", 2]), size, size, mode, axis=1)
    parts = []
    for k in range(2 * size + 1):
        end = k - 2 * size
        parts.append(g("Slice", w, g.ints(k), g.ints(end if end else FAR), g.ints(1)))
    model = g.model(g("Concat", *parts, axis=2))
    c = check(model, "S", at)
    (out,) = c.manifest["outputs"]
    # What a slice leaves out at the end is no frame that it mirrors.
    assert (out["delay"], remembered(c, batch)) == (size, 2 * size)
    check_least_delay(model)


@given(
    mode=st.sampled_from(["constant", "edge", "reflect"]), hop=st.integers(2, 4), spelling=st.sampled_from(["mod", "ceil"]),
    start=st.integers(0, 2), context=st.sampled_from(["alone", "late"]), batch=batches,
)  # fmt: skip
@examples(30)
def test_up_to_a_multiple_of_the_hop(mode: str, hop: int, spelling: str, start: int, context: str, batch: Any) -> None:
    """``(-S) % hop`` frames after the stream, then a strided window over them."""

    def op(g: G, x: str) -> str:
        length = g("Slice", g("Shape", x), g.ints(2), g.ints(3))
        if spelling == "mod":
            rest = g("Mod", g("Neg", length), g.ints(hop))
        else:
            whole = g("Mul", g("Div", g("Add", length, g.ints(hop - 1)), g.ints(hop)), g.ints(hop))
            rest = g("Sub", whole, length)
        pads = g("Concat", g.ints(0, 0, start, 0, 0), rest, axis=0)
        return g("Conv", g("Pad", x, pads, mode=mode), g.weight(2, 2, hop), strides=[hop])

    verify(op, [batch, 2, "S"], context, (1, 2, "P"), multiple=hop, least=False)


@pytest.mark.parametrize("dtype", [TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.BOOL, TensorProto.DOUBLE])
@pytest.mark.parametrize("mode", ["edge", "reflect"])
@pytest.mark.parametrize("batch", ["N", 1])
def test_types(dtype: int, mode: str, batch: Any) -> None:
    def op(g: G, x: str) -> str:
        x = g("Cast", g("Cast", x, to=dtype), to=TensorProto.INT32 if dtype == TensorProto.BOOL else dtype)
        return g("Cast", padded(g, x, 1, 2, mode), to=TensorProto.FLOAT)

    verify(op, [batch, 2, "S"], "late", least=False)


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("axis", [0, 1, 3])
def test_any_axis(context: str, axis: int) -> None:
    shape: list[Any] = [2, 3, 2, 2]
    shape[axis] = "S"
    verify(lambda g, x: padded(g, x, 2, 1, "reflect", 4, axis), shape, context, (2,), axis=axis, least=False)


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_two_axes_at_once(mode: str) -> None:
    """Padding of an image whose one axis is time, the corners included."""
    g = G()
    y = g("Pad", g.input("x", ["N", 1, "S", 4]), g.ints(0, 0, 1, 2, 0, 0, 2, 1), mode=mode)
    check(g.model(g("Conv", y, g.weight(2, 1, 4, 4))))


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_a_row_made_from_nothing(mode: str) -> None:
    """Positions, padded."""
    g = G()
    x = g.input("x", ["N", "S"])
    length = g("Gather", g("Shape", x), g.const(1, np.int64))
    row = g("Range", g.const(0, np.int64), length, g.const(1, np.int64))
    y = g("Mul", x, g("Unsqueeze", g("Cast", row, to=TensorProto.FLOAT), g.ints(0)))
    check(g.model(padded(g, y, 2, 2, mode, 2, 1)))


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_a_recurrent_reader(mode: str) -> None:
    """A memory reads the padded wire frame by frame."""
    g = G()
    y = padded(g, g.input("x", ["N", 2, "S"]), 2, 1, mode)
    z = g("CumSum", y, g.const(2, np.int64))
    check(g.model(z))


def test_wrap_is_refused() -> None:
    with pytest.raises(Refusal, match="on axis 2\n  why:  wrap padding along time reads the stream's other end"):
        verify(lambda g, x: padded(g, x, 1, 0, "wrap"), [1, 2, "S"], opset=19)


@pytest.mark.parametrize("mode", ["constant", "edge"])
def test_padding_that_grows_with_the_stream_is_refused(mode: str) -> None:
    g = G()
    x = g.input("x", [1, 2, "S"])
    pads = g("Concat", g.ints(0, 0, 0, 0, 0), g("Slice", g("Shape", x), g.ints(2), g.ints(3)), axis=0)
    with pytest.raises(Refusal, match="it pads S frames"):
        check(g.model(g("Pad", x, pads, mode=mode)))


def test_merged_batch_is_refused() -> None:
    g = G()
    x = g.input("x", ["N", 2, "S"])
    length = g("Slice", g("Shape", x), g.ints(2), g.ints(3))
    flat = g("Reshape", x, g("Concat", g.ints(-1, 1), length, axis=0))
    with pytest.raises(Refusal, match="its batch axis is merged with another"):
        check(g.model(padded(g, flat, 1, 0, "edge")))


def test_centred_frames() -> None:
    """Spectral frames of 16 every 4 samples, the signal reflected by 8: the first waits for sample 8, in frames of 4."""
    g = G()
    x = g.input("x", ["N", 1, "S"])
    y = g("Conv", padded(g, x, 8, 8, "reflect"), g.weight(18, 1, 16), strides=[4])
    model = g.model(g("Mul", y, y))
    (out,) = check(model, "S", (4, 8, "P")).manifest["outputs"]
    assert out["delay"] == 2
    check_least_delay(model)


@pytest.mark.parametrize(("mode", "before", "after", "delay"), [("edge", 2, 0, 0), ("reflect", 1, 1, 7), ("edge", 1, 1, 7)])
def test_dilated_stacks(mode: str, before: int, after: int, delay: int) -> None:
    """Residual blocks of dilation 1, 2, 4 cost their look-ahead, once each."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    for d in (1, 2, 4):
        y = g("Conv", padded(g, x, before * d, after * d, mode), g.weight(2, 2, 3), dilations=[d])
        x = g("Add", x, g("Relu", y))
    (out,) = check(g.model(x)).manifest["outputs"]
    assert out["delay"] == delay


@pytest.mark.parametrize("mode", ["edge", "reflect"])
def test_a_transposed_convolution_over_it(mode: str) -> None:
    g = G()
    y = padded(g, g.input("x", ["N", 2, "S"]), 1, 1, mode)
    check(g.model(g("ConvTranspose", y, g.weight(2, 2, 4), strides=[2], pads=[3, 3])))
