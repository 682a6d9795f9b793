"""A wire beside a later one: delayed as a whole, with and without windows over it, by less than a pulse, one, and more."""

from __future__ import annotations

import pytest

from tests.contract_check import check
from tests.graphs import G

#: Without optimization, where nothing shares a memory, the first one is checked: less than the delay, the delay, more.
PULSES = (1, 3, 4, 8)


@pytest.mark.parametrize("batch", [1, "N"])
@pytest.mark.parametrize("ahead", [1, 3, 4])
def test_residual(batch: int | str, ahead: int) -> None:
    """The layer looks ahead, and the wire beside it waits: two nodes, or none where it waits for exactly one pulse."""
    g = G()
    x = g.input("x", [batch, 2, "S"])
    h = g("Conv", g("Tanh", x), g.weight(2, 2, ahead + 1), pads=[0, ahead])
    for pulse in PULSES:
        check(g.model(g("Add", x, h)), pulses=(pulse, "P"))


@pytest.mark.parametrize("batch", [1, "N"])
def test_delayed_output(batch: int | str) -> None:
    """What is delayed by a pulse is a state that goes in and comes out again."""
    g = G()
    x = g.input("x", [batch, "S", 3])
    y = g("Softmax", x, axis=-1)
    h = g("Transpose", g("Conv", g("Transpose", y, perm=[0, 2, 1]), g.weight(3, 3, 4), pads=[0, 3]), perm=[0, 2, 1])
    check(g.model(g("Add", y, h), g("Sub", h, y)), pulses=PULSES)


def test_windows_and_the_wire_itself() -> None:
    """One history, read as a window and as the wire it was."""
    g = G()
    x = g.input("x", [1, 2, "S"])
    a = g("Conv", x, g.weight(2, 2, 5), pads=[2, 2])
    b = g("Conv", g("Relu", a), g.weight(2, 2, 3), pads=[1, 1])
    check(g.model(g("Add", g("Add", x, a), b)), pulses=PULSES)
