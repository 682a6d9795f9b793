"""How pulses are run: in memory bound once, in place where the manifest allows it, with a dict where nothing else goes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from pulsify import StreamBatch, StreamSession, contract, convert
from pulsify.runtime.bound import Bound, Unbound
from tests.graphs import G
from tests.test_runtime import FILES, pulsed

RNG = np.random.default_rng(5)


def causal(depth: int = 3) -> onnx.ModelProto:
    """Each state is read by one Concat, and what replaces it is cut from that: it may be written in place."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    for d in range(depth):
        x = g("Tanh", g("Conv", x, g.weight(2, 2, 3), dilations=[1 + d], pads=[2 + 2 * d, 0]))
    return g.model(x)


def flagged(model: onnx.ModelProto, which: list[bool], pulse: int | str) -> bytes:
    """The pulsed model with ``in_place`` of its states as given."""
    proto = convert(model, axis="S", pulse=pulse, optimize="none").model
    (entry,) = [p for p in proto.metadata_props if p.key == contract.KEY]
    manifest = json.loads(entry.value)
    assert len(manifest["states"]) == len(which)
    for state, flag in zip(manifest["states"], which, strict=True):
        state["in_place"] = flag
    entry.value = json.dumps(manifest)
    data: bytes = proto.SerializeToString()
    return data


@pytest.mark.parametrize("pulse", [1, 5, "P"])
@pytest.mark.parametrize("which", [[True] * 3, [True, False, True], [False] * 3])
def test_states_in_place(which: list[bool], pulse: int | str) -> None:
    session, plain = StreamSession(flagged(causal(), which, pulse)), StreamSession(flagged(causal(), [False] * 3, pulse))
    x = RNG.standard_normal((2, 2, 40)).astype(np.float32)
    for chunk in np.split(x, [1, 5, 6, 19], axis=2):
        a, b = session.feed(x=chunk), plain.feed(x=chunk)
        assert all(np.array_equal(a[n], b[n]) for n in a)
    bound = session._bound
    assert isinstance(bound, Bound)
    assert [np.shares_memory(a, b) for a, b in zip(*bound._sets, strict=True)] == which
    assert len(bound._ios) == (1 if all(which) else 2)
    a, b = session.finish(), plain.finish()
    assert all(np.array_equal(a[n], b[n]) for n in a)


def test_a_batch_keeps_what_it_read() -> None:
    """So that a pulse that fails can be run again row by row."""
    client = StreamBatch(flagged(causal(), [True] * 3, 4))
    client.feed({client.add(): {"x": np.ones((1, 2, 4), np.float32)}})
    assert client._compact is not None and isinstance(client._compact.run, Bound)
    assert not any(np.shares_memory(a, b) for a, b in zip(*client._compact.run._sets, strict=True))


def test_nothing_is_bound_anew_from_chunk_to_chunk() -> None:
    session = StreamSession(FILES[4])
    chunk = np.ones((1, 3, 5), np.float32)
    session.feed(x=chunk)
    bound, arrays = session._bound, [id(a) for a in session._bound.inputs + session._bound.states]  # type: ignore[union-attr]
    for _ in range(8):
        session.feed(x=chunk)
    session.finish()
    session.reset()
    session.feed(x=chunk)
    assert session._bound is bound
    assert {id(a) for a in session._bound.inputs + session._bound.states} <= {*arrays, *(id(a) for a in bound._sets[1])}  # type: ignore[union-attr]


def test_frames_given_out_are_the_callers() -> None:
    """They stay as they are while the stream goes on, and may be written to."""
    session = StreamSession(pulsed(causal(), 4))
    x = RNG.standard_normal((1, 2, 12)).astype(np.float32)
    (name,) = session.delay
    first = session.feed(x=x[:, :, :4])[name]
    copy = first.copy()
    second = session.feed(x=x[:, :, 4:8])[name]
    assert np.array_equal(first, copy)
    first[...] = second[...] = np.nan
    assert np.isfinite(session.feed(x=x[:, :, 8:])[name]).all()


