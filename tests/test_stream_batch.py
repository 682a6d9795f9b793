"""StreamBatch: rows that join and leave at any time give what each would give alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify import ClientError, StreamBatch, StreamSession
from pulsify.api import Conversion, convert
from tests.contract_check import random_inputs
from tests.graphs import G
from tests.profiles import examples
from tests.streams import Recording, drive
from tests.test_runtime import FILES, NAMES, PADDED, batch, equal, joined, pulsed


def same_convs() -> onnx.ModelProto:
    return PADDED


def recurrent() -> onnx.ModelProto:
    """Rows on axis 1 of the states; look-ahead, so that masks and counters of every row matter; a final state."""
    g = G()
    x = g("Conv", g.input("x", ["N", 3, "S"]), g.weight(3, 3, 3), pads=[1, 1])
    y, h = g("GRU", g("Transpose", x, perm=[2, 0, 1]), g.weight(1, 12, 3), g.weight(1, 12, 4), g.weight(1, 24), n=2, hidden_size=4)
    return g.model(g("Transpose", g("Squeeze", y, g.ints(1)), perm=[1, 2, 0]), g("Squeeze", h, g.ints(0)))


def summary() -> onnx.ModelProto:
    """A running mean beside a convolution with a stride; time in front of the rows."""
    g = G()
    x = g.input("x", ["S", "N", 2])
    y = g("Conv", g("Transpose", x, perm=[1, 2, 0]), g.weight(2, 2, 4), pads=[1, 2], strides=[2])
    return g.model(g("ReduceMean", x, g.ints(0), keepdims=0), y)


def rates() -> onnx.ModelProto:
    """Two inputs, one at twice the rate."""
    g = G()
    slow, fast = g.input("a", ["N", 2, "S"]), g.input("b", ["N", "2*S", 2])
    y = g("Conv", g("Transpose", fast, perm=[0, 2, 1]), g.weight(2, 2, 2), strides=[2])
    return g.model(g("Conv", g("Add", slow, y), g.weight(2, 2, 3), pads=[2, 0]))


def conditioned() -> onnx.ModelProto:
    """A static input of each row, one that all share, and frames that another static output comes with."""
    g = G()
    x, gain, bias = g.input("x", ["N", 2, "S"]), g.input("gain", ["N", 2, 1]), g.input("bias", [2, 1])
    y = g("Conv", g("Add", g("Mul", x, gain), bias), g.weight(2, 2, 3), pads=[1, 1])
    return g.model(y, g("Neg", gain))


def stateless() -> onnx.ModelProto:
    g = G()
    return g.model(g("Tanh", g.input("x", ["N", 3, "S"])))


MAKERS = [same_convs, recurrent, summary, rates, conditioned, stateless]
CASES = [(make.__name__, pulse) for make in MAKERS for pulse in (2, "P")] + [("same_convs", 4), ("recurrent", 1)]
_made: dict[tuple[str, int | str], tuple[Conversion, bytes, ort.InferenceSession]] = {}


def made(name: str, pulse: int | str) -> tuple[Conversion, bytes, ort.InferenceSession]:
    """A conversion, its file, and a session of the batch model."""
    if (name, pulse) not in _made:
        model = next(m for m in MAKERS if m.__name__ == name)()
        c = convert(model, axis="S", pulse=pulse)
        _made[name, pulse] = c, c.model.SerializeToString(), ort.InferenceSession(model.SerializeToString())
    return _made[name, pulse]


@pytest.mark.parametrize(("name", "pulse"), CASES)
@given(data=st.data())
@examples(12)
def test_rows_join_and_leave(name: str, pulse: int | str, data: st.DataObject) -> None:
    """Each equals the batch model, whatever the others do; a row that is not fed does not change in a single bit."""
    c, file, session = made(name, pulse)
    shared = {"bias": np.array([[0.5], [-1.0]], np.float32)} if name == "conditioned" else {}
    client = StreamBatch(file, static=shared, pulse=data.draw(st.sampled_from([None, 2, 6]), "pulse") if pulse == "P" else None, filler=np.nan)
    rng = np.random.default_rng(data.draw(st.integers(0, 9), "seed"))
    waiting = []
    for _ in range(data.draw(st.integers(1, 6), "rows")):
        length = data.draw(st.integers(1, 30), "length")
        inputs = {**random_inputs(c, length, rng), **shared}
        waiting.append(Recording(inputs, length, {"gain": inputs["gain"]} if name == "conditioned" else {}))
    for done in drive(data, client, c, waiting):
        done.check(c, session)


def test_rows_that_are_fed_are_run_together() -> None:
    """Frames of several rows come out of one run of the model; a row alone needs one as well."""
    client = StreamBatch(FILES[4])
    rows = [client.add() for _ in range(3)]
    runs = []
    original = type(client)._run
    client._run = lambda compact, *rest: (runs.append(len(compact.inputs)), original(client, compact, *rest))[1]  # type: ignore[method-assign]
    chunk = {"x": np.ones((1, 3, 4), np.float32)}
    client.feed(dict.fromkeys(rows, chunk))
    client.feed({rows[1]: chunk})
    client.feed({rows[0]: chunk, rows[2]: {"x": np.ones((1, 3, 3), np.float32)}})
    client.feed({rows[2]: {"x": np.ones((1, 3, 1), np.float32)}, rows[0]: chunk})
    assert runs == [3, 1, 1, 2]


def test_a_stream_moves_between_the_clients() -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 31)).astype(np.float32)
    alone, client = StreamSession(FILES[4]), StreamBatch(FILES[4])
    parts = [alone.feed(x=x[:, :, :9])]
    other = client.add()
    row = client.add(state=alone.save())
    parts.append(client.feed({row: {"x": x[:, :, 9:18]}, other: {"x": x}})[row])
    alone.load(client.save(row))
    parts += [alone.feed(x=x[:, :, 18:]), alone.finish()]
    equal(joined(parts), batch(x))
    two = StreamSession(FILES[4])
    two.feed(x=np.ones((2, 3, 9), np.float32))
    with pytest.raises(ClientError, match="cannot add this stream\n  why:  it holds 2 rows"):
        client.add(state=two.save())
    client.remove(row)
    assert client.rows == (other,)


def test_refused_calls_change_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, 20)).astype(np.float32)
    client = StreamBatch(FILES[4])
    a, b = client.add(), client.add()
    part = client.feed({a: {"x": x[:, :, :7]}})[a]
    before = client.save(a), client.save(b)
    bad: list[tuple[dict[int, Any], list[int], str]] = [
        ({a: {"x": x}, b: {"x": x[:, :2]}}, [], "chunk 'x' is 2 long on axis 1\n  why:  the model takes 3 there"),
        ({a: {"x": x}, b: {"x": np.ones((2, 3, 4), np.float32)}}, [], "chunk 'x' is 2 long on axis 0\n  why:  the model takes 1 there"),
        ({a: {"x": x}, b: {}}, [], "no chunk for x"),
        ({a: {"x": x}, 7: {"x": x}}, [], "no row 7\n  why:  the rows are 0, 1\n  try:  add() starts one"),
        ({a: {"x": x}}, [9], "no row 9"),
        ({a: {"x": x.astype(np.float64)}}, [], "chunk 'x' is float64"),
    ]
    for chunks, ends, said in bad:
        with pytest.raises(ClientError) as e:
            client.feed(chunks, ends)
        assert said in str(e.value)
        assert (client.save(a), client.save(b)) == before
    equal(joined([part, client.feed({a: {"x": x[:, :, 7:]}})[a], client.finish(a)]), batch(x))
    with pytest.raises(ClientError, match="no row 0"):
        client.finish(a)


def test_lengths_are_checked_for_each_row() -> None:
    g = G()
    x = g.input("x", ["N", "S", 2])
    client = StreamBatch(pulsed(g.model(g("Reshape", x, g.ints(0, -1, 4)))))
    a, b = client.add(), client.add()
    client.feed({a: {"x": np.zeros((1, 5, 2), np.float32)}, b: {"x": np.zeros((1, 5, 2), np.float32)}})
    with pytest.raises(ClientError, match="a stream of 5 frames"):
        client.feed({b: {"x": np.zeros((1, 1, 2), np.float32)}}, [a, b])
    out = client.feed({b: {"x": np.zeros((1, 1, 2), np.float32)}}, [b])
    assert sum(a.shape[1] for a in out[b].values()) == 3 - 2
    client.feed({a: {"x": np.zeros((1, 1, 2), np.float32)}})
    client.finish(a)


def failing() -> bytes:
    """Reads numbers as text: onnxruntime fails on a pulse that holds something else."""
    g = G()
    x = g.input("x", ["N", 2, "S"], onnx.TensorProto.STRING)
    return pulsed(g.model(g("Conv", g("Cast", x, to=onnx.TensorProto.FLOAT), g.weight(2, 2, 3), pads=[2, 0])), 2)


def test_a_row_that_fails_does_not_harm_the_others() -> None:
    client, alone = StreamBatch(failing()), StreamSession(failing())
    good, bad, late = client.add(), client.add(), client.add()
    x = np.random.default_rng(0).integers(0, 9, (1, 2, 9)).astype(str).astype(object)
    parts = [client.feed({r: {"x": x[:, :, :2]} for r in (good, bad, late)})[good]]
    with pytest.raises(ClientError, match=r"row 1 broke off\n  why:  onnxruntime failed on a pulse: .*\n  try:  remove") as e:
        client.feed({good: {"x": x[:, :, 2:6]}, bad: {"x": "?" + x[:, :, 2:4]}, late: {"x": x[:, :, 2:4]}})
    assert "remove(1)" in str(e.value)
    for call in (lambda: client.feed({bad: {"x": x}}), lambda: client.finish(bad), lambda: client.save(bad)):
        with pytest.raises(ClientError, match="row 1 broke off"):
            call()
    client.remove(bad)
    parts += [client.feed({good: {"x": x[:, :, 6:]}})[good], client.finish(good)]
    (name,) = client.delay
    want = np.concatenate([alone.feed(x=x)[name], alone.finish()[name]], axis=2)
    assert np.allclose(np.concatenate([p[name] for p in parts], axis=2), want, atol=1e-5)
    rest = [client.feed({late: {"x": x[:, :, 4:]}})[late], client.finish(late)]
    assert np.allclose(np.concatenate([p[name] for p in rest], axis=2), want[:, :, 2:], atol=1e-5)


def test_a_session_whose_pulse_failed_says_so_until_it_is_reset() -> None:
    session = StreamSession(failing())
    x = np.array([[["1", "2", "3"], ["4", "5", "6"]]], object)
    session.feed(x=x)
    saved = session.save()
    with pytest.raises(ClientError, match="onnxruntime failed on a pulse"):
        session.feed(x="?" + x)
    for call in (session.finish, session.save, lambda: session.feed(x=x)):
        with pytest.raises(ClientError, match=r"the stream broke off\n  why:  onnxruntime failed on a pulse"):
            call()
    session.load(saved)
    assert session.finish()[next(iter(session.delay))].shape == (1, 2, 1)
    session.reset()
    session.feed(x=x)


def no_batch() -> onnx.ModelProto:
    g = G()
    return g.model(g("Conv", g.input("x", [4, 3, "S"]), g.weight(2, 3, 3)))


def mixed() -> onnx.ModelProto:
    g = G()
    x = g.input("x", ["N", 3, "S"])
    return g.model(g("ReduceMean", g("Conv", x, g.weight(2, 3, 3)), g.ints(0), keepdims=0))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (no_batch, "it has no symbolic batch axis: x is [4, 3, 2]\n  try:  export the batch model with a dynamic batch axis"),
        (mixed, "'reducemean_4' is [2, 2], without an axis of N rows\n  try:  a StreamSession for each stream"),
    ],
)
def test_models_that_hold_no_batch(make: Any, said: str) -> None:
    with pytest.raises(ClientError) as e:
        StreamBatch(pulsed(make(), 2))
    assert said in str(e.value), str(e.value)
    assert str(e.value).startswith("this model cannot hold a batch of streams\n")


def test_a_static_output_that_loses_its_rows() -> None:
    """Known only when it happens: a Squeeze without axes takes away a batch of one."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    client = StreamBatch(pulsed(g.model(g("Tanh", x), g("Squeeze", g("ReduceMean", x, g.ints(2), keepdims=1))), 2))
    with pytest.raises(ClientError, match=r"why:  an output of 1 rows is \[2\], without them on axis 0"):
        client.feed({client.add(): {"x": np.ones((1, 2, 4), np.float32)}})


