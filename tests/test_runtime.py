"""StreamSession: chunks of any length in, exact frames out, and clear words where it is misused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulsify import ClientError, ModelError, StreamBatch, StreamSession, convert
from pulsify.stages.verify import batch_session
from tests.graphs import G

RNG = np.random.default_rng(7)


def pulsed(model: onnx.ModelProto, pulse: int | str = 4, axis: Any = "S") -> bytes:
    return convert(model, axis=axis, pulse=pulse).model.SerializeToString()


def padded() -> onnx.ModelProto:
    """Two "same" convolutions, one with a stride: look-ahead, masks at the end, half the rate. Batch is symbolic."""
    g = G()
    x = g.input("x", ["N", 3, "S"])
    y = g("Conv", x, g.weight(4, 3, 5), g.weight(4), pads=[2, 2])
    return g.model(g("Conv", y, g.weight(2, 4, 3), pads=[1, 1], strides=[2]), y)


PADDED = padded()
NAMES = [o.name for o in PADDED.graph.output]
FILES = {pulse: pulsed(PADDED, pulse) for pulse in (2, 4, 16, "P")}
BATCH = ort.InferenceSession(PADDED.SerializeToString())


def batch(x: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(NAMES, BATCH.run(None, {"x": x}), strict=True))


def joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {n: np.concatenate([p[n] for p in parts], axis=2) for n in NAMES}


def equal(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    for n, w in want.items():
        assert got[n].shape == w.shape, n
        assert np.allclose(got[n], w, atol=1e-5), n


@settings(max_examples=60)
@given(
    pulse=st.sampled_from([2, 4, 16, "P"]),
    chunks=st.lists(st.integers(0, 23), min_size=1, max_size=8),
    rows=st.integers(1, 3),
)
def test_any_chunks_equal_batch(pulse: int | str, chunks: list[int], rows: int) -> None:
    """Chunks of any length, empty ones and streams shorter than a pulse included."""
    total = sum(chunks)
    if not total:
        return
    x = RNG.standard_normal((rows, 3, total)).astype(np.float32)
    session = StreamSession(FILES[pulse])
    parts = [session.feed(x=part) for part in np.split(x, np.cumsum(chunks)[:-1], axis=2)]
    parts.append(session.finish())
    equal(joined(parts), batch(x))


def test_frames_come_out_as_soon_as_they_can() -> None:
    """After V frames an output has given all that ``delay`` allows, and never a frame that the end could change."""
    x = RNG.standard_normal((1, 3, 40)).astype(np.float32)
    session = StreamSession(FILES[4])
    given = dict.fromkeys(NAMES, 0)
    for v in range(1, 41):
        out = session.feed(x=x[:, :, v - 1 : v])
        pulses = v // 4
        for n, frames in ((NAMES[0], 2), (NAMES[1], 4)):
            given[n] += out[n].shape[2]
            assert given[n] == max(0, pulses * frames - session.delay[n])


def test_reset_starts_anew() -> None:
    session = StreamSession(FILES[4])
    for length in (13, 5, 1, 22):
        x = RNG.standard_normal((1, 3, length)).astype(np.float32)
        equal(joined([session.feed(x=x), session.finish()]), batch(x))
        session.reset()
    session.feed(x=np.ones((1, 3, 9), np.float32))
    session.reset()
    x = RNG.standard_normal((1, 3, 6)).astype(np.float32)
    equal(joined([session.feed(x=x), session.finish()]), batch(x))


def test_feed_takes_a_mapping_and_stream_takes_an_iterable() -> None:
    x = RNG.standard_normal((2, 3, 17)).astype(np.float32)
    want = batch(x)
    session = StreamSession(FILES[4])
    equal(joined([session.feed({"x": x}), session.finish()]), want)
    with StreamSession(FILES[4]) as session:
        equal(joined(list(session.stream({"x": x[:, :, i : i + 5]} for i in range(0, 17, 5)))), want)


def test_a_finished_stream_says_so() -> None:
    session = StreamSession(FILES[4])
    session.feed(x=np.zeros((1, 3, 4), np.float32))
    session.finish()
    for call in (session.finish, lambda: session.feed(x=np.zeros((1, 3, 4), np.float32))):
        with pytest.raises(ClientError, match=r"the stream is finished\n  why:  finish\(\) was called\n  try:  reset"):
            call()


def test_a_chosen_pulse_with_a_dynamic_model() -> None:
    x = RNG.standard_normal((1, 3, 31)).astype(np.float32)
    for pulse in (2, 6, 32):
        session = StreamSession(FILES["P"], pulse=pulse)
        equal(joined([session.feed(x=x[:, :, :7]), session.feed(x=x[:, :, 7:]), session.finish()]), batch(x))
    with pytest.raises(ClientError, match="a pulse of 3 frames\n  why:  this model takes multiples of 2"):
        StreamSession(FILES["P"], pulse=3)
    with pytest.raises(ClientError, match="a pulse of 8 frames\n  why:  this model takes 4"):
        StreamSession(FILES[4], pulse=8)


def test_what_the_model_promises() -> None:
    session = StreamSession(FILES[4])
    assert session.delay == {NAMES[0]: 1, NAMES[1]: 2}
    assert session.latency[NAMES[1]] == 2 + 4
    assert session.state_bytes == session.manifest["state_bytes"] > 0


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        ({"y": np.zeros((1, 3, 4), np.float32)}, "'y' is not a streaming input\n  why:  the model streams x"),
        ({}, "no chunk for x"),
        ({"x": np.zeros((1, 3, 4))}, "chunk 'x' is float64\n  why:  the model takes float32"),
        ({"x": np.zeros((3, 4), np.float32)}, "chunk 'x' has 2 axes"),
        ({"x": np.zeros((1, 5, 4), np.float32)}, "chunk 'x' is 5 long on axis 1\n  why:  the model takes 3 there"),
    ],
)
def test_wrong_chunks(chunk: dict[str, np.ndarray], said: str) -> None:
    session = StreamSession(FILES[4])
    with pytest.raises(ClientError) as e:
        session.feed(chunk)
    assert said in str(e.value)
    x = RNG.standard_normal((1, 3, 9)).astype(np.float32)
    equal(joined([session.feed(x=x), session.finish()]), batch(x))


def test_the_batch_may_not_change_within_a_stream() -> None:
    session = StreamSession(FILES[4])
    session.feed(x=np.zeros((2, 3, 4), np.float32))
    with pytest.raises(ClientError, match="chunk 'x' is 3 long on axis 0"):
        session.feed(x=np.zeros((3, 3, 4), np.float32))


def test_the_batch_may_change_between_streams() -> None:
    session = StreamSession(FILES[4])
    for rows in (2, 1, 3):
        x = RNG.standard_normal((rows, 3, 9)).astype(np.float32)
        equal(joined([session.feed(x=x), session.finish()]), batch(x))
        session.reset()
    session = StreamSession(FILES[4], batch=2)
    with pytest.raises(ClientError, match="chunk 'x' is 1 long on axis 0\n  why:  the model takes 2"):
        session.feed(x=np.zeros((1, 3, 4), np.float32))


def test_several_inputs_advance_together() -> None:
    g = G()
    a, b = g.input("a", [1, 2, "S"]), g.input("b", [1, "2*S", 2])
    slow = g("Conv", g("Transpose", b, perm=[0, 2, 1]), g.weight(2, 2, 2), strides=[2])
    session = StreamSession(pulsed(g.model(g("Add", a, slow))))
    zeros = np.zeros((1, 2, 5), np.float32)
    with pytest.raises(ClientError, match="no chunk for b"):
        session.feed(a=zeros)
    with pytest.raises(
        ClientError, match="the chunks differ in length\n  why:  a holds 5 frames of S, b holds 4 frames"
    ):
        session.feed(a=zeros, b=np.zeros((1, 8, 2), np.float32))
    assert session.feed(a=zeros, b=np.zeros((1, 10, 2), np.float32))[session.manifest["outputs"][0]["name"]].shape == (
        1,
        2,
        4,
    )


def test_static_inputs_and_outputs() -> None:
    g = G()
    x, gain = g.input("x", [1, 2, "S"]), g.input("gain", [1, 2, 1])
    y, doubled = g("Mul", x, gain), g("Add", gain, gain)
    data = pulsed(g.model(y, doubled))
    with pytest.raises(ClientError, match="no value for the static input 'gain'\n  try:  StreamSession"):
        StreamSession(data).feed(x=np.ones((1, 2, 4), np.float32))
    factor = np.array([[[2.0], [3.0]]], np.float32)
    session = StreamSession(data, static={"gain": factor})
    with pytest.raises(ClientError, match="'gain' is not a streaming input") as e:
        session.feed(x=np.ones((1, 2, 4), np.float32), gain=factor)
    assert "static inputs are given to the constructor" in str(e.value)
    out = session.feed(x=np.ones((1, 2, 4), np.float32))
    assert np.array_equal(out[y], np.broadcast_to(factor, (1, 2, 4))) and np.array_equal(out[doubled], 2 * factor)


@pytest.mark.parametrize("pulse", [2, "P"])
def test_outputs_that_are_inputs(pulse: int | str) -> None:
    """A stream and a static input come out as they went in."""
    g = G()
    x, gain = g.input("x", ["N", 2, "S"]), g.input("gain", [1, 2, 1])
    y = g("Conv", g("Mul", x, gain), g.weight(2, 2, 3), pads=[1, 1])
    data = pulsed(g.model(y, x, gain), pulse)
    factor = np.array([[[2.0], [3.0]]], np.float32)
    fed = RNG.standard_normal((1, 2, 9)).astype(np.float32)
    session = StreamSession(data, static={"gain": factor})
    parts = [*(session.feed(x=fed[:, :, k : k + 3]) for k in (0, 3, 6)), session.finish()]
    assert np.array_equal(np.concatenate([p["x"] for p in parts], axis=2), fed)
    assert all(np.array_equal(p["gain"], factor) for p in parts[1:])
    many = StreamBatch(data, static={"gain": factor})
    rows = [many.add(), many.add()]
    found = [many.feed({r: {"x": k * fed} for k, r in enumerate(rows, 1)}), {r: many.finish(r) for r in rows}]
    for k, r in enumerate(rows, 1):
        assert np.array_equal(np.concatenate([out[r]["x"] for out in found], axis=2), k * fed)


def test_static_inputs_are_checked_and_converted() -> None:
    g = G()
    x, gain = g.input("x", [1, "S"]), g.input("gain", [])
    y = g("Mul", x, gain)
    data = pulsed(g.model(y))
    assert np.array_equal(
        StreamSession(data, static={"gain": 2}).feed(x=np.ones((1, 4), np.float32))[y], [[2, 2, 2, 2]]
    )
    with pytest.raises(ClientError, match="static input 'gain' is float64\n  why:  the model takes float32"):
        StreamSession(data, static={"gain": np.ones(())})


def test_a_refused_chunk_leaves_no_trace() -> None:
    session = StreamSession(FILES[4])
    with pytest.raises(ClientError, match="chunk 'x' is 5 long on axis 1"):
        session.feed(x=np.zeros((7, 5, 4), np.float32))
    x = RNG.standard_normal((2, 3, 9)).astype(np.float32)
    equal(joined([session.feed(x=x), session.finish()]), batch(x))


def test_half_a_frame_is_no_stream() -> None:
    g = G()
    data = pulsed(g.model(g("Tanh", g.input("x", [1, "2*S"]))), pulse=2)
    session = StreamSession(data)
    for length, whole in ((3, 0), (3, 4), (3, 8)):
        assert sum(session.feed(x=np.zeros((1, length), np.float32))["tanh_1"].shape[1:]) == whole - (
            4 if whole == 8 else 0
        )
    with pytest.raises(
        ClientError, match="a stream of 9 frames on 'x'\n  why:  the input holds 2 frames per frame of S"
    ):
        session.finish()


def test_unknown_static_inputs_are_refused() -> None:
    g = G()
    data = pulsed(g.model(g("Tanh", g.input("x", [1, "S"]))))
    with pytest.raises(ClientError, match="'gain' is not a static input"):
        StreamSession(data, static={"gain": np.ones(1)})


def test_streams_the_batch_model_is_not_defined_for() -> None:
    """A length outside the conditions is refused at the end, with the node that asked."""
    g = G()
    x = g.input("x", [1, "S", 2])
    c = convert(g.model(g("Reshape", x, g.ints(1, -1, 4))), axis="S", pulse=4)
    session = StreamSession(c.model.SerializeToString())
    session.feed(x=np.zeros((1, 5, 2), np.float32))
    with pytest.raises(ClientError, match=r"a stream of 5 frames\n  why:  .* S % 2 == 0 only \(node 'n_reshape_2'\)"):
        session.finish()


def test_stream_too_short_for_one_output_frame() -> None:
    g = G()
    data = pulsed(g.model(g("Conv", g.input("x", [1, 2, "S"]), g.weight(2, 2, 7))))
    session = StreamSession(data)
    assert session.feed(x=np.zeros((1, 2, 3), np.float32))["conv_2"].shape == (1, 2, 0)
    assert session.finish()["conv_2"].shape == (1, 2, 0)


def test_a_stream_without_a_frame() -> None:
    session = StreamSession(FILES[4], batch=1)
    out = session.finish()
    assert [out[n].shape for n in NAMES] == [(1, 2, 0), (1, 4, 0)]


def test_not_a_pulsed_model(tmp_path: Path) -> None:
    onnx.save(PADDED, tmp_path / "batch.onnx")
    with pytest.raises(ModelError, match="cannot stream this model\n  why:  it carries no pulsify manifest"):
        StreamSession(tmp_path / "batch.onnx")
    with pytest.raises(ModelError, match=r"onnxruntime cannot load '.*gone\.onnx'"):
        StreamSession(tmp_path / "gone.onnx")
    with pytest.raises(ModelError, match="onnxruntime cannot load the model"):
        StreamSession(b"nonsense")


def test_sessions_and_options_of_the_caller(tmp_path: Path) -> None:
    path = convert(PADDED, axis="S", pulse=4).save(tmp_path / "m.onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    x = RNG.standard_normal((1, 3, 9)).astype(np.float32)
    for session in (
        StreamSession(path, options=options),
        StreamSession(ort.InferenceSession(path)),
        StreamSession(str(path)),
    ):
        equal(joined([session.feed(x=x), session.finish()]), batch(x))


def test_two_sessions_share_nothing() -> None:
    shared = ort.InferenceSession(FILES[4])
    a, b = StreamSession(shared), StreamSession(shared)
    x, y = (RNG.standard_normal((1, 3, 12)).astype(np.float32) for _ in range(2))
    got: list[list[dict[str, np.ndarray]]] = [[], []]
    for i in range(0, 12, 3):
        got[0].append(a.feed(x=x[:, :, i : i + 3]))
        got[1].append(b.feed(x=y[:, :, i : i + 3]))
    equal(joined([*got[0], a.finish()]), batch(x))
    equal(joined([*got[1], b.finish()]), batch(y))


def test_chunks_are_copied_or_left_alone() -> None:
    """What the caller does with a buffer after feeding it does not matter, nor is it written to."""
    x = RNG.standard_normal((1, 3, 11)).astype(np.float32)
    session, buffer, parts = StreamSession(FILES[4]), np.empty((1, 3, 1), np.float32), []
    for i in range(11):
        buffer[...] = x[:, :, i : i + 1]
        parts.append(session.feed(x=buffer))
        buffer[...] = np.nan
    equal(joined([*parts, session.finish()]), batch(x))


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.bool_])
def test_dtypes(dtype: Any) -> None:
    g = G()
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x = g.input("x", [1, "S"], kind)
    y = g("Concat", x, x, axis=0)
    model = g.model(y, **{y: kind})
    data = np.array([[1, 0, 1, 1, 0]], dtype)
    session = StreamSession(pulsed(model))
    got = np.concatenate([session.feed(x=data)[y], session.finish()[y]], axis=1)
    assert got.dtype == dtype and np.array_equal(got, np.concatenate([data, data]))


def test_the_client_of_the_contract_page_and_this_one_agree() -> None:
    """A loop that knows only the contract gives the same frames (see docs/contract.md)."""
    c = convert(PADDED, axis="S", pulse=4)
    x = RNG.standard_normal((1, 3, 18)).astype(np.float32)
    expected = dict(zip(NAMES, batch_session(c.source, c.batch).run(None, {"x": x}), strict=True))
    session = StreamSession(c.model.SerializeToString())
    equal(joined([session.feed(x=x), session.finish()]), expected)
