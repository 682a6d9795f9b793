"""Delays for the least memory: the program against every schedule there is, and its bytes against those emitted."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify import _program
from pulsify._program import Affine, Problem, Wire, solve
from pulsify.api import Conversion, convert
from pulsify.errors import PulsifyError
from pulsify.explain import explain
from tests.contexts import cut
from tests.contract_check import check
from tests.families import ENDS, FAMILIES, MEMORIES, align, head, start
from tests.families import Wire as Grown
from tests.graphs import G
from tests.profiles import examples

# -- the program --------------------------------------------------------------------------------------------------------


@st.composite
def problems(draw: st.DrawFn, strides: bool) -> Problem:
    """A few wires in a row, some of which wait for earlier ones, with readers that wait and reach back."""
    p, count = Problem(), draw(st.integers(2, 5))
    factor = st.sampled_from([1, 1, 2, 3]) if strides else st.just(1)
    delays = [Affine(p.variable(0), draw(factor), draw(st.integers(-2, 2))) for _ in range(count)]
    wires = [Wire(draw(st.integers(0, 5)), x) for x in delays]
    for j, i in itertools.combinations(reversed(range(count)), 2):
        if draw(st.booleans()):
            later = Affine(j, draw(factor) * delays[j].coef, draw(st.integers(-3, 3)))
            p.waits.append((later, delays[i]))
            wires[i].reads.append(later + draw(st.integers(0, 3)))
    p.wires += wires
    for _ in range(count):
        for later, earlier in p.waits:
            assert later.var is not None
            p.low[later.var] += max(0, -((later.at(p.low) - earlier.at(p.low)) // later.coef))
    for i in range(count):
        if i == count - 1 or draw(st.booleans()):
            p.high[i] = p.low[i] + draw(st.integers(0, 3))
    return p


@pytest.mark.parametrize("strides", [False, True])
@given(data=st.data())
@examples(60)
def test_least_of_all_schedules(strides: bool, data: st.DataObject) -> None:
    """The optimum of an enumeration, and of several optima the one that is as soon as possible everywhere."""
    p = data.draw(problems(strides))
    every = [range(low, high + 1) for low, high in zip(p.low, p.latest(), strict=True)]
    optimal = [e for e in itertools.product(*every) if p.feasible(e)]
    least = min(map(p.cost, optimal))
    optimal = [e for e in optimal if p.cost(e) == least]
    assert solve(p) == [min(column) for column in zip(*optimal, strict=True)]


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    p = Problem()
    p.variable(0, 3)
    p.wires = [Wire(1, Affine(None, 0, 0), [Affine(0, 1, 0)]), Wire(2, Affine(0, 1, 0), [Affine(None, 0, 3)])]
    assert solve(p) == [3]
    assert capfd.readouterr() == ("", "")


# -- graphs -------------------------------------------------------------------------------------------------------------

Make = Callable[[G, str], str]


def both(model: onnx.ModelProto, pulse: int | str = 4) -> tuple[Conversion, Conversion]:
    """As soon as possible, and with least memory: outputs are the same, and the difference is the one predicted."""
    soonest, least = (convert(model, axis="S", pulse=pulse, optimize=level) for level in ("none", "size"))
    promised = ("name", "delay", "length", "lookahead", "receptive_field", "settle")
    a, b = ([{k: o.get(k) for k in promised} for o in c.manifest["outputs"]] for c in (soonest, least))
    assert a == b
    assert soonest.manifest["state_bytes"] - least.manifest["state_bytes"] == least.graph.spared >= 0
    assert soonest.graph.spared == 0
    return soonest, least


def branches(make: Make, channels: int = 4, **kw: int) -> onnx.ModelProto:
    """What ``make`` makes of the input, added to an equally wide branch that is 6 frames later."""
    g = G(**kw)
    x = g.input("x", ["N", channels, "S"])
    fast = make(g, x)
    late = g("Conv", x, g.weight(8, channels, 7))
    return g.model(g("Add", cut(g, fast, 2, 0, 6), late))


def shapes(c: Conversion) -> list[list[int | str]]:
    return sorted((s["shape"] for s in c.manifest["states"]), key=str)


def test_the_delay_waits_in_front_of_a_layer_that_widens() -> None:
    """6 frames of 4 channels, which the late branch keeps anyway, and none of 8."""
    model = branches(lambda g, x: g("Conv", x, g.weight(8, 4, 1)))
    soonest, least = both(model)
    assert shapes(soonest) == [["N", 4, 6], ["N", 8, 6]] and shapes(least) == [["N", 4, 6]]
    check(model, "S", [1, 4])


def test_the_delay_waits_behind_a_layer_that_narrows() -> None:
    """A Cast to a byte, and of 12 channels one: what is kept is the least of them all."""
    g = G()
    x = g.input("x", ["N", 12, "S"])
    y = g("Conv", g("Tanh", x), g.weight(1, 12, 1))
    bits = g("Cast", g("Greater", y, g.const(0.0, "float32")), to=onnx.TensorProto.FLOAT)
    late = g("Conv", x, g.weight(1, 12, 7))
    model = g.model(g("Add", cut(g, bits, 2, 0, 6), late))
    soonest, least = both(model)
    assert shapes(soonest) == [["N", 1, 6], ["N", 12, 6]]
    assert [(s["shape"], s["dtype"]) for s in least.manifest["states"]] == [(["N", 12, 6], "float32")]
    g = G()
    x = g.input("x", ["N", 12, "S"])
    bits = g("Greater", g("Conv", x, g.weight(1, 12, 1)), g.const(0.0, "float32"))
    wave = g("Tanh", g("Conv", x, g.weight(1, 12, 1)))
    late = g("Conv", wave, g.weight(1, 1, 7))
    model = g.model(g("Add", cut(g, g("Cast", bits, to=onnx.TensorProto.FLOAT), 2, 0, 6), late))
    soonest, least = both(model)
    assert sorted((s["shape"], s["dtype"]) for s in soonest.manifest["states"]) == [(["N", 1, 6], "float32")] * 2
    assert sorted((s["shape"], s["dtype"]) for s in least.manifest["states"]) == [(["N", 1, 6], "bool"), (["N", 1, 6], "float32")]
    check(model, "S", [1, 4])


@pytest.mark.parametrize("stride", [2, 3])
def test_through_strides_and_blocks(stride: int) -> None:
    """Down, wide, up: the frames kept are those before the stride, and delays stay whole blocks."""

    def make(g: G, x: str) -> str:
        down = g("Conv", x, g.weight(6, 4, stride), strides=[stride])
        return g("ConvTranspose", down, g.weight(6, 8, stride), strides=[stride])

    g = G()
    x = g.input("x", ["N", 4, "S"])
    slow = g("Conv", g("Conv", x, g.weight(6, 4, stride), strides=[stride]), g.weight(6, 6, 5))
    late = g("ConvTranspose", slow, g.weight(6, 8, stride), strides=[stride])
    model = g.model(g("Add", cut(g, make(g, x), 2, 4 * stride, 0), late), g("Tanh", cut(g, make(g, x), 2, 4 * stride, 0)))
    both(model, 2 * stride)
    model = branches(lambda g, x: g("Conv", g("MaxPool", x, kernel_shape=[1]), g.weight(8, 4, 1)))
    both(model)
    check(model, "S", [3])


def test_masks_of_different_ends_are_one_wire() -> None:
    """What a causal reader and one that looks ahead read waits, once for both, and the program knows it."""
    g = G()
    x, z = g.input("x", ["N", 4, "S"]), g.input("z", ["N", 4, "S"])
    y = g("Conv", x, g.weight(2, 4, 3))
    a, b = (g("Conv", y, g.weight(8, 2, 3), pads=pads) for pads in ([2, 0], [1, 1]))
    model = g.model(g("Add", g("Add", a, b), g("Conv", z, g.weight(8, 4, 9), pads=[0, 6])))
    _, least = both(model)
    assert [s["shape"] for s in least.manifest["states"] if s["origin"].startswith(y)] == [["N", 2, 8]]
    check(model)


def test_masks_stay_what_they_are() -> None:
    """Delayed in front of the padding, the wide wire would take less memory, and a mask. It stays at delay 0."""

    def make(g: G, x: str) -> str:
        return g("Conv", g("Conv", x, g.weight(8, 4, 1)), g.weight(8, 8, 3), pads=[2, 0])

    model = branches(make)
    soonest, least = both(model)
    assert least.manifest["valid"] is None and not [s for s in least.manifest["states"] if s["kind"] == "counter"]
    assert shapes(soonest) == shapes(least) == [["N", 4, 6], ["N", 8, 2], ["N", 8, 6]]
    check(model, "S", [2])


def test_padding_behind_padding_stays_announced() -> None:
    """What a mask after the end is put on may wait, but not so long that frames from before the start come by."""
    g = G()
    padded = g("Pad", g.input("x", ["N", 2, "S"]), g.ints(0, 0, 2, 0, 0, 0))
    y = g("Conv", g("Pad", padded, g.ints(0, 0, 3, 0, 0, 1), g.const(1.5, "float32")), g.weight(2, 2, 3))
    z = g("Conv", g("Pad", padded, g.ints(0, 0, 3, 0, 0, 0), mode="edge"), g.weight(2, 2, 1))
    check(g.model(y, z), "S", [1, 2])


@pytest.mark.parametrize("first", [0, 1])
def test_memories_move_only_where_they_are_masked(first: int) -> None:
    """A GRU at delay 0 needs no mask and gets none; one that comes later waits where it costs least."""
    g = G()
    x = g.input("x", ["N", 4, "S"])
    y = g("Conv", x, g.weight(4, 4, 2)) if first else x
    wide = g("GRU", g("Transpose", y, perm=[2, 0, 1]), *(g.weight(1, 24, n) for n in (4, 8)), hidden_size=8)
    y = g("Transpose", g("Squeeze", wide, g.ints(1)), perm=[1, 2, 0])
    late = g("Conv", x, g.weight(8, 4, 7))
    model = g.model(g("Add", cut(g, y, 2, 0, 6 - first), late))
    soonest, least = both(model)
    kinds = [Counter(s["kind"] for s in c.manifest["states"]) for c in (soonest, least)]
    assert kinds[0]["counter"] == kinds[1]["counter"] == first
    assert ["N", 8, 6 - first] in shapes(soonest) and (["N", 8, 6] in shapes(least)) == (not first)
    check(model, "S", [1, 4])


def test_running_results_settle_as_soon_as_before() -> None:
    g = G()
    x = g.input("x", ["N", 4, "S"])
    wide = g("Conv", x, g.weight(8, 4, 1))
    late = g("Conv", x, g.weight(8, 4, 7))
    mean = g("ReduceMean", wide, g.ints(2), keepdims=0)
    model = g.model(g("Add", cut(g, wide, 2, 0, 6), late), mean)
    soonest, least = both(model)
    assert least.graph.spared == 0 and soonest.manifest["outputs"][1]["settle"] == 0
    check(model, "S", [3])


def test_one_history_for_equal_contents() -> None:
    """Frames that padding announces and that are not zero: readers of different reach share one buffer."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    padded = g("Pad", x, g.ints(0, 0, 4, 0, 0, 0), g.const(1.5, "float32"))
    a, b = (g("Conv", padded, g.weight(2, 2, k)) for k in (5, 3))
    model = g.model(a, b)
    assert shapes(convert(model, axis="S", pulse=2)) == [["N", 2, 4], ["N"]]
    check(model, "S", [1, 2, 5])


