"""Convolutions over a picture one pixel high: lifted whatever it costs, all is exact; depthwise ones are, by default."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import hifigan, wavenet
from pulsify.api import Conversion, convert
from pulsify.rewrites import _region, frame_rows, lift_convs
from pulsify.rewrites._region import Choice
from tests.contexts import pulses
from tests.contract_check import check
from tests.families import FAMILIES, MEMORIES
from tests.graphs import G
from tests.profiles import examples
from tests.test_random_graphs import grow


@contextmanager
def forced() -> Iterator[None]:
    """Nothing is in row form, all that can be is lifted."""
    with (
        mock.patch.object(frame_rows, "choose", lambda g, forms: Choice(set(), set())),
        mock.patch.object(lift_convs, "_pays", lambda g, node, reads_lifted=False: True),
    ):
        yield


def kinds(c: Conversion) -> list[str]:
    return [n.op_type for n in c.model.graph.node]


def rank_of_convolutions(model: onnx.ModelProto) -> set[int]:
    weights = {t.name: len(t.dims) for t in model.graph.initializer}
    return {weights[n.input[1]] for n in model.graph.node if n.op_type == "Conv"}


@given(data=st.data())
@examples(40)
def test_random_graphs(data: st.DataObject) -> None:
    with forced():
        check(grow(data, 1, 7, FAMILIES | MEMORIES), "S", data.draw(pulses()))


def stack(data: st.DataObject) -> onnx.ModelProto:
    """Gated, residual, strided, dilated, padded: layers of convolutions with all that is lifted between them."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    batch, group = data.draw(st.sampled_from(["N", 1])), data.draw(st.sampled_from([1, 2, 4]), "group")
    y = g.input("x", [batch, 4, "S"])
    for _ in range(data.draw(st.integers(1, 3), "layers")):
        k, d = data.draw(st.integers(1, 4), "kernel"), data.draw(st.integers(1, 3), "dilation")
        before = data.draw(st.integers(0, (k - 1) * d), "before")
        y = before_it = g("PRelu", y, g.weight(4, 1))
        y = g("Conv", y, g.weight(8, 4 // group, k), g.weight(8), group=group, dilations=[d], pads=[before, (k - 1) * d - before])
        a, b = g("Split", y, n=2, axis=-2, num_outputs=2)
        y = g("Mul", g("Tanh", a), g("Sigmoid", g("Add", b, g.weight(4, 1))))
        y = data.draw(st.sampled_from([y, g("Add", y, before_it), g("Slice", g("Concat", y, before_it, axis=1), g.ints(2), g.ints(6), g.ints(-2))]))
    return g.model(y)


@given(data=st.data())
@examples(30)
def test_stacks(data: st.DataObject) -> None:
    model = stack(data)
    with forced():
        check(model, "S", data.draw(pulses()))


@given(data=st.data())
@examples(30)
def test_regions_lifted_whatever_it_costs(data: st.DataObject) -> None:
    model = stack(data)
    with (
        mock.patch.object(_region, "as_is", lambda p, readers, among_lifted=False: 0.0 if among_lifted else 100.0),
        mock.patch.object(_region, "has_blocks", lambda p: p.op == "Conv"),
    ):
        check(model, "S", data.draw(pulses()))


@pytest.mark.parametrize("pulse", [4, 16, "P"])
def test_depthwise_convolutions_are_lifted(pulse: int | str) -> None:
    g = G()
    y = g("Conv", g.input("x", [1, 8, "S"]), g.weight(8, 1, 5), g.weight(8), group=8, pads=[4, 0])
    y = g("Conv", g("Relu", y), g.weight(8, 1, 5), group=8, pads=[2, 2])
    c = check(g.model(g("Tanh", y)), pulses=(pulse,))
    assert rank_of_convolutions(c.model) == {4}
    moves = [n for n in c.model.graph.node if n.op_type == "Squeeze" or (n.op_type == "Unsqueeze" and n.output[0].endswith("lifted"))]
    assert len(moves) == 2 + (pulse == "P"), "what lies between is lifted, its history too"


def test_odd_numbers_of_channels_stay() -> None:
    g = G()
    y = g("Conv", g.input("x", [1, 6, "S"]), g.weight(6, 1, 5), group=6, pads=[4, 0])
    assert rank_of_convolutions(convert(g.model(y), axis="S", pulse=4).model) == {3}


def test_a_generator_s_last_layers_are_lifted_where_it_pays() -> None:
    """Few channels and many frames, by the measured costs."""
    assert 4 in rank_of_convolutions(convert(hifigan.build(), axis="S", pulse=16).model)
    assert 4 not in rank_of_convolutions(convert(hifigan.build(), axis="S", pulse=16, optimize="none").model)


def test_activations_stay_with_their_convolutions() -> None:
    """Runtimes fuse them, so nothing may come between."""
    with forced():
        g = G()
        y = g("LeakyRelu", g("Conv", g.input("x", [1, 3, "S"]), g.weight(4, 3, 3), pads=[2, 0]), alpha=0.1)
        nodes = check(g.model(y)).model.graph.node
    conv = next(n for n in nodes if n.op_type == "Conv")
    assert [n.op_type for n in nodes if conv.output[0] in n.input] == ["LeakyRelu"]


@pytest.mark.parametrize("batch", [False, True])
def test_a_whole_region_is_lifted_where_that_is_least(batch: bool) -> None:
    """Few channels and many frames: no convolution in between is flat, no axis moves but at the borders."""
    c = check(wavenet.build(batch=batch), "S", pulses=(64,))
    weights = {t.name: t.dims for t in c.model.graph.initializer}
    flat = [weights[n.input[1]][0] for n in c.model.graph.node if n.op_type == "Conv" and len(weights[n.input[1]]) == 3]
    assert flat == [2], "the classes are no whole block"
    counts = Counter(kinds(c))
    assert counts["Gather"] == 0 and counts["Squeeze"] + counts["Unsqueeze"] <= 4
    assert batch or Counter(kinds(convert(wavenet.build(), axis="S", pulse=8)))["Conv"] == 0, "rows"


def test_a_convolution_that_reads_a_lifted_one_is_lifted() -> None:
    """Between depthwise convolutions nothing is squeezed."""
    g = G()
    y = g.input("x", [1, 64, "S"])
    for _ in range(2):
        y = g("Conv", y, g.weight(64, 1, 5), group=64, pads=[4, 0])
        y = g("Relu", g("Conv", y, g.weight(64, 64, 1), g.weight(64)))
    c = check(g.model(y), pulses=(1, 4, 16))
    assert rank_of_convolutions(c.model) == {4}
    assert len([n for n in c.model.graph.node if n.op_type in ("Squeeze", "Unsqueeze") and "position" not in n.input[0]]) == 2


def test_a_wire_squeezed_by_the_model_is_a_lifted_one() -> None:
    g = G()
    y = g("Conv", g.input("x", [1, 8, 1, "S"]), g.weight(8, 1, 1, 3), group=8, pads=[0, 2, 0, 0])
    y = g("Conv", g("Squeeze", y, g.ints(2)), g.weight(8, 1, 5), group=8, pads=[4, 0])
    c = check(g.model(g("Unsqueeze", y, g.ints(2))), pulses=(1, 4))
    assert "Squeeze" not in kinds(c) and rank_of_convolutions(c.model) == {4}
