"""How verification judges outputs that rounding alone moves by more than 1e-5."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from pulsify.api import Conversion, convert
from pulsify.errors import VerificationError
from pulsify.stages._nearer import nearer
from pulsify.stages.verify import Report, batch_session, verify
from tests.graphs import G


def steep(slope: float, function: str = "Exp") -> Conversion:
    """``exp(slope * conv(x))``: relative errors of the convolution come out ``slope`` times as large."""
    g = G()
    y = g("Conv", g.input("x", [1, 2, "S"]), g.const(np.full((1, 2, 3), 0.2, np.float32)), pads=[2, 0])
    return convert(g.model(g(function, g("Mul", y, g.const(np.float32(slope))))), axis="S", pulse=2)


def off_by(done: Conversion, factor: float) -> Report:
    """Verify a pulsed model whose weights are that much too large."""
    pulsed = done.model
    (weight,) = (t for t in pulsed.graph.initializer if len(t.dims) >= 3)
    array = onnx.numpy_helper.to_array(weight)
    weight.CopyFrom(onnx.numpy_helper.from_array((array * np.float32(factor)).astype(np.float32), weight.name))
    return verify(done.source, done.batch, pulsed.SerializeToString())


def test_rounding_is_no_disagreement() -> None:
    report = off_by(steep(200), 1 + 1e-7)
    assert report.worst > 1e-5 and 0 < report.noise < 1e-3


@pytest.mark.parametrize("slope, factor", [(200, 1 + 1e-5), (1, 1 + 5e-5), (1, 1.01)])
def test_more_than_rounding_is(slope: float, factor: float) -> None:
    with pytest.raises(VerificationError, match="disagrees with the batch model"):
        off_by(steep(slope), factor)


def test_what_rounding_alone_moves_at_will_is_told_so() -> None:
    with pytest.raises(VerificationError, match="too sensitive to tell") as e:
        off_by(steep(1e6, "Sin"), 1 + 1e-7)
    assert "unit in the last place" in str(e.value) and "bug of pulsify" not in str(e.value)


def test_noise_is_not_measured_where_all_is_well() -> None:
    assert steep(1).verify().noise == 0


def upsampled(more: bool = False) -> Conversion:
    """A linear Resize by 10, whose weights onnxruntime rounds the more the further from the start, behind a convolution."""
    g = G()
    x = g.input("x", [1, 2, "S"])
    y = g("Resize", g("Conv", x, g.weight(2, 2, 3), pads=[2, 0]), "", g.const(np.array([1, 1, 10], np.float32)), mode="linear")
    if more:  # a value that depends on the whole past
        y = g("CumSum", g("Mul", y, g.const(np.float32(1e-3))), g.const(2, np.int64))
    return convert(g.model(y), axis="S", pulse=500)


def test_positions_rounded_far_from_the_start_are_no_disagreement() -> None:
    report = off_by(upsampled(), 1)
    assert report.worst <= 1e-5 < report.noise < 1e-3


@pytest.mark.parametrize("factor", [1 + 5e-5, 1.01])
def test_but_what_differs_more_near_the_start_is(factor: float) -> None:
    with pytest.raises(VerificationError, match="disagrees with the batch model"):
        off_by(upsampled(), factor)


def test_parts_of_a_stream_say_nothing_of_a_memory_without_bound() -> None:
    done = upsampled(more=True)
    (o,) = done.manifest["outputs"]
    session, inputs = batch_session(done.source, done.batch), {"x": np.ones((1, 2, 999), np.float32)}
    (want,) = session.run(None, inputs)
    assert nearer(done.manifest, o, session, inputs, want, 999) is None
