"""The first frames of a stream joined in front of what was made of it: pre-emphasis, differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pulsify import Refusal, convert
from tests.contexts import batches, contexts, pulses, verify
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples


def part(g: G, x: str, start: int, end: int, axis: int) -> str:
    return g("Slice", x, g.ints(start), g.ints(end), g.ints(axis))


def differences(g: G, x: str, k: int, axis: int) -> str:
    """``y[i] = x[i]`` for i < k, ``x[i] - 0.97*x[i - k]`` after that."""
    rest = g("Sub", part(g, x, k, 2**63 - 1, axis), g("Mul", part(g, x, 0, -k, axis), g.const(0.97, np.float32)))
    return g("Concat", part(g, x, 0, k, axis), rest, axis=axis)


@given(k=st.integers(1, 3), context=contexts, batch=batches, at=pulses())
@examples(25)
def test_pre_emphasis(k: int, context: str, batch: Any, at: Any) -> None:
    verify(lambda g, x: differences(g, x, k, 2), [batch, 2, "S"], context, at, least=context != "masked")


@given(axis=st.integers(0, 2), context=contexts, at=pulses())
@examples(12)
def test_any_axis(axis: int, context: str, at: Any) -> None:
    shape: list[Any] = [2, 3, 4]
    shape[axis] = "S"
    verify(lambda g, x: differences(g, x, 1, axis), shape, context, at, axis=axis, least=False)


@given(at=pulses())
@examples(3)
def test_the_first_frames_alone_as_an_output_too(at: Any) -> None:
    """Causal: a delay of 0 whatever else reads the first frames."""

    def op(g: G, x: str) -> str:
        return g("Add", differences(g, x, 1, 1), g.weight(1))

    done = verify(op, ["N", "S"], "alone", at)
    assert [o["delay"] for o in done.manifest["outputs"]] == [0]


@given(context=contexts, batch=batches, at=pulses())
@examples(8)
def test_the_first_frame_by_its_number(context: str, batch: Any, at: Any) -> None:
    """``cat(x[:, :, 0].unsqueeze(2), x[:, :, 1:] - 0.97*x[:, :, :-1])``, with the delay of the slice."""

    def op(g: G, x: str) -> str:
        rest = g("Sub", part(g, x, 1, 2**63 - 1, 2), g("Mul", part(g, x, 0, -1, 2), g.const(0.97, np.float32)))
        return g("Concat", g("Unsqueeze", g("Gather", x, g.const(0, np.int64), axis=2), g.ints(2)), rest, axis=2)

    verify(op, [batch, 2, "S"], context, at, least=context != "masked")


def repeated(g: G, frame: str, how: str, count: int) -> list[str]:
    if how == "Concat":
        return [frame] * count
    return [g("Tile", frame, g.ints(1, 1, count)) if how == "Tile" else g("Expand", frame, g.ints(1, 1, count))]


@given(how=st.sampled_from(["Tile", "Concat", "Expand"]), before=st.integers(0, 3), after=st.integers(0, 3), batch=batches, context=contexts, at=pulses())
@examples(25)
def test_copies_of_the_end_frames_are_edge_padding(how: str, before: int, after: int, batch: Any, context: str, at: Any) -> None:
    def op(g: G, x: str) -> str:
        first, last = part(g, x, 0, 1, 2), part(g, x, -1, 2**63 - 1, 2)
        return g("Concat", *(repeated(g, first, how, before) if before else []), x, *(repeated(g, last, how, after) if after else []), axis=2)

    verify(op, [batch, 2, "S"], context, at, least=False)


def test_mirrored_frames_are_reflect_padding() -> None:
    g = G()
    x = g.input("x", ["N", 2, "S"])
    before, after = g("Gather", x, g.ints(3, 2, 1), axis=2), g("Slice", x, g.ints(-2), g.ints(-4), g.ints(2), g.ints(-1))
    done = check(g.model(g("Concat", before, x, after, axis=2)), pulses=(1, 3, "P"))
    h = G()
    padded = check(h.model(h("Pad", h.input("x", ["N", 2, "S"]), h.ints(0, 0, 3, 0, 0, 2), mode="reflect")), pulses=("P",))
    assert done.manifest["states"][0]["shape"] == padded.manifest["states"][0]["shape"]


@pytest.mark.parametrize("frames", [[0, 0, 0], [0, 0, 1], [0, 1, 2, 3], [0]])
@pytest.mark.parametrize("cut", [0, 1, 3])
def test_first_frames_in_front_of_another_stream(frames: list[int], cut: int) -> None:
    g = G()
    x = g.input("x", ["N", 2, "S"])
    y = part(g, g("Abs", x), cut, 2**63 - 1, 2)
    check(g.model(g("Concat", g("Gather", x, g.ints(*frames), axis=2), y, axis=2)), pulses=(1, 3, "P"))


def average(g: G, x: str, start: str, rows: Any) -> list[str]:
    """``h' = h + 0.3*(x[t] - h)`` along axis 1."""

    def info(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, 3])

    nodes = [("Sub", ["frame", "h"], "d"), ("Mul", ["d", "rate"], "s"), ("Add", ["h", "s"], "next"), ("Identity", ["next"], "y")]
    body = helper.make_graph(
        [helper.make_node(op, ins, [out]) for op, ins, out in nodes], "body", [info("h"), info("frame")], [info("next"), info("y")],
        [numpy_helper.from_array(np.float32(0.3), "rate")],
    )  # fmt: skip
    out: list[str] = g("Scan", start, x, n=2, body=body, num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1])
    return out


@pytest.mark.parametrize("rows", [1, 2, "N"])
@pytest.mark.parametrize("kind", ["alone", "final", "late", "padded", "rest"])
def test_an_average_that_starts_with_the_first_frame(kind: str, rows: Any) -> None:
    g = G()
    x = g.input("x", [rows, "S", 3])
    if kind == "late":
        x = g("Sub", part(g, x, 2, 2**63 - 1, 1), part(g, x, 0, -2, 1))
    elif kind == "padded":
        x = g("Abs", g("Pad", x, g.ints(0, 1, 0, 0, 1, 0), mode="edge"))
    first = g("Gather", x, g.const(0, np.int64), axis=1)
    final, y = average(g, part(g, x, 1, 2**63 - 1, 1) if kind == "rest" else x, first, rows)
    if kind == "rest":
        y = g("Concat", g("Unsqueeze", first, g.ints(1)), y, axis=1)
    done = check(g.model(y, *([final] if kind == "final" else [])), pulses=(1, 3, "P"))
    assert done.manifest["outputs"][0]["delay"] == (2 if kind == "late" else 0)


def test_what_first_frames_may_not_do_is_refused_with_what_they_may() -> None:
    g = G()
    x = g.input("x", ["N", 2, "S"])
    with pytest.raises(Refusal, match=r"is made of the first frames of the stream .*, and every frame needs it") as e:
        convert(g.model(g("Sub", x, part(g, x, 0, 1, 2))), axis="S", pulse=2)
    assert "let a Scan begin with frame 0" in e.value.hints[0]
    g = G()
    x = g.input("x", ["N", 2, "S"])
    with pytest.raises(Refusal, match=r"is made of frames of an end of the stream .* only as they are") as e:
        convert(g.model(g("Concat", part(g, x, 3, 4, 2), x, axis=2)), axis="S", pulse=2)
    assert "Pad in mode edge or reflect" in e.value.hints[0]
