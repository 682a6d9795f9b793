"""Position: tables and encodings looked up by time, masks against lengths; every row of a batch has its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.api import convert
from pulsify.errors import ClientError, Refusal
from pulsify.runtime import StreamSession
from tests.contexts import batches, contexts, pulses, verify
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

FAR = 2**63 - 1
ROWS = 90


def size(g: G, x: str, axis: int) -> str:
    return g("Slice", g("Shape", x), g.ints(axis), g.ints(axis + 1))


def positions(g: G, x: str, axis: int, start: int = 0) -> str:
    """``start + (0, 1, ..)``, int64 ``[S]``."""
    last = g("Squeeze", size(g, x, axis))
    last = g("Add", last, g.const(start, np.int64)) if start else last
    return g("Range", g.const(start, np.int64), last, g.const(1, np.int64))


def table(g: G, x: str, kind: str, start: int = 0) -> str:
    """An encoding ``[S, 3]`` for x ``[N, S, 3]``."""
    if kind == "slice":
        end = size(g, x, 1)
        return g("Slice", g.weight(ROWS, 3), g.ints(start), g("Add", end, g.ints(start)) if start else end, g.ints(0))
    row = positions(g, x, 1, start)
    if kind == "gather":
        return g("Gather", g.weight(ROWS, 3), row, axis=0)
    if kind == "embedding":
        whole = g("Expand", g("Unsqueeze", row, g.ints(0)), g("Concat", size(g, x, 0), size(g, x, 1), axis=0))
        return g("Gather", g.weight(ROWS, 3), whole, axis=0)
    angle = g("Mul", g("Unsqueeze", g("Cast", row, to=TensorProto.FLOAT), g.ints(1)), g.const([[1.0, 0.4]], np.float32))
    if kind == "angles":
        angle = g("MatMul", g("Unsqueeze", g("Cast", row, to=TensorProto.FLOAT), g.ints(1)), g.const([[1.0, 0.4]], np.float32))
    parts = g("Split", angle, g.ints(1, 1), n=2, axis=1)
    return g("Concat", g("Sin", angle), g("Cos", parts[1]), axis=1)


kinds = st.sampled_from(["slice", "gather", "embedding", "sines", "angles"])


@given(kind=kinds, start=st.integers(0, 3), context=contexts, batch=batches, at=pulses(), wide=st.booleans())
@examples(50)
def test_encodings(kind: str, start: int, context: str, batch: Any, at: Any, wide: bool) -> None:
    """Added to a wire of any delay: position 0 meets its first frame."""

    def op(g: G, x: str) -> str:
        y = table(g, x, kind, start)
        y = g("Unsqueeze", y, g.ints(0)) if wide and kind != "embedding" else y
        return g("Mul", x, y)

    verify(op, [batch, "S", 3], context, at, axis=1, least=False)


@given(place=st.permutations(["N", "S", 3]), kind=st.sampled_from(["slice", "gather"]), late=st.booleans(), at=pulses())
@examples(20)
def test_any_order_of_axes(place: list[Any], kind: str, late: bool, at: Any) -> None:
    """Time, batch and features anywhere; the table turned to fit."""

    def op(g: G, x: str) -> str:
        time = place.index("S")
        end = size(g, x, time)
        rows = g("Slice", g.weight(1, ROWS, 3), g.ints(0), end, g.ints(1))
        if kind == "gather":
            rows = g("Gather", g.weight(1, ROWS, 3), positions(g, x, time), axis=1)
        source = {"N": 0, "S": 1, 3: 2}
        return g("Add", x, g("Transpose", rows, perm=[source[p] for p in place]))

    verify(op, place, "late" if late else "alone", at, axis=place.index("S"), least=False)


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("spelling", ["less", "greater", "not", "chain"])
@given(context=st.sampled_from(["alone", "late", "early", "merged"]), at=pulses(), batch=st.sampled_from(["N", 1]))
@examples(5)
def test_a_length_input(rank: int, spelling: str, context: str, at: Any, batch: Any) -> None:
    """``Range(S) < lens[:, None]``, as exporters spell masks."""

    def op(g: G, x: str) -> str:
        shape = [batch] if rank == 1 else [batch, 1]
        lens = g("Sub", g.input("lens", shape, TensorProto.INT64), g.ints(2))
        lens = g("Unsqueeze", lens, g.ints(1)) if rank == 1 else lens
        row = g("Unsqueeze", positions(g, x, 1), g.ints(0))
        if spelling == "less":
            mask = g("Less", row, lens)
        elif spelling == "greater":
            mask = g("GreaterOrEqual", lens, g("Add", row, g.ints(1)))
        elif spelling == "not":
            mask = g("Not", g("GreaterOrEqual", row, lens))
        else:
            wide = g("Expand", row, g("Concat", size(g, x, 0), size(g, x, 1), axis=0))
            mask = g("And", g("Less", wide, lens), g("Greater", wide, g.const(0, np.int64)))
        mask = g("Unsqueeze", mask, g.ints(2))
        return g("Add", g("Where", mask, x, g.const(-1.0, np.float32)), g("Mul", x, g("Cast", mask, to=TensorProto.FLOAT)))

    verify(op, [batch, "S", 3], context, at, axis=1, least=False)


@given(context=contexts, at=pulses(), batch=batches, value=st.sampled_from([0.0, 2.0]))
@examples(15)
def test_filled_with_one_value(context: str, at: Any, batch: Any, value: float) -> None:
    def op(g: G, x: str) -> str:
        ones = g("ConstantOfShape", g("Shape", x), value=_one(value))
        row = g("ConstantOfShape", size(g, x, 1), value=_one(value))
        return g("Mul", g("Add", x, ones), g("Add", g("Unsqueeze", row, g.ints(1)), x))

    verify(op, [batch, "S", 3], context, at, axis=1, least=False)


def _one(value: float) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray([value], np.float32))


def test_two_encodings_of_wires_of_different_delay() -> None:
    """Each meets its own frames, then they merge."""
    g = G()
    x = g.input("x", ["N", "S", 3])
    late = g("Slice", x, g.ints(3), g.ints(FAR), g.ints(1))
    early = g("Slice", x, g.ints(0), g.ints(-3), g.ints(1))
    a = g("Mul", late, table(g, late, "slice"))
    b = g("Mul", early, table(g, early, "sines"))
    check(g.model(g("Sub", a, b)))


def test_at_half_the_rate() -> None:
    """Positions of a subsampled wire count its own frames."""
    g = G()
    x = g.input("x", ["N", 3, "S"])
    y = g("Conv", x, g.weight(3, 3, 3), strides=[2], pads=[1, 1])
    rows = g("Slice", g.weight(1, ROWS, 3), g.ints(0), size(g, y, 2), g.ints(1))
    c = check(g.model(g("Add", y, g("Transpose", rows, perm=[0, 2, 1]))), "S", (2, 4, "P"))
    assert c.manifest["stream"]["most"] == 2 * ROWS


@pytest.mark.parametrize("batch", ["N", 1])
def test_positions_in_a_window(batch: Any) -> None:
    """Encodings joined to the features, and a convolution over both."""
    g = G()
    x = g.input("x", [batch, 2, "S"])
    row = g("Cast", positions(g, x, 2), to=TensorProto.FLOAT)
    shape = g("Concat", size(g, x, 0), g.ints(1), size(g, x, 2), axis=0)
    y = g("Concat", x, g("Expand", g("Unsqueeze", g("Sin", row), g.ints(0, 1)), shape), axis=1)
    check(g.model(g("Conv", y, g.weight(2, 3, 3), pads=[1, 1])))


def test_positions_as_an_output() -> None:
    g = G()
    x = g.input("x", [1, "S"])
    row = g("Sqrt", g("Cast", positions(g, x, 1), to=TensorProto.FLOAT))
    check(g.model(row, g("Tanh", x)))


def test_positions_of_a_batch_as_an_output() -> None:
    g = G()
    x = g.input("x", ["N", "S"])
    rows = g("Expand", g("Unsqueeze", positions(g, x, 1), g.ints(0)), g("Shape", x))
    check(g.model(g("Sqrt", g("Cast", rows, to=TensorProto.FLOAT)), g("Tanh", x)))


def test_a_reversed_and_cut_table() -> None:
    """Other axes of the table cut in the same Slice, one of them backwards."""
    g = G()
    x = g.input("x", ["N", "S", 3])
    ends = g("Concat", size(g, x, 1), g.ints(-FAR), axis=0)
    rows = g("Slice", g.weight(ROWS, 4), g.const([0, 2]), ends, g.ints(0, 1), g.ints(1, -1))
    check(g.model(g("Add", x, rows)))


def test_every_second_row_of_a_table() -> None:
    g = G()
    x = g.input("x", ["N", "S", 3])
    end = g("Mul", size(g, x, 1), g.ints(2))
    rows = g("Slice", g.weight(ROWS, 3), g.ints(0), end, g.ints(0), g.ints(2))
    c = check(g.model(g("Add", x, rows)))
    assert c.manifest["stream"]["most"] == ROWS // 2


@pytest.mark.parametrize("kind", ["slice", "gather"])
def test_a_stream_longer_than_the_table(kind: str) -> None:
    """The bound is in the manifest, and the client refuses what goes beyond, keeping what it has."""
    g = G()
    x = g.input("x", ["N", "S", 3])
    c = convert(g.model(g("Add", x, table(g, x, kind))), axis="S", pulse=8)
    assert c.manifest["stream"]["most"] == ROWS
    (condition,) = [k for k in c.manifest["stream"]["conditions"] if k["most"] is not None]
    assert condition["most"] == ROWS
    client = StreamSession(c.model.SerializeToString())
    frames = np.zeros((1, ROWS, 3), np.float32)
    got = [client.feed(x=frames)]
    with pytest.raises(ClientError, match=f"a stream of {ROWS + 1} frames\n  why:  the model is defined for at most {ROWS}"):
        client.feed(x=frames[:, :1])
    got.append(client.finish())
    assert sum(next(iter(o.values())).shape[1] for o in got) == ROWS


@pytest.mark.parametrize("batch", ["N", 1])
def test_a_stream_as_long_as_the_table(batch: Any) -> None:
    g = G()
    x = g.input("x", [batch, "S", 3])
    y = g("Slice", x, g.ints(1), g.ints(FAR), g.ints(1))
    check(g.model(g("Add", y, g("Slice", g.weight(6, 3), g.ints(0), size(g, y, 1), g.ints(0)))), "S", (1, 4, "P"), (3, 6, 7))


def test_positions_counted_from_the_end_are_refused() -> None:
    g = G()
    x = g.input("x", ["N", "S", 3])
    last = g("Squeeze", size(g, x, 1))
    row = g("Range", g("Neg", last), g.const(0, np.int64), g.const(1, np.int64))
    with pytest.raises(Refusal, match="it counts from -S, which depends on the stream's length"):
        check(g.model(g("Add", x, g("Unsqueeze", g("Cast", row, to=TensorProto.FLOAT), g.ints(0, 2)))))


def test_a_table_cut_at_its_end_is_refused() -> None:
    """``PE[:, T - S :]``: what a frame adds depends on how long the stream will be."""
    g = G()
    x = g.input("x", ["N", "S", 3])
    rows = g("Slice", g.weight(ROWS, 3), g("Sub", g.ints(ROWS), size(g, x, 1)), g.ints(FAR), g.ints(0))
    with pytest.raises(Refusal):
        check(g.model(g("Add", x, rows)))


def test_positions_without_a_batch_axis_are_refused() -> None:
    g = G()
    x = g.input("x", ["N", "S"])
    row = g("Sqrt", g("Cast", positions(g, x, 1), to=TensorProto.FLOAT))
    with pytest.raises(Refusal, match="it uses positions in time without a batch axis, and each stream has its own"):
        check(g.model(row, g("Tanh", x)))


def test_a_table_per_stream_is_refused() -> None:
    g = G()
    x = g.input("x", ["N", "S", 3])
    rows = g("Gather", g.input("rows", ["N", ROWS, 3]), positions(g, x, 1), axis=1)
    with pytest.raises(Refusal, match="it uses 'rows', of which each stream has its own, together with positions"):
        check(g.model(g("Add", x, rows)))


def test_a_mask_over_two_time_axes_is_refused() -> None:
    g = G()
    x = g.input("x", [1, "S"])
    row = g("Sqrt", g("Cast", positions(g, x, 1), to=TensorProto.FLOAT))
    square = g("Less", g("Unsqueeze", row, g.ints(0)), g("Unsqueeze", row, g.ints(1)))
    with pytest.raises(Refusal):
        check(g.model(square, **{square: TensorProto.BOOL}))


def test_nonzero_is_refused_by_name() -> None:
    g = G()
    x = g.input("x", [1, "S"])
    y = g("NonZero", g("Less", positions(g, x, 1), g.const(4, np.int64)))
    with pytest.raises(Refusal, match="NonZero"):
        check(g.model(y, **{y: TensorProto.INT64}))


def test_token_and_position_embeddings_behind_a_class_token() -> None:
    g = G()
    ids = g.input("ids", ["N", "S"], TensorProto.INT64)
    whole = g("Expand", g("Unsqueeze", positions(g, ids, 1), g.ints(0)), g("Shape", ids))
    y = g("Add", g("Gather", g.weight(5, 4), ids, axis=0), g("Gather", g.weight(ROWS, 4), whole, axis=0))
    token = g("Expand", g.weight(1, 1, 4), g("Concat", size(g, ids, 0), g.ints(1, 4), axis=0))
    check(g.model(g("Concat", token, y, axis=1)))


@pytest.mark.parametrize("op", ["Expand", "Tile"])
@pytest.mark.parametrize("time", [1, 2])
def test_a_static_input_repeated_along_time(op: str, time: int) -> None:
    """A speaker's vector beside every frame; each stream has its own."""
    g = G()
    shape: list[Any] = ["N", 3, 3]
    shape[time] = "S"
    x, v = g.input("x", shape), g.input("v", ["N", 3])
    v = g("Unsqueeze", v, g.ints(time))
    if op == "Expand":
        rows = g("Expand", v, g("Shape", x))
    else:
        ones = [g.ints(1), g.ints(1), g.ints(1)]
        ones[time] = size(g, x, time)
        rows = g("Tile", v, g("Concat", *ones, axis=0))
    check(g.model(g("Concat", x, rows, axis=3 - time)))


def test_a_mask_over_all_streams_of_a_batch_is_refused() -> None:
    g = G()
    x, lens = g.input("x", ["N", 2, "S"]), g.input("lens", ["N"], TensorProto.INT64)
    mask = g("Less", g("Unsqueeze", positions(g, x, 2), g.ints(0)), g("Unsqueeze", lens, g.ints(1)))
    mask = g("ReduceMax", g("Cast", mask, to=TensorProto.FLOAT), g.ints(0), keepdims=0)
    with pytest.raises(Refusal, match="it mixes the rows of a batch"):
        check(g.model(g("Add", x, mask)))
