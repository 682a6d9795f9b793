"""One history for a wire that waits and for windows over a function of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import hifigan
from pulsify.api import convert
from pulsify.pipeline import Level
from pulsify.rewrites import one_history
from pulsify.stages import optimize
from tests.contexts import pulses
from tests.contract_check import check
from tests.families import FAMILIES, MEMORIES
from tests.graphs import G
from tests.profiles import examples
from tests.test_random_graphs import grow

FUNCTIONS = {"LeakyRelu": {"alpha": 0.2}, "Elu": {}, "Tanh": {}, "Softsign": {}, "Sigmoid": {}, "Cos": {}}


def block(g: G, x: str, f: str, kernel: int, dilation: int, before: int) -> str:
    """``x + conv(f(x))``, as long as x."""
    reach = (kernel - 1) * dilation
    h = g("Conv", g(f, x, **FUNCTIONS[f]), g.weight(3, 3, kernel), g.weight(3), dilations=[dilation], pads=[before, reach - before])
    return g("Add", x, h)


@contextmanager
def level(name: Level) -> Iterator[None]:
    """What is converted for speed is so for another level."""
    with mock.patch.dict(optimize.REWRITES, {"speed": optimize.REWRITES[name]}):
        yield


@given(data=st.data())
@examples(30)
def test_random_graphs_for_size(data: st.DataObject) -> None:
    with level("size"):
        check(grow(data, 1, 7, FAMILIES | MEMORIES), "S", data.draw(pulses()))


@pytest.mark.parametrize("name", ["speed", "size"])
@given(data=st.data())
@examples(40)
def test_residual_blocks(name: Level, data: st.DataObject) -> None:
    """Looking ahead or not, one behind the other and side by side, with functions that are 0 at 0 and others."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    x = g("Conv", g.input("x", [data.draw(st.sampled_from([1, "N"])), 3, "S"]), g.weight(3, 3, 2), pads=[0, 1])
    ends = []
    for _ in range(data.draw(st.integers(1, 2), "side by side")):
        y = x
        for _ in range(data.draw(st.integers(1, 3), "blocks")):
            k, d = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
            y = block(g, y, data.draw(st.sampled_from(list(FUNCTIONS))), k, d, data.draw(st.integers(0, (k - 1) * d)))
        ends.append(y)
    y = ends[0] if len(ends) == 1 else g("Mul", *ends)
    with level(name):
        check(g.model(y), pulses=data.draw(pulses()))


@pytest.mark.parametrize(("f", "states"), [("Elu", 1), ("Sigmoid", 2)])
def test_states(f: str, states: int) -> None:
    """A picture keeps its convolution, and with it histories that are one where zeros stay zeros."""
    g = G()
    x = g.input("x", [1, 3, "S", 5])
    h = g("Conv", g(f, x), g.weight(3, 3, 3, 3), pads=[1, 1, 1, 1])
    c = check(g.model(g("Add", x, h)), pulses=(1, 2, 4))
    buffers = [s for s in c.manifest["states"] if s["kind"] == "buffer"]
    assert len(buffers) == states
    assert sum(s["shape"][2] for s in buffers) == (2 if states == 1 else 3), "the window and what waits, or the window alone"


@pytest.mark.parametrize(("first", "last"), [(0, -1), (1, 2**31), (0, 2**31)])
@pytest.mark.parametrize("name", ["speed", "size"])
def test_windows_over_a_part(name: Level, first: int, last: int) -> None:
    """Zeros around a part of ``f(x)`` are not zeros of x."""
    g = G()
    x = g("Conv", g.input("x", [1, 3, "S", 5]), g.weight(3, 3, 2, 1), pads=[0, 0, 1, 0])
    part = g("Slice", g("Elu", x), g.ints(first), g.ints(last), g.ints(2))
    h = g("Conv", part, g.weight(3, 3, 3, 1), pads=[1, 0, 1 + (first != 0 or last < 0), 0])
    with level(name):
        check(g.model(g("Add", x, h)), pulses=(1, 2, 4))


def test_a_large_function_is_not_evaluated_twice() -> None:
    """Unless bytes are all that counts."""
    g = G()
    x = g.input("x", [1, 8, "S", 257])
    h = g("Conv", g("Tanh", x), g.weight(8, 8, 3, 3), pads=[1, 1, 1, 1])
    sizes = {level: convert(g.model(g("Add", x, h)), axis="S", pulse=1, optimize=level).manifest["state_bytes"] for level in ("speed", "size")}
    row = 8 * 257 * 4
    assert 2 * row > one_history._NUMBERS and sizes["speed"] - sizes["size"] == row


def test_hifigan() -> None:
    """The same bytes at every pulse, whatever form the layers are in."""
    model = hifigan.build(16)
    none, *sizes = (convert(model, axis="S", pulse=p, optimize=o).manifest["state_bytes"] for p, o in ((8, "none"), (1, "size"), (8, "size")))
    assert sizes[0] == sizes[1] < 0.8 * none
