"""Changes to a batch model before conversion: constants for inputs, states, fewer outputs, lengths, baked axes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from pulsify.adapt import Changes
from pulsify.api import Conversion, convert
from pulsify.errors import Refusal, UsageError
from tests.graphs import G


def adapted(model: onnx.ModelProto, axis: str | list[str] = "S", pulse: int | str = 4, **changes: object) -> Conversion:
    """Convert under changes and verify against the adapted batch model."""
    c = convert(model, axis=axis, pulse=pulse, changes=Changes(**changes))  # type: ignore[arg-type]
    c.verify()
    return c


def rated() -> onnx.ModelProto:
    """A convolution scaled by a sample rate given as an input."""
    g = G()
    x, rate = g.input("x", ["N", 4, "S"]), g.input("sr", [], TensorProto.INT64)
    y = g("Conv", x, g.weight(4, 4, 3), pads=[1, 1])
    return g.model(g("Mul", y, g("Cast", rate, to=TensorProto.FLOAT)))


@pytest.mark.parametrize("value", ["16000", 16000, "0x10"])
def test_bind_makes_an_input_a_constant(value: object) -> None:
    if value == "0x10":
        with pytest.raises(UsageError, match="cannot bind 'sr'"):
            adapted(rated(), bind={"sr": value})
        return
    c = adapted(rated(), bind={"sr": value})
    assert [i["name"] for i in c.manifest["inputs"]] == ["x"]


def test_bind_names_an_unknown_input() -> None:
    with pytest.raises(UsageError, match="no input 'sample'") as e:
        adapted(rated(), bind={"sample": 1})
    assert "its inputs are x, sr" in e.value.render()


def test_bind_refuses_a_wrong_number_of_values() -> None:
    with pytest.raises(UsageError, match="cannot bind 'sr' to 2 values"):
        adapted(rated(), bind={"sr": "1,2"})


def two_outputs() -> tuple[onnx.ModelProto, str, str]:
    g = G()
    x = g.input("x", [1, 4, "S"])
    good = g("Conv", x, g.weight(4, 4, 3))
    bad = g("Softmax", good, axis=2)
    return g.model(good, bad), good, bad


def test_an_output_that_cannot_stream_does_not_doom_the_others() -> None:
    model, good, bad = two_outputs()
    with pytest.raises(Refusal, match="normalises over time") as e:
        convert(model, axis="S", pulse=4)
    assert f"--outputs {good}" in e.value.render()
    c = adapted(model, outputs=[good])
    assert [o["name"] for o in c.manifest["outputs"]] == [good]
    with pytest.raises(UsageError, match="no output 'nothing'"):
        convert(model, axis="S", pulse=4, changes=Changes(outputs=["nothing"]))
    assert bad not in {o.name for o in c.model.graph.output}


def recurrent(batch: int | str = "N") -> tuple[onnx.ModelProto, str]:
    """A GRU whose state the author exposed as input h0 and output hn."""
    g = G()
    x, h = g.input("x", ["S", batch, 3]), g.input("h0", [1, batch, 5])
    y, hn = g("GRU", x, g.weight(1, 15, 3), g.weight(1, 15, 5), g.weight(1, 30), "", h, n=2, hidden_size=5)
    return g.model(g("Squeeze", y, g.ints(1)), hn), hn


@pytest.mark.parametrize("batch", ["N", 1])
def test_an_exposed_state_becomes_the_pulsed_models_own(batch: int | str) -> None:
    model, hn = recurrent(batch)
    c = adapted(model, states={"h0": hn})
    assert [i["name"] for i in c.manifest["inputs"]] == ["x"]
    assert [s["kind"] for s in c.manifest["states"]] == ["recurrent"]
    assert hn not in [o["name"] for o in c.manifest["outputs"]]
    assert c.manifest["valid"] is None, "nobody reads the final state, so nobody asks where the stream ends"


def test_a_state_pair_must_match() -> None:
    model, hn = recurrent()
    with pytest.raises(UsageError, match="no output 'hh'"):
        convert(model, axis="S", changes=Changes(states={"h0": "hh"}))
    with pytest.raises(UsageError, match="no input 'h'"):
        convert(model, axis="S", changes=Changes(states={"h": hn}))


def test_a_length_input_is_read_off_the_stream() -> None:
    g = G()
    x, lens = g.input("x", ["N", 4, "S"]), g.input("lens", ["N"], TensorProto.INT64)
    mask = g("Less", g("Unsqueeze", g("Range", g.const(0), g("Gather", g("Shape", x), g.const(2)), g.const(1)), g.ints(0)), g("Unsqueeze", lens, g.ints(1)))
    y = g("Where", g("Unsqueeze", mask, g.ints(1)), x, g.const(np.float32(0)))
    model = g.model(g("Conv", y, g.weight(4, 4, 3), pads=[2, 0]))
    free = adapted(model, lengths=["lens"])
    assert [i["name"] for i in free.manifest["inputs"]] == ["x"]
    assert free.manifest["valid"] is None, "a mask that is true everywhere costs nothing"
    kept = adapted(model)
    assert [i["name"] for i in kept.manifest["inputs"]] == ["x", "lens"]
    with pytest.raises(UsageError, match="'x' is no length"):
        convert(model, axis="S", changes=Changes(lengths=["x"]))


def baked(target: list[int], frames: int = 12) -> onnx.ModelProto:
    g = G()
    x = g.input("x", [1, frames, 8])
    y = g("Reshape", x, g.ints(*target))
    return g.model(g("Relu", y))


@pytest.mark.parametrize(("target", "law"), [([1, 12, 4, 2], "S"), ([1, 12, 8, 1], "S"), ([12, 8], "S")])
def test_unbake_lets_the_length_free(target: list[int], law: str) -> None:
    with pytest.raises(Refusal, match="the time axis is baked in") as e:
        convert(baked(target), axis=["x:1"], pulse=4)
    assert "--unbake" in e.value.render()
    c = adapted(baked(target), axis=["x:1"], unbake=True)
    assert [o["length"] for o in c.manifest["outputs"]] == [law]
    assert any("unbaked node" in note for note in c.graph.notes)


def test_unbake_keeps_time_where_it_was() -> None:
    """12 frames of 12 features: the 12 that has as many entries in front of it as time has is time."""
    g = G()
    x = g.input("x", [1, 12, 12])
    c = adapted(g.model(g("Relu", g("Reshape", x, g.ints(1, 12, 12, 1)))), axis=["x:1"], unbake=True)
    assert [(o["axis"], o["length"]) for o in c.manifest["outputs"]] == [(1, "S")]


def half_overlapping(end: int, frames: int = 40) -> onnx.ModelProto:
    """``[x[:36], x[4:]]`` in blocks of 4, as Keras writes overlapping windows of a clip whose length it knows."""
    g = G()
    x = g.input("x", ["N", frames])
    parts = [g("Slice", x, g.ints(k), g.ints(e), g.ints(1)) for k, e in ((0, end), (4, 2**63 - 1))]
    return g.model(g("Concat", *(g("Reshape", p, g.ints(-1, frames // 4 - 1, 4)) for p in parts), axis=2))


def test_unbake_counts_a_crop_from_the_end() -> None:
    with pytest.raises(Refusal, match="the time axis is baked in"):
        convert(half_overlapping(36), axis=["x:1"], pulse=4)
    c = adapted(half_overlapping(36), axis=["x:1"], unbake=True)
    assert [o["length"] for o in c.manifest["outputs"]] == ["S//4 - 1"]
    assert any("Slice up to frame 36 now keeps all but the last 4" in note for note in c.graph.notes)


def test_a_crop_to_be_unbaked_is_told() -> None:
    g = G()
    x = g.input("x", [1, 2, 40])
    y = g("Add", g("Slice", x, g.ints(0), g.ints(36), g.ints(2)), g("Slice", x, g.ints(4), g.ints(2**63 - 1), g.ints(2)))
    with pytest.raises(Refusal, match="the time axis is baked in") as e:
        convert(g.model(y), axis=["x:2"], pulse=4)
    assert "try:  --unbake, which lets Slice node 'n_slice_" in e.value.render()


def test_unbake_turns_a_reshape_of_one_frame_into_the_transpose_it_stood_for() -> None:
    g = G()
    x = g.input("x", [1, 4, 6])
    y = g("Conv", x, g.weight(3, 4, 6))
    model = g.model(g("Reshape", y, g.ints(1, 1, 3)))
    c = adapted(model, axis=["x:2"], unbake=True)
    assert [(o["axis"], o["length"], o["delay"]) for o in c.manifest["outputs"]] == [(1, "S - 5", 5)]
