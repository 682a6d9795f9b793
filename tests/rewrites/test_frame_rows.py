"""Frames as rows: every region written so, whatever it costs, and every memory in rings, is exact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import chain, hifigan, wavenet
from pulsify.api import convert
from pulsify.rewrites import frame_rows, shared_memory
from pulsify.rewrites._region import Choice
from tests.contexts import pulses
from tests.contract_check import check
from tests.families import FAMILIES, MEMORIES
from tests.graphs import G
from tests.profiles import examples
from tests.test_random_graphs import grow


@contextmanager
def forced(ring: bool) -> Iterator[None]:
    """All that has a row form is in it; every memory, or none, is a ring."""
    with (
        mock.patch.object(frame_rows, "choose", lambda g, forms: Choice(set(forms), set())),
        mock.patch.object(shared_memory, "_RING", 0 if ring else 1 << 40),
    ):
        yield


@pytest.mark.parametrize("ring", [False, True])
@given(data=st.data())
@examples(40)
def test_random_graphs(ring: bool, data: st.DataObject) -> None:
    with forced(ring):
        check(grow(data, 1, 7, FAMILIES | MEMORIES), "S", data.draw(pulses()))


@given(data=st.data())
@examples(30)
def test_rates(data: st.DataObject) -> None:
    """Up by a transposed convolution, some layers there, down by a strided one, some layers there."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    batch, u, k = data.draw(st.sampled_from(["N", 1])), data.draw(st.integers(1, 4), "rate"), data.draw(st.integers(1, 9), "kernel")
    before = data.draw(st.integers(0, max(0, k - 1)), "before")
    x = g.input("x", [batch, 3, "S"])
    y = g("ConvTranspose", x, g.weight(3, 4, k), g.weight(4), strides=[u], pads=[before, 0], dilations=[data.draw(st.integers(1, 2))])
    for _ in range(data.draw(st.integers(0, 2), "layers")):
        d = data.draw(st.integers(1, 3), "dilation")
        y = g("LeakyRelu", g("Conv", y, g.weight(4, 4, 3), g.weight(4), dilations=[d], pads=[d, d]), alpha=0.1)
    down = data.draw(st.integers(1, 3), "kernel")
    z = g("Conv", y, g.weight(5, 4, down), g.weight(5), strides=[u], pads=[data.draw(st.integers(0, down - 1)), 0])
    outputs = [z, y] if data.draw(st.booleans()) else [z]
    with forced(data.draw(st.booleans(), "ring")):
        check(g.model(*outputs), "S", data.draw(pulses()))


@pytest.mark.parametrize("perm", [(0, 1, 2), (0, 2, 1), (2, 0, 1), (1, 2, 0), (2, 1, 0), (1, 0, 2)])
@pytest.mark.parametrize("batch", [1, "N"])
def test_any_order_of_axes(perm: tuple[int, ...], batch: int | str) -> None:
    """Inputs and outputs with batch, channels and time in any order."""
    g = G()
    shape = [batch, 3, "S"]
    x = g.input("x", [shape[a] for a in perm])
    y = g("Transpose", x, perm=[perm.index(a) for a in range(3)])
    y = g("Conv", y, g.weight(4, 3, 3), g.weight(4), pads=[1, 1])
    y = g("Transpose", g("Tanh", y), perm=list(perm))
    with forced(False):
        check(g.model(y))


def test_two_dimensional_convolutions_of_one_row() -> None:
    """Kernels (1, k) and (k, 1) over an axis of length 1."""
    g = G()
    x = g.input("x", [1, 3, "S"])
    y = g("Unsqueeze", x, g.ints(2))
    y = g("Conv", y, g.weight(4, 3, 1, 3), g.weight(4), pads=[0, 2, 0, 0])
    y = g("Transpose", y, perm=[0, 1, 3, 2])
    y = g("Conv", y, g.weight(4, 4, 3, 1), g.weight(4), dilations=[2, 1])
    with forced(False):
        c = check(g.model(y))
    assert "Conv" not in [n.op_type for n in c.model.graph.node]


def test_projections_norms_and_shared_windows() -> None:
    """Time-major layers around convolutions: nothing is transposed between them."""
    g = G()
    x = g.input("x", [1, "S", 6])
    y = g("MatMul", x, g.weight(6, 4))
    y = g("Add", y, g.weight(4))
    y = g("LayerNormalization", y, g.weight(4), g.weight(4))
    z = g("Transpose", y, perm=[0, 2, 1])
    a, b = (g(f, g("Conv", z, g.weight(4, 4, 3), g.weight(4), pads=[2, 0])) for f in ("Tanh", "Sigmoid"))
    y = g("Add", y, g("Transpose", g("Mul", a, b), perm=[0, 2, 1]))
    with forced(False):
        c = check(g.model(g("Softmax", y, axis=-1)), pulses=(1, 4))
    assert not {"Transpose", "Conv"} & {n.op_type for n in c.model.graph.node}
    assert len([n for n in c.model.graph.node if n.op_type == "Concat"]) <= 2, "both branches read the same windows"


@pytest.mark.parametrize("batch", [1, "N"])
def test_a_norm_whose_scale_has_every_axis(batch: int | str) -> None:
    """A row has fewer axes than a frame."""
    g = G()
    x = g("Conv", g.input("x", [batch, 8, "S"]), g.weight(8, 8, 3))
    y = g("LayerNormalization", g("Transpose", x, perm=[0, 2, 1]), g.weight(1, 1, 8), g.weight(1, 1, 8))
    with forced(False):
        check(g.model(g("Conv", g("Transpose", y, perm=[0, 2, 1]), g.weight(8, 8, 3))), pulses=(1, 4))


