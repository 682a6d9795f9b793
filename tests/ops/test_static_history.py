"""Static frames in front of a stream as what its history begins with, and its last frames read off the same history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from pulsify.api import Conversion, convert
from pulsify.runtime import StreamSession
from tests.contexts import batches, cut, pad, pulses
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples
from tests.rewrites import test_frame_rows, test_lift_convs

FAR = 2**63 - 1

#: As it comes, all that can be in row form, in rings, and lifted.
FORMS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "plain": nullcontext, "rows": lambda: test_frame_rows.forced(False), "rings": lambda: test_frame_rows.forced(True),
    "lifted": test_lift_convs.forced,
}  # fmt: skip
forms = st.sampled_from(sorted(FORMS))


def prompt(g: G, name: str, batch: Any, frames: int, kind: str = "input", dtype: int = TensorProto.FLOAT) -> str:
    """Static frames ``[batch, 2, frames]``: an input, a table, or computed from an input."""
    if kind == "table":
        return g.weight(1, 2, frames) if batch == 1 else g("Tanh", prompt(g, name, batch, frames))
    x = g.input(name, [batch, 2, frames], dtype)
    return g("Tanh", x) if kind == "computed" else x


def last(g: G, x: str, count: int) -> str:
    return g("Slice", x, g.ints(-count), g.ints(FAR), g.ints(2))


def reader(data: st.DataObject, g: G, v: str, stride: int = 1) -> str:
    """Something that reads ``v [.., 2, ..]``."""
    kind = data.draw(st.sampled_from(["conv", "conv", "strided", "padded", "plain", "cut", "last", "last", "memory", "ahead"]), "reader")
    if kind == "conv":
        k, d = data.draw(st.integers(1, 5), "kernel"), data.draw(st.integers(1, 2), "dilation")
        return g("Conv", v, g.weight(2, 2, k), dilations=[d])
    if kind == "strided":
        return g("Conv", v, g.weight(2, 2, data.draw(st.integers(1, 4), "kernel")), strides=[stride])
    if kind == "padded":
        before, after = data.draw(st.integers(0, 3), "before"), data.draw(st.integers(0, 2), "after")
        y = pad(g, v, 2, 3, before, after, data.draw(st.sampled_from([0.0, 1.5]), "value"))
        return g("Conv", y, g.weight(2, 2, 3))
    if kind == "cut":
        return cut(g, v, 2, data.draw(st.integers(0, 5), "start"), data.draw(st.integers(0, 2), "end"))
    if kind == "last":
        return g("MatMul", last(g, v, count := data.draw(st.integers(1, 4), "frames")), g.weight(count, 2))
    if kind == "memory":
        return g("CumSum", v, g.const(2, np.int64))
    if kind == "ahead":
        return g("Add", cut(g, v, 2, 2), g("Tanh", cut(g, v, 2, 0, 2)))
    return g("Tanh", v)


@given(data=st.data(), sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3), batch=batches, form=forms, stride=st.integers(1, 2))
@examples(80)
def test_readers_of_one_history(data: st.DataObject, sizes: list[int], batch: Any, form: str, stride: int) -> None:
    """Several pieces, several readers, the stream itself beside them, late or early or on time; in any form."""
    g = G(seed=data.draw(st.integers(0, 2), "seed"))
    x = g.input("x", [batch, 2, "S"])
    before = data.draw(st.sampled_from(["on time", "on time", "made", "late", "early", "cropped"]), "source")
    x = {
        "on time": lambda: x, "made": lambda: g("Conv", x, g.weight(2, 2, 1)), "late": lambda: cut(g, x, 2, 2),
        "early": lambda: pad(g, x, 2, 3, 2, 0), "cropped": lambda: cut(g, x, 2, 0, 2),
    }[before]()  # fmt: skip
    pieces = [prompt(g, f"p{i}", batch, n, data.draw(st.sampled_from(["input", "table", "computed"]), "piece")) for i, n in enumerate(sizes)]
    v = g("Concat", *pieces, x, axis=2)
    outputs = [reader(data, g, v, stride) for _ in range(data.draw(st.integers(1, 3), "readers"))]
    if data.draw(st.booleans(), "beside"):
        outputs.append(reader(data, g, x))
    if data.draw(st.booleans(), "itself"):
        outputs.append(v)
    at = [p if isinstance(p, str) else p * stride for p in data.draw(pulses())]
    with FORMS[form]():
        check(g.model(*dict.fromkeys(outputs)), "S", at)


@given(data=st.data(), batch=batches, lasts=st.booleans(), form=forms)
@examples(40)
def test_cascades(data: st.DataObject, batch: Any, lasts: bool, form: str) -> None:
    """Layer after layer, each with frames of its own in front: a caching model run over a whole recording."""
    g = G()
    x, outputs = g.input("x", [batch, 2, "S"]), []
    for i in range(data.draw(st.integers(1, 3), "layers")):
        k = data.draw(st.integers(2, 5), "kernel")
        p = k - 1 + data.draw(st.sampled_from([0, 0, -1, 1]), "more") if i else k - 1
        v = g("Concat", prompt(g, f"p{i}", batch, max(1, p)), x, axis=2)
        if lasts:
            outputs.append(last(g, v, data.draw(st.integers(1, max(1, p)), "kept")))
        group = data.draw(st.sampled_from([1, 2]), "group")
        x = g("Sigmoid", g("Conv", v, g.weight(2, 2 // group, k), group=group))
    with FORMS[form]():
        check(g.model(*outputs, x), "S", data.draw(pulses()))


def fsmn(batch: Any, layers: int = 2, dtype: int = TensorProto.FLOAT) -> G:
    """Layers of ``cache ++ x``, a convolution over it, and the cache after it."""
    g = G()
    x = g.input("x", [batch, 2, "S"], dtype)
    kind = np.float32 if dtype == TensorProto.FLOAT else np.float16
    g.outs = []  # type: ignore[attr-defined]
    for i in range(layers):
        v = g("Concat", g.input(f"in{i}", [batch, 2, 4], dtype), x, axis=2)
        g.outs.append(last(g, v, 4))  # type: ignore[attr-defined]
        x = g("Add", x, g("Conv", v, g.weight(2, 2, 5, dtype=kind)))
    g.outs.append(x)  # type: ignore[attr-defined]
    return g


def kinds(c: Conversion) -> Counter[str]:
    return Counter(n.op_type for n in c.model.graph.node)


def buffers(c: Conversion) -> list[tuple[int | str, ...]]:
    return [tuple(s["shape"]) for s in c.manifest["states"] if s["kind"] != "counter"]


@pytest.mark.parametrize("batch", [1, "N"])
@pytest.mark.parametrize("level", ["none", "speed"])
def test_a_cache_is_one_state(batch: Any, level: str) -> None:
    """What the convolution reads and what is the cache afterwards is held once, with a counter for the first pulse."""
    g = fsmn(batch)
    c = convert(g.model(*g.outs), axis="S", pulse=3, optimize=level)  # type: ignore[attr-defined,arg-type]
    assert buffers(c) == [(batch, 2, 4)] * 2
    assert [s["shape"] for s in c.manifest["states"] if s["kind"] == "counter"] == [[batch]]
    assert {o.get("settle") for o in c.manifest["outputs"]} == {0, None}
    ops = kinds(c)
    assert (ops["Where"], ops["If"]) == ((0, 1) if (batch, level) == (1, "speed") else (2, 0)) and ops["Gather"] == 0
    assert ops["GatherElements"] == (0 if batch == 1 else 2)
    check(g.model(*g.outs))  # type: ignore[attr-defined]


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_cache_stays_as_it_was_at_the_end(batch: Any) -> None:
    """However many pulses come after the last real frame."""
    g = fsmn(batch)
    late = g("Add", pad(g, "x", 2, 3, 6, 0), pad(g, "x", 2, 3, 0, 6))
    c = check(g.model(*g.outs, late))  # type: ignore[attr-defined]
    assert len(buffers(c)) == 3, "the delayed copy of x is needed after the end, so it moves on"
    c = convert(g.model(*g.outs, late), axis="S", pulse=2)  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    static = {f"in{i}": rng.standard_normal((1, 2, 4)).astype(np.float32) for i in range(2)}
    session = StreamSession(c.model.SerializeToString(), static=static)
    x = rng.standard_normal((1, 2, 11)).astype(np.float32)
    session.feed(x=x)
    done = session.finish()
    whole = np.concatenate([static["in0"], x], axis=2)
    assert np.array_equal(done[g.outs[0]], whole[:, :, -4:])  # type: ignore[attr-defined]


def test_what_is_read_after_the_end_has_a_history_of_its_own() -> None:
    """The joined wire as an output has frames that come after the last pulse; its last ones must not move by then."""
    g = G()
    x = g.input("x", [1, 2, "S"])
    v = g("Concat", prompt(g, "p", 1, 4), x, axis=2)
    c = check(g.model(g("Relu", v), last(g, v, 3)))
    assert sorted(buffers(c)) == [(1, 2, 3), (1, 2, 4)]
    c = check(g.model(g("Conv", v, g.weight(2, 2, 5)), last(g, v, 3)))
    assert buffers(c) == [(1, 2, 4)]
    v = g("Concat", prompt(g, "q", 1, 2), x, axis=2)
    c = check(g.model(g("Conv", v, g.weight(2, 2, 5)), last(g, v, 4), g("Relu", v)))
    assert sorted(buffers(c)) == [(1, 2, 2), (1, 2, 4)], "the convolution and the last frames share the longer one"


def test_last_frames_of_a_stream_are_read_off_its_history() -> None:
    """Without static frames, too; the longest history serves all."""
    g = G()
    x = g("Tanh", g.input("x", [1, 2, "S"]))
    c = check(g.model(g("Conv", x, g.weight(2, 2, 4)), last(g, x, 2), last(g, x, 5)))
    assert buffers(c) == [(1, 2, 5)]


def test_padding_behind_the_stream_is_read_after_the_end() -> None:
    """The convolution still needs the history when no frame is real any more."""
    g = G()
    x = g("Tanh", g.input("x", [1, 2, "S"]))
    c = check(g.model(g("Conv", x, g.weight(2, 2, 5), pads=[2, 2]), last(g, x, 2)))
    assert len(buffers(c)) == 2


@pytest.mark.parametrize("batch", [1, "N"])
@pytest.mark.parametrize("name", ["FLOAT16", "DOUBLE", "INT32", "INT64", "UINT8", "INT8", "BOOL"])
def test_types(name: str, batch: Any) -> None:
    """A history as long as the static frames, a longer one and a shorter one."""
    dtype = TensorProto.DataType.Value(name)
    g = G()
    x = g.input("x", [batch, 2, "S"], dtype)
    v = g("Concat", g.input("p", [batch, 2, 3], dtype), x, axis=2)
    late = g("Cast", cut(g, v, 2, 5), to=TensorProto.FLOAT)
    y = g("Add", late, g("Cast", cut(g, v, 2, 0, 5), to=TensorProto.FLOAT))
    shorter = g("Identity", cut(g, v, 2, 1))
    z = last(g, v, 2)
    check(g.model(y, shorter, z, **{shorter: dtype, z: dtype}), pulses=(1, 3))


@pytest.mark.parametrize("build", [lambda g: g.const(np.full((1, 2, 3), np.inf, np.float32)), lambda g: g.input("p", [1, 2, 3])])
def test_frames_that_are_no_numbers_stay_in_front(build: Callable[[G], str]) -> None:
    """They are chosen, not multiplied away."""
    g = G()
    x = g.input("x", [1, 2, "S"])
    y = g("Conv", g("Concat", build(g), g.weight(1, 2, 1), x, axis=2), g.weight(2, 2, 2))
    model = g.model(y)
    check(model)
    if any(i.name == "p" for i in model.graph.input):
        p, frames = np.full((1, 2, 3), np.nan, np.float32), np.ones((1, 2, 9), np.float32)
        session = StreamSession(convert(model, axis="S", pulse=2).model.SerializeToString(), static={"p": p})
        done = np.concatenate([session.feed(x=frames)[y], session.finish()[y]], axis=2)
        assert np.isnan(done[:, :, :3]).all() and np.isfinite(done[:, :, 3:]).all()