def test_a_slice_that_is_an_output_shares_the_history_of_its_source() -> None:
    g = G()
    x = g.input("x", ["N", 2, "S"])
    y = cut(g, x, 2, 1)
    model = g.model(y, g("Conv", x, g.weight(2, 2, 3)), g("Conv", y, g.weight(2, 2, 2)))
    assert shapes(convert(model, axis="S", pulse=2)) == [["N", 2, 2]]
    check(model, "S", [1, 3])


def widen(data: st.DataObject, g: G, w: Grown) -> Grown:
    if w.time != 2:
        w = FAMILIES["swap"](data, g, w)
    channels = data.draw(st.sampled_from([1, 2, 8]), "channels")
    return replace(w, name=g("Conv", w.name, g.weight(channels, w.shape[1], 1)), shape=(w.shape[0], channels, "T"))


def merge(data: st.DataObject, g: G, a: Grown, b: Grown) -> Grown:
    wide = replace(widen(data, g, a), shape=(a.shape[0], 4, "T"))
    node = g.nodes[-1]
    g.inits.append(onnx.numpy_helper.from_array(g.rng.standard_normal((b.shape[3 - b.time], a.shape[3 - a.time], 1)).astype("f4"), node.input[1] + "w"))
    node.input[1] += "w"
    return align(data, g, replace(wide, shape=(b.shape[0], b.shape[3 - b.time], "T")), b)


