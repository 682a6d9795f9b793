"""Conversion is linear in the size of the graph."""

from __future__ import annotations

import gc
import time

import onnx
import pytest

from pulsify import pipeline
from pulsify.api import convert
from pulsify.errors import UsageError
from pulsify.pipeline import resting_collector
from tests.contract_check import check
from tests.graphs import G


def chain(depth: int, residual: bool) -> onnx.ModelProto:
    """Dilated convolutions in a row, valid and aligned by slices with skips, or causal without."""
    g = G()
    x = g.input("x", [1, 2, "S"])
    w = g.weight(2, 2, 3)
    y, skips = x, []
    for i in range(depth):
        d = 2 ** (i % 5)
        if not residual:
            y = g("Relu", g("Conv", y, w, dilations=[d], pads=[2 * d, 0]))
            continue
        h = g("Tanh", g("Conv", y, w, dilations=[d]))
        y = g("Add", h, g("Slice", y, g.ints(2 * d), g.ints(2**63 - 1), g.ints(2)))
        skips.append((y, 2 * sum(2 ** (j % 5) for j in range(i + 1, depth))))
    if skips:
        parts = [g("Slice", s, g.ints(cut), g.ints(2**63 - 1), g.ints(2)) if cut else s for s, cut in skips]
        y = parts[0]
        for p in parts[1:]:
            y = g("Add", y, p)
    return g.model(y)


def seconds(model: onnx.ModelProto) -> float:
    """Processor time of the fastest of two conversions."""
    times = []
    for _ in range(2):
        start = time.process_time()
        convert(model, axis="S", pulse=4)
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.parametrize("residual", [False, True])
def test_ten_times_the_depth_is_about_ten_times_the_work(residual: bool) -> None:
    seconds(chain(3, residual))
    small, large = seconds(chain(30, residual)), seconds(chain(300, residual))
    assert large < 30 * small + 0.2, (small, large)


def test_one_delay_per_layer() -> None:
    for depth in (30, 300):
        c = convert(chain(depth, True), axis="S", pulse=4, optimize="none")
        assert len(c.manifest["states"]) == depth


def test_eleven_thousand_nodes() -> None:
    """Pointwise work, windows, merges and shape arithmetic."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    w, y = g.weight(2, 2, 2), x
    while len(g.nodes) < 11_000:
        z = g("Conv", y, w, pads=[1, 0])
        shape = g("Shape", z)
        z = g("Reshape", g("Mul", g("Sigmoid", z), z), g("Concat", g("Slice", shape, g.ints(0), g.ints(2)), g.ints(-1), axis=0))
        y = g("Tanh", g("Add", g("Relu", z), y))
    model = g.model(y)
    start = time.process_time()
    convert(model, axis="S", pulse=4)
    assert time.process_time() - start < 40


def test_the_collector_is_left_as_it_was() -> None:
    """It rests while a conversion runs, whether that ends well or not."""
    seen = []
    for on in (True, False):
        (gc.enable if on else gc.disable)()
        try:
            with resting_collector(), resting_collector():
                seen.append(gc.isenabled())
            convert(chain(2, False), axis="S", pulse=4)
            with pytest.raises(UsageError):
                convert(chain(2, False), axis="T", pulse=4)
            assert gc.isenabled() == on
        finally:
            gc.enable()
    assert seen == [False, False]


def test_what_a_conversion_made_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small collection behind it goes through nothing, until much has been made since the last full one."""

    def young() -> bool:
        kept = convert(chain(20, False), axis="S", pulse=4)
        recent = {id(o) for generation in (0, 1) for o in gc.get_objects(generation)}
        return any(id(n) in recent for n in kept.graph.graph)

    gc.collect()
    monkeypatch.setattr(pipeline, "_MOST_UNSEEN", 10_000)
    gc.set_threshold(700, 10, 10_000)
    try:
        assert not young()
        for _ in range(20):
            aged = not young()
        assert not aged
        gc.collect()
        assert not young()
    finally:
        gc.set_threshold(700, 10, 10)


def test_what_the_caller_froze_stays_frozen() -> None:
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        convert(chain(2, False), axis="S", pulse=4)
        assert frozen - 100 < gc.get_freeze_count() <= frozen
    finally:
        gc.unfreeze()


def test_masks_that_one_wide_node_reads() -> None:
    """Layers padded on both sides, their histories in one state: each mask stands in a Concat of all."""
    g = G()
    y = g.input("x", [1, 8, "S"])
    for _ in range(40):
        small = g.const(g.rng.standard_normal((8, 8, 3)) * 0.05, "float32")
        y = g("Add", g("Relu", g("Conv", y, small, pads=[1, 1])), y)
    c = check(g.model(y), pulses=(4,), lengths=(1, 5, 90, 131))
    assert max(len(n.input) for n in c.model.graph.node if n.op_type == "Concat") > 32
