"""Random residual graphs: several inputs and outputs, branches of different delay, any pads, any pulse."""

from __future__ import annotations

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contexts import pulses
from tests.contract_check import check, check_least_delay
from tests.families import ENDS, FAMILIES, MEMORIES, Family, align, head, start, unary
from tests.graphs import G
from tests.profiles import examples


def grow(data: st.DataObject, least: int, most: int, families: dict[str, Family] = FAMILIES, heads: int = 0) -> onnx.ModelProto:
    """A graph of that many families."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    batch = data.draw(st.sampled_from(["N", 1]), "batch")
    wires = [start(g, f"x{i}", batch, 4) for i in range(data.draw(st.integers(1, 2), "inputs"))]
    for _ in range(data.draw(st.integers(least, most), "size")):
        source = data.draw(st.sampled_from(wires[-4:]), "wire")
        if len(wires) > 1 and data.draw(st.integers(0, 4), "kind") == 0:
            other = data.draw(st.sampled_from(wires), "other")
            wires.append(align(data, g, source, other))
        else:
            name = data.draw(st.sampled_from(sorted(families)), "family")
            wires.append(families[name](data, g, source))
    picks = {wires[-1].name: wires[-1]}
    for _ in range(data.draw(st.integers(0, 2), "more outputs")):
        w = data.draw(st.sampled_from(wires), "output")
        picks[w.name] = w
    outputs = [unary(data, g, w).name for w in picks.values()]
    if heads:
        outputs += [head(data, g, data.draw(st.sampled_from(wires), "summarised")) for _ in range(heads)]
    return g.model(*outputs)


@pytest.mark.parametrize("part", range(4))
@given(data=st.data())
@examples(30)
def test_streams_exactly(part: int, data: st.DataObject) -> None:
    check(grow(data, 1 + part, 3 + 2 * part, FAMILIES | MEMORIES), "S", data.draw(pulses()))


@pytest.mark.parametrize("heads", [0, 1])
@given(data=st.data())
@examples(40)
def test_everything_together(heads: int, data: st.DataObject) -> None:
    """Pools, mirrored edges, positions, memories and summaries among all the rest."""
    check(grow(data, 2, 7, FAMILIES | MEMORIES | ENDS, heads), "S", data.draw(pulses()))


@given(data=st.data())
@examples(30)
def test_least_delay(data: st.DataObject) -> None:
    check_least_delay(grow(data, 1, 5))
