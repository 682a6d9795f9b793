"""What is remembered, for one wire: beside the pulse in one row, or joined with it once."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.api import Conversion
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples
from tests.rewrites.test_frame_rows import forced


def layers(*kernels: tuple[int, int], batch: int | str = 1, pulse: int = 1) -> Conversion:
    """Causal convolutions of these kernels and dilations, in row form."""
    g = G()
    y = g.input("x", [batch, 3, "S"])
    for k, d in kernels:
        y = g("Tanh", g("Conv", y, g.weight(3, 3, k), g.weight(3), dilations=[d], pads=[(k - 1) * d, 0]))
    with forced(False):
        return check(g.model(y), pulses=(pulse,))


def kinds(c: Conversion) -> Counter[str]:
    return Counter(n.op_type for n in c.model.graph.node)


@given(data=st.data())
@examples(40)
def test_one_window_per_pulse(data: st.DataObject) -> None:
    """Kernels of up to three strides, whatever is in front of the stream and behind it, read once or twice."""
    g = G(seed=data.draw(st.integers(0, 3), "seed"))
    step, k, channels = data.draw(st.integers(1, 6), "stride"), data.draw(st.integers(2, 13), "kernel"), data.draw(st.sampled_from([1, 3]), "channels")
    pads = [data.draw(st.integers(0, k - 1), "before"), data.draw(st.integers(0, k - 1), "behind")]
    x = g("Tanh", g.input("x", [data.draw(st.sampled_from([1, "N"])), channels, "S"]))
    outputs = [g("Relu", g("Conv", x, g.weight(4, channels, k), g.weight(4), strides=[step], pads=pads)) for _ in range(data.draw(st.integers(1, 2), "readers"))]
    if data.draw(st.booleans(), "another layer"):
        outputs.append(g("Conv", outputs[0], g.weight(4, 4, 2), pads=[1, 0]))
    if data.draw(st.booleans(), "the wire as well"):
        outputs.append(x)
    with forced(False):
        check(g.model(*outputs), pulses=(step, step * data.draw(st.integers(2, 4), "frames")))


@pytest.mark.parametrize("batch", [1, "N"])
def test_history_and_pulse_side_by_side(batch: int | str) -> None:
    """A window is what is remembered with the pulse behind it, and what is remembered next is the rest of the window."""
    c = layers((3, 1), batch=batch)
    (state,) = c.manifest["states"]
    assert state["shape"] == ([1, 6] if batch == 1 else [batch, 1, 6])
    assert kinds(c)["Concat"] == kinds(c)["Slice"] == 1
    assert kinds(c)["Gather"] == 0


def test_a_history_as_long_as_a_pulse_is_the_pulse() -> None:
    c = layers((2, 1))
    assert kinds(c)["Concat"] == 1
    assert kinds(c)["Slice"] == 0


def test_many_windows_share_one_history() -> None:
    assert len(layers((3, 1), (3, 1)).manifest["states"]) == 2
    assert len(layers((3, 1), (3, 1), (3, 1)).manifest["states"]) == 1


@pytest.mark.parametrize("pulse", [1, 4])
def test_history_and_pulse_are_joined_once(pulse: int) -> None:
    """What is remembered is longer than a pulse: windows are taken from what is made for it anyway."""
    c = layers((3, 5), pulse=pulse)
    assert kinds(c)["Concat"] == kinds(c)["Gather"] == kinds(c)["Slice"] == 1


def test_the_rest_of_a_history_goes_with_its_parts() -> None:
    """Two layers read stretches of the common history, a third has windows of its own: one Split."""
    c = layers((3, 1), (3, 2), (3, 8), pulse=4)
    assert kinds(c)["Slice"] == 0
    assert kinds(c)["Split"] == 1