def static_model(*shapes: Any) -> tuple[bytes, str, list[str]]:
    """Static inputs ``s0``.. of those shapes come out negated beside a stream."""
    g = G()
    y = g("Tanh", g.input("x", [1, "S"]))
    outs = [g("Neg", g.input(f"s{i}", list(shape))) for i, shape in enumerate(shapes)]
    return pulsed(g.model(y, *outs)), y, outs


@pytest.mark.parametrize("shape", [(), (0,), (2, 0), (3, 2), ("K", 2), ("K", "K")])
def test_static_inputs_of_any_shape(shape: Any) -> None:
    data, _, (out,) = static_model(shape)
    value = np.asarray(RNG.standard_normal([d if isinstance(d, int) else 3 for d in shape]), np.float32)
    session = StreamSession(data, static={"s0": value})
    got = session.feed(x=np.ones((1, 4), np.float32))
    assert np.array_equal(got[out], -value)
    assert isinstance(session._bound, Bound)


def test_static_outputs_whose_shape_is_known_afterwards() -> None:
    g = G()
    y = g("Conv", g.input("x", [1, 2, "S"]), g.weight(2, 2, 3))
    found = g("NonZero", g.input("flags", [5], onnx.TensorProto.INT64))
    model = g.model(y, found, **{found: onnx.TensorProto.INT64})
    x = RNG.standard_normal((1, 2, 9)).astype(np.float32)
    flags = np.array([0, 1, 1, 0, 2])
    session = StreamSession(pulsed(model, 2), static={"flags": flags})
    parts = [session.feed(x=x[:, :, :4]), session.feed(x=x[:, :, 4:]), session.finish()]
    assert isinstance(session._bound, Bound)
    assert np.array_equal(parts[0][found], [[1, 2, 4]])
    (want,) = ort.InferenceSession(model.SerializeToString()).run([y], {"x": x, "flags": flags})
    assert np.allclose(np.concatenate([p[y] for p in parts], axis=2), want, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 2])
def test_static_outputs_of_another_rank_than_declared(rows: int) -> None:
    """A Squeeze without axes takes away a batch of one."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    means = g("Squeeze", g("ReduceMean", x, g.ints(2), keepdims=1))
    session = StreamSession(pulsed(g.model(g("Tanh", x), means), 2))
    x = RNG.standard_normal((rows, 2, 6)).astype(np.float32)
    first = session.feed(x=x[:, :, :4])[means]
    assert np.allclose(first, np.squeeze(x[:, :, :4].mean(2)), atol=1e-6)
    assert first.shape == ((2,) if rows == 1 else (2, 2))
    assert np.allclose(session.feed(x=x[:, :, 4:])[means], np.squeeze(x.mean(2)), atol=1e-6)
    session.load(session.save())
    assert np.allclose(session.finish()[means], np.squeeze(x.mean(2)), atol=1e-6)


def test_text_is_run_with_a_dict() -> None:
    g = G()
    x, label = g.input("x", [1, "S"]), g.input("label", [2], onnx.TensorProto.STRING)
    kept = g("Identity", label)
    data = pulsed(g.model(g("CumSum", x, g.const(1, np.int64)), kept, **{kept: onnx.TensorProto.STRING}), 2)
    session = StreamSession(data, static={"label": np.array(["a", "b"], object)})
    parts = [session.feed(x=np.ones((1, n), np.float32)) for n in (1, 2, 3)]
    assert isinstance(session._bound, Unbound)
    assert list(parts[1][kept]) == ["a", "b"]
    (name,) = session.delay
    got = np.concatenate([*(p[name] for p in parts), session.finish()[name]], axis=1)
    assert np.array_equal(got, [[1, 2, 3, 4, 5, 6]])
