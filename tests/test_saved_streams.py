"""StreamSession.save and load: a stream goes on anywhere, and damaged or foreign bytes are refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulsify import ClientError, StreamSession
from tests.graphs import G
from tests.test_runtime import FILES, NAMES, PADDED, batch, equal, joined, pulsed

RNG = np.random.default_rng(11)


@settings(max_examples=40)
@given(
    pulse=st.sampled_from([2, 4, 16, "P"]),
    chunks=st.lists(st.tuples(st.integers(0, 23), st.booleans()), min_size=1, max_size=8),
    rows=st.integers(1, 3),
    late=st.booleans(),
)
def test_a_stream_goes_on_elsewhere(pulse: int | str, chunks: list[tuple[int, bool]], rows: int, late: bool) -> None:
    """At any point: before the first chunk, with frames waiting, with frames held, right before the end, after it."""
    total = sum(n for n, _ in chunks)
    if not total:
        return
    x = RNG.standard_normal((rows, 3, total)).astype(np.float32)
    session, parts, at = StreamSession(FILES[pulse]), [], 0
    for n, moves in chunks:
        if moves:
            data = session.save()
            session = StreamSession(FILES[pulse])
            if late:
                session.feed(x=np.ones((2, 3, 50), np.float32))
            session.load(data)
            assert session.save() == data
        parts.append(session.feed(x=x[:, :, at : at + n]))
        at += n
    parts.append(session.finish())
    equal(joined(parts), batch(x))
    other = StreamSession(FILES[pulse])
    other.load(session.save())
    with pytest.raises(ClientError, match="the stream is finished"):
        other.feed(x=x)


def test_loading_goes_back() -> None:
    """The same bytes give the same frames, as often as they are loaded; what was saved is a copy."""
    x = RNG.standard_normal((1, 3, 30)).astype(np.float32)
    session = StreamSession(FILES[4])
    first = session.feed(x=x[:, :, :13])
    data = session.save()
    tails = []
    for _ in range(2):
        tails.append(joined([session.feed(x=x[:, :, 13:]), session.finish()]))
        session.load(data)
    equal({n: np.concatenate([first[n], tails[0][n]], axis=2) for n in NAMES}, batch(x))
    for n in NAMES:
        assert np.array_equal(tails[0][n], tails[1][n])


def test_statics_and_running_outputs_are_part_of_a_stream() -> None:
    g = G()
    x, gain = g.input("x", [1, 2, "S"]), g.input("gain", [1, 2, 1])
    y = g("Mul", x, gain)
    mean = g("ReduceMean", y, g.ints(2), keepdims=0)
    data = pulsed(g.model(y, mean))
    a = StreamSession(data, static={"gain": np.array([[[2.0], [3.0]]], np.float32)})
    x = RNG.standard_normal((1, 2, 10)).astype(np.float32)
    before = a.feed(x=x[:, :, :5])
    b = StreamSession(data, static={"gain": np.zeros((1, 2, 1), np.float32)})
    b.load(a.save())
    assert np.array_equal(b.feed(x=x[:, :, 5:5])[mean], before[mean])
    assert np.allclose(b.feed(x=x[:, :, 5:])[mean], (x[:, :, :8] * [[2.0], [3.0]]).mean(2), atol=1e-6)
    assert np.allclose(b.finish()[mean], (x * [[2.0], [3.0]]).mean(2), atol=1e-6)


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "int8", "bool", "object"])
def test_types(kind: str) -> None:
    """Frames that wait and states of every kind of type; text as well."""
    import ml_dtypes

    dtype: Any = np.dtype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
    number = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    g = G()
    x = g.input("x", [1, "S"], number)
    late = g("Slice", x, g.ints(0), g.ints(-2), g.ints(1)) if kind != "object" else x
    early = g("Slice", x, g.ints(2), g.ints(2**62), g.ints(1)) if kind != "object" else x
    y = g("Concat", late, early, axis=0)
    model = pulsed(g.model(y, **{y: number}))
    values = np.array([["a", "b", "", "ü", "c", "d", "e"]], object) if kind == "object" else (np.arange(7)[None] % 3).astype(dtype)
    session, parts = StreamSession(model), []
    for n in range(7):
        parts.append(session.feed(x=values[:, n : n + 1])[y])
        data = session.save()
        session = StreamSession(model)
        session.load(data)
    got = np.concatenate([*parts, session.finish()[y]], axis=1)
    want = np.concatenate([values, values] if kind == "object" else [values[:, :-2], values[:, 2:]])
    assert got.dtype == dtype and np.array_equal(got, want)


def test_the_format_is_that_of_safetensors() -> None:
    """Read by the letter of that format, with the names that the docs give."""
    session = StreamSession(FILES[4])
    x = RNG.standard_normal((2, 3, 7)).astype(np.float32)
    session.feed(x=x)
    data = session.save()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0 and len(data) == 8 + length + max(e["data_offsets"][1] for n, e in header.items() if n[0] != "_")
    assert all(isinstance(v, str) for v in header["__metadata__"].values())
    entry = header["waiting/x"]
    start, end = (8 + length + o for o in entry["data_offsets"])
    assert (entry["dtype"], entry["shape"]) == ("F32", [2, 3, 3])
    assert np.array_equal(np.frombuffer(data[start:end], np.float32).reshape(2, 3, 3), x[:, :, 4:])
    assert {n for n in header if n.startswith("state/")} == {f"state/{s['input']}" for s in session.manifest["states"]}


def test_damaged_bytes_are_refused_and_change_nothing() -> None:
    x = RNG.standard_normal((1, 3, 21)).astype(np.float32)
    session = StreamSession(FILES[4])
    first = session.feed(x=x[:, :, :10])
    data = session.save()
    bad: list[Any] = [b"", b"PK", data[:-1], data + b"\0", data[:100], b"\xff" * 200, b"\0" * 64, None, "text", data[8:], (2).to_bytes(8, "little") + b"[]"]
    for at in RNG.integers(0, len(data), 150):
        flipped = bytearray(data)
        flipped[at] ^= 1 << RNG.integers(0, 8)
        bad.append(bytes(flipped))
    for broken in bad:
        with pytest.raises(ClientError, match="cannot load this stream\n  why:  the bytes are damaged, or no saved stream"):
            session.load(broken)
    equal(joined([first, session.feed(x=x[:, :, 10:]), session.finish()]), batch(x))


def test_a_checksum_that_holds_is_not_trusted() -> None:
    """Bytes that somebody signed anew: counts and arrays have to agree with the model and with each other."""
    from pulsify.runtime import saved

    session = StreamSession(FILES[4])
    session.feed(x=np.ones((1, 3, 10), np.float32))
    arrays, metadata = saved._read(session.save())
    state = next(n for n in arrays if n.startswith("state/"))
    counts = json.loads(metadata["pulsify.stream"])
    wrong_arrays: list[dict[str, Any]] = [
        {state: arrays[state][..., :-1]}, {state: arrays[state].astype(np.float64)}, {"waiting/x": np.ones((1, 3, 3), np.float32)}
    ]
    wrong_counts: list[dict[str, Any]] = [
        {"received": [-1]}, {"real": 1e300}, {"sent": None}, {"outputs": {}}, {"sizes": {"N": 2}}, {"received": []}, {"sizes": []}
    ]
    for change in wrong_arrays:
        with pytest.raises(ClientError, match="the bytes are damaged"):
            session.load(saved._write({**arrays, **change}, {"pulsify.stream": json.dumps(counts)}))
    for change in wrong_counts:
        with pytest.raises(ClientError, match="the bytes are damaged"):
            session.load(saved._write(arrays, {"pulsify.stream": json.dumps({**counts, **change})}))
    with pytest.raises(ClientError, match="it is of version 7, this client reads version 1"):
        session.load(saved._write(arrays, {"pulsify.stream": json.dumps({**counts, "version": 7})}))


def test_streams_of_other_models_are_refused() -> None:
    session = StreamSession(FILES[4])
    session.feed(x=np.ones((1, 3, 10), np.float32))
    other = G()
    tanh = pulsed(other.model(other("Tanh", other.input("x", [1, "S"]))))
    with pytest.raises(ClientError, match="saved from another model\n  try:  load it with the file it was saved from"):
        StreamSession(tanh).load(session.save())
    with pytest.raises(ClientError, match="saved from another conversion of this model"):
        StreamSession(pulsed(PADDED, 2)).load(session.save())


def test_streams_of_another_pulse_are_refused() -> None:
    session = StreamSession(FILES["P"], pulse=6)
    session.feed(x=np.ones((1, 3, 11), np.float32))
    with pytest.raises(ClientError, match=r"saved at a pulse of 6, this client has 2\n  try:  StreamSession\(..., pulse=6\)"):
        StreamSession(FILES["P"], pulse=2).load(session.save())