@pytest.mark.parametrize("part", range(2))
@given(data=st.data())
@examples(25)
def test_bytes_emitted_are_those_predicted(part: int, data: st.DataObject) -> None:
    """Graphs of many branches with layers that widen and narrow; those that gain are streamed, too."""
    families = FAMILIES | MEMORIES | ENDS | {"widen": widen, "narrow": widen}
    g = G()
    wires = [start(g, "x", data.draw(st.sampled_from(["N", 1]), "batch"), 4)]
    for _ in range(data.draw(st.integers(4, 12), "size")):
        source = data.draw(st.sampled_from(wires[-5:]), "wire")
        if len(wires) > 1 and data.draw(st.integers(0, 2), "kind") == 0:
            wires.append(merge(data, g, source, data.draw(st.sampled_from(wires), "other")))
        else:
            wires.append(families[data.draw(st.sampled_from(sorted(families)), "family")](data, g, source))
    outputs = [g("Tanh", w.name) for w in {wires[-1].name: wires[-1], wires[-2].name: wires[-2]}.values()]
    if part:
        outputs.append(head(data, g, data.draw(st.sampled_from(wires), "summarised")))
    model = g.model(*outputs)
    try:
        _, least = both(model)
    except PulsifyError:
        return
    if least.graph.spared:
        check(model, "S", [4], lengths=(17, 23))


# -- the rest -----------------------------------------------------------------------------------------------------------


def wide_branch() -> onnx.ModelProto:
    return branches(lambda g, x: g("Conv", x, g.weight(8, 4, 1)))


def test_without_the_solver_delays_are_as_soon_as_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_program, "available", lambda: False)
    c = convert(wide_branch(), axis="S", pulse=4)
    assert shapes(c) == [["N", 4, 6], ["N", 8, 6]]
    assert any("install highspy" in note for note in c.graph.notes)
    g = G()
    causal = g.model(g("Conv", g.input("x", [1, 4, "S"]), g.weight(4, 4, 3), pads=[2, 0]))
    assert not any("highspy" in note for note in convert(causal, axis="S", pulse=4).graph.notes)


def test_explain_tells_both() -> None:
    (c,) = [c for c in explain(wide_branch()).candidates if c.symbol == "S"]
    assert (c.state_bytes, c.state_bytes_soonest) == (4 * 24, 4 * 24 + 4 * 48)


def test_every_level_but_none_moves_delays() -> None:
    found = [convert(wide_branch(), axis="S", pulse=4, optimize=level).manifest["state_bytes"] for level in ("none", "speed", "size")]
    assert found == [288, 96, 96]
