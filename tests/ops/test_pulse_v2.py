"""The pseudo-operators: visible where they are promised, gone where they must be, and shared."""

from __future__ import annotations

from collections import Counter

import pytest

from pulsify.graph import Graph, Pulse
from pulsify.ops._rule import registry
from pulsify.pipeline import STAGES, Options, run
from pulsify.stages.load import AxisSpec
from tests.graphs import G

PSEUDO = {op for domain, op in registry() if domain == "pulsify"}


def stages(g: G, *outputs: str, pulse: int | str = 4) -> dict[str, Counter[str]]:
    """Operators by stage."""
    out: dict[str, Counter[str]] = {}

    def look(x: Graph) -> None:
        out[x.stage] = Counter(n.op_type for n in x.graph)

    run(g.model(*outputs), Options(AxisSpec.parse(["S"]), Pulse(pulse)), observe=look)
    assert list(out) == [s.name for s in STAGES]
    return out


def test_every_pseudo_operator_has_a_rule() -> None:
    assert {"PulseV2Buffer", "PulseV2Pad", "PulseV2Slice", "Delay", "Mask", "Position"} <= PSEUDO


def test_a_window_is_a_buffer_then_a_delay_then_standard() -> None:
    g = G()
    x = g.input("x", [1, 2, "S"])
    seen = stages(g, g("Conv", x, g.weight(2, 2, 3), pads=[1, 1]))
    assert seen["pulse-v2"] == {"PulseV2Pad": 1, "PulseV2Buffer": 1, "Conv": 1}
    assert seen["pulse-v2-declutter"] == {"Mask": 1, "Delay": 1, "Conv": 1}
    assert not PSEUDO & set(seen["emit"])


def test_slices_are_bookkeeping() -> None:
    g = G()
    x = g("Relu", g.input("x", [1, 2, "S"]))
    y = g("Slice", x, g.ints(3), g.ints(2**63 - 1), g.ints(2))
    seen = stages(g, g("Tanh", y))
    assert seen["pulse-v2"] == {"Relu": 1, "PulseV2Slice": 1, "Tanh": 1}
    assert seen["pulse-v2-declutter"] == {"Relu": 1, "Tanh": 1}


@pytest.mark.parametrize("pulse", [1, 8, "P"])
def test_one_delay_per_wire(pulse: int | str) -> None:
    """Windows of any reach over one wire, and a merge that waits for them, read one state."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    parts = [g("Conv", x, g.weight(2, 2, k), pads=[k - 1, 0]) for k in (2, 3, 5)]
    late = g("Slice", x, g.ints(0), g.ints(2**63 - 1), g.ints(2))
    seen = stages(g, g("Sum", *parts, late), pulse=pulse)
    assert seen["pulse-v2"]["PulseV2Buffer"] == 3
    assert seen["pulse-v2-declutter"]["Delay"] == 1


def test_equal_pads_share_a_mask() -> None:
    g = G()
    x = g("Conv", g.input("x", [1, 2, "S"]), g.weight(2, 2, 3))
    convs = [g("Conv", x, g.weight(2, 2, 2 * k + 1), pads=[k, k]) for k in (1, 2, 3)]
    seen = stages(g, g("Sum", *convs))
    assert seen["pulse-v2"]["PulseV2Pad"] == 3
    assert seen["pulse-v2-declutter"]["Mask"] == 1 and seen["pulse-v2-declutter"]["Delay"] == 2


def test_pads_of_different_value_do_not() -> None:
    """One wire read as zero outside by one branch, as one by another."""
    g = G()
    x = g("Conv", g.input("x", [1, 2, "S"]), g.weight(2, 2, 3))
    pads = [g("Pad", x, g.ints(0, 0, 1, 0, 0, 1), g.const(v, "float32")) for v in (0.0, 1.0)]
    seen = stages(g, g("Sum", *(g("Conv", p, g.weight(2, 2, 3)) for p in pads)))
    assert seen["pulse-v2-declutter"]["Mask"] == 2


def test_idle_padding_leaves_nothing() -> None:
    g = G()
    y = g("Pad", g.input("x", [1, 2, "S"]), g.ints(0, 0, 4, 0, 0, 0))
    seen = stages(g, g("Conv", y, g.weight(2, 2, 5)))
    assert seen["pulse-v2-declutter"] == {"Delay": 1, "Conv": 1}
    assert seen["emit"] == {"Concat": 1, "Conv": 1, "Slice": 1}