def model(name: str) -> onnx.ModelProto:
    return {"wavenet": wavenet.build, "chain": lambda: chain.build(64, 12), "hifigan": lambda: hifigan.build(16)}[name]()


@pytest.mark.parametrize("name", ["wavenet", "chain", "hifigan"])
@pytest.mark.parametrize("pulse", [1, 8])
def test_bytes_are_those_of_single_buffers(name: str, pulse: int) -> None:
    """One memory holds what many did; a ring has a counter besides."""
    plain, fast = (convert(model(name), axis="S", pulse=pulse, optimize=level).manifest for level in ("none", "size"))
    assert fast["state_bytes"] - plain["state_bytes"] <= 8
    assert len(fast["states"]) <= len(plain["states"])


def test_a_dynamic_pulse_keeps_its_convolutions() -> None:
    c = convert(chain.build(16, 3), axis="S", pulse="P")
    assert [n.op_type for n in c.model.graph.node].count("Conv") == 3


def test_wide_pulses_keep_their_convolutions() -> None:
    """Where there are many frames, a convolution is the faster form."""
    assert all(n.op_type != "Gemm" for n in convert(chain.build(16, 3), axis="S", pulse=256).model.graph.node)
    assert all(n.op_type != "Conv" for n in convert(chain.build(16, 3), axis="S", pulse=1).model.graph.node)


def test_weights_are_rearranged_not_changed() -> None:
    weights = convert(chain.build(16, 1), axis="S", pulse=1).model.graph.initializer
    (w,) = (onnx.numpy_helper.to_array(t) for t in weights if len(t.dims) == 2 and t.data_type == onnx.TensorProto.FLOAT)
    given = next(onnx.numpy_helper.to_array(t) for t in chain.build(16, 1).graph.initializer if len(t.dims) == 3)
    assert np.array_equal(np.sort(w, axis=None), np.sort(given, axis=None))


@pytest.mark.parametrize("blocks", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, "N"])
def test_windows_of_whole_blocks(batch: int | str, blocks: int) -> None:
    """A filter bank whose kernel is a multiple of its stride, as every STFT has one: a row is a block, two lie side by side."""
    g = G()
    x = g.input("x", [batch, 1, "S"])
    y = g("Conv", x, g.weight(6, 1, 4 * blocks), g.weight(6), strides=[4])
    with forced(False):
        c = check(g.model(g("Tanh", y)), pulses=(4, 8, 12))
    kinds = [n.op_type for n in c.model.graph.node]
    assert "Conv" not in kinds and "Slice" not in kinds[:-1] and ("Gather" in kinds) == (blocks == 3)
    assert [s["shape"][-2:] for s in c.manifest["states"]] == [[blocks - 1, 4]] * (blocks > 1)


def test_blocks_are_as_long_as_windows_and_their_distance_allow() -> None:
    """Kernel 10 and stride 4: blocks of 2."""
    g = G()
    y = g("Conv", g.input("x", [1, 1, "S"]), g.weight(6, 1, 10), strides=[4])
    with forced(False):
        c = check(g.model(g("Tanh", y)), pulses=(4, 8, 16))
    assert [s["shape"] for s in c.manifest["states"]] == [[4, 2]]


def test_blocks_suit_all_who_read_a_wire() -> None:
    """Windows of one reader are blocks of 2; those of another have a frame between their taps."""
    g = G()
    x = g("Tanh", g.input("x", [1, 3, "S"]))
    a, b = g("Conv", x, g.weight(3, 3, 2), dilations=[2], pads=[2, 0]), g("Conv", x, g.weight(3, 3, 2), pads=[2, 0])
    with forced(False):
        check(g.model(a, b), pulses=(1, 2, 3))


@pytest.mark.parametrize("batch", [1, "N"])
def test_two_taps_lie_side_by_side(batch: int | str) -> None:
    """A kernel of 2, as the first WaveNet had: the wire beside what it was, cut once and joined twice."""
    g = G()
    y = g.input("x", [batch, 3, "S"])
    for d in (1, 2, 3):
        y = g("Relu", g("Conv", y, g.weight(3, 3, 2), g.weight(3), dilations=[d], pads=[d, 0]))
    with forced(False):
        c = check(g.model(y), pulses=(1, 2, 3, 4, 7, 8))
    assert "Gather" not in {n.op_type for n in c.model.graph.node}


@given(data=st.data())
@examples(20)
def test_windows_of_blocks_and_a_rest(data: st.DataObject) -> None:
    """A resampler's or filter bank's kernel, longer than its stride and no multiple of it; delays and histories of any length."""
    g = G()
    step, more = data.draw(st.integers(2, 40), "stride"), data.draw(st.integers(1, 90), "more")
    before = data.draw(st.integers(0, step + more - 1), "before")
    channels = data.draw(st.sampled_from([1, 3]), "channels")
    x = g.input("x", [data.draw(st.sampled_from([1, "N"])), channels, "S"])
    y = g("Conv", x, g.weight(4, channels, step + more), strides=[step], pads=[before, 0])
    with forced(False):
        check(g.model(g("Abs", y)), pulses=(step, step * data.draw(st.sampled_from([2, 7, 40]), "frames")))


def test_long_windows_are_not_gathered() -> None:
    g = G()
    y = g("Conv", g.input("x", [1, 1, "S"]), g.weight(8, 1, 45), strides=[20], pads=[40, 0])
    with forced(False):
        kinds = {pulse: {n.op_type for n in convert(g.model(y), axis="S", pulse=pulse).model.graph.node} for pulse in (40, 1000)}
    assert "Gather" in kinds[40], "few frames"
    assert "MatMul" in kinds[1000] and "Gather" not in kinds[1000]