def test_static_inputs() -> None:
    _, file, _ = made("conditioned", 2)
    gain, bias = np.ones((1, 2, 1), np.float32), np.ones((2, 1), np.float32)
    with pytest.raises(ClientError, match="no value for the static input 'gain'"):
        StreamBatch(file, static={"bias": bias}).add()
    client = StreamBatch(file, static={"bias": bias, "gain": gain})
    a, b = client.add(), client.add(static={"gain": 2 * gain})
    x = {"x": np.ones((1, 2, 6), np.float32)}
    out = client.feed({a: x, b: x})
    negated = client.manifest["outputs"][1]["name"]
    assert np.array_equal(out[a][negated], -gain) and np.array_equal(out[b][negated], -2 * gain)
    with pytest.raises(ClientError, match="static input 'bias' is the same for all rows\n  why:  it is"):
        client.add(static={"bias": bias})
    with pytest.raises(ClientError, match="static input 'gain' is 3 long on axis 0\n  why:  the model takes 1 there"):
        client.add(static={"gain": np.ones((3, 2, 1), np.float32)})
    with pytest.raises(ClientError, match="it was saved with another value of 'bias'"):
        StreamBatch(file, static={"bias": 2 * bias}).add(state=client.save(a))
    assert client.rows == (a, b)


def test_many_rows_come_and_go() -> None:
    """More rows than places at first; numbers are never used again."""
    client, x = StreamBatch(FILES[2]), np.random.default_rng(1).standard_normal((40, 3, 12)).astype(np.float32)
    want, seen = batch(x), []
    for first in range(0, 40, 20):
        rows = {client.add(): i for i in range(first, first + 20)}
        seen += list(rows)
        parts = [client.feed({r: {"x": x[i : i + 1, :, :7]} for r, i in rows.items()})]
        parts.append(client.feed({r: {"x": x[i : i + 1, :, 7:]} for r, i in rows.items()}, rows))
        for r, i in rows.items():
            equal(joined([p[r] for p in parts]), {n: want[n][i : i + 1] for n in NAMES})
    assert seen == sorted(set(seen)) and len(client) == 0
