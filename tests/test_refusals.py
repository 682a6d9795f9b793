"""What cannot stream is refused: by node, axis, reason and remedy. No wrong model is ever emitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest

from pulsify.api import convert
from pulsify.errors import InternalError, PulsifyError, Refusal, UsageError
from tests.graphs import G

FAR = 2**63 - 1
Make = Callable[[G, str], Any]


def refused(make: Make, shape: list[Any] | None = None, pulse: int | str = "P", kind: type[PulsifyError] = Refusal, **kw: Any) -> str:
    """The message for a graph over one input."""
    g = G(**kw)
    out = make(g, g.input("x", shape or [1, 4, "S"]))
    with pytest.raises(kind) as e:
        convert(g.model(*(out if isinstance(out, tuple) else (out,))), axis="S", pulse=pulse)
    text = str(e.value)
    assert text == e.value.render() and "\n  why:  " in text, text
    return text


def length(g: G, x: str, axis: int = 2) -> str:
    return g("Gather", g("Shape", x), g.ints(axis))


#: name -> (graph, where, why, remedy)
CASES: dict[str, tuple[Make, str, str, str]] = {
    "mean fed back": (
        lambda g, x: g("Sub", x, g("ReduceMean", x, g.ints(2))), "Sub node 'n_sub_3' on axis 2",
        "summarises the whole stream (ReduceMean node 'n_reducemean_2')", "only an output may depend on such a summary",
    ),
    "softmax over time": (
        lambda g, x: g("Softmax", x), "Softmax node 'n_softmax_1' on axis 2",
        "it normalises over time, and every frame needs the statistics of the whole stream", "normalise over channels",
    ),
    "instance norm": (
        lambda g, x: g("InstanceNormalization", x, g.weight(4), g.weight(4)), "InstanceNormalization node",
        "it normalises over time", "or use running statistics (BatchNormalization)",
    ),
    "gram matrix": (
        lambda g, x: g("MatMul", x, g("Transpose", x, perm=[0, 2, 1])), "MatMul node 'n_matmul_2' on axis 2",
        "it sums over time, and its result needs the whole stream", "can be written as a convolution",
    ),
    "reversal": (
        lambda g, x: g("Slice", x, g.ints(-1), g.ints(-FAR), g.ints(2), g.ints(-1)), "Slice node 'n_slice_5' on axis 2",
        "it reverses time", "a stream has no last frame to begin with",
    ),
    "the last frame fed back": (
        lambda g, x: g("Add", x, g("Slice", x, g.ints(-1), g.ints(FAR), g.ints(2))), "Add node 'n_add_5' on axis 2",
        "its input 'slice_4' summarises the whole stream (Slice node 'n_slice_4')", "only an output may depend on such a summary",
    ),
    "the second half": (
        lambda g, x: g("Slice", x, g("Div", length(g, x), g.ints(2)), g.ints(FAR), g.ints(2)), "on axis 2",
        "its first frame, S//2, is counted from the end of the stream", "slice from the start",
    ),
    "a baked position table": (
        lambda g, x: g("Add", x, g.weight(4, 50)), "Add node 'n_add_2' on axis 2",
        "the time axis is baked in: one input is S long on axis 2, another has 50 fixed", "export the model with a dynamic time axis",
    ),
    "a baked reshape": (
        lambda g, x: g("Reshape", x, g.ints(1, 2, 2, 50)), "Reshape node 'n_reshape_2'",
        "it reshapes 4*S elements to [1, 2, 2, 50]", "",
    ),
    "time in the channels of a convolution": (
        lambda g, x: g("Conv", g("Transpose", x, perm=[0, 2, 1]), g.weight(2, 8, 1)), "Conv node 'n_conv_3' on axis 1",
        "it mixes all channels, and time is the channel axis", "export with time on a spatial axis",
    ),
    "data divided by the length": (
        lambda g, x: g("Div", x, g("Cast", length(g, x), to=1)), "Div node",
        "the length of the whole stream", "",
    ),
    "an operator nobody knows": (
        lambda g, x: g("Frobnicate", x, domain="acme"), "Frobnicate node 'n_frobnicate_1'",
        "the operator acme::Frobnicate is not known to this version", "`pulsify ops` lists the operators that stream",
    ),
    "two time axes": (
        lambda g, x: g("MatMul", g("Transpose", x, perm=[0, 2, 1]), x), "output 'matmul_2' on axes 1, 2",
        "it has time on two axes, and one pulse holds only a block of it", "leave this output out",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_message(name: str) -> None:
    make, where, why, remedy = CASES[name]
    text = refused(make)
    head, *rest = text.splitlines()
    assert head.startswith("cannot pulsify") and where in head, text
    assert why in "\n".join(rest), text
    assert remedy in text, text


@pytest.mark.parametrize(("pulse", "near"), [(1, "6, 6"), (5, "6, 6"), (7, "6, 12"), (20, "18, 24")])
def test_a_pulse_that_does_not_split_names_the_nearest(pulse: int, near: str) -> None:
    def make(g: G, x: str) -> str:
        return g("Conv", g("Conv", x, g.weight(4, 4, 2), strides=[2]), g.weight(4, 4, 3), strides=[3])

    text = refused(make, pulse=pulse)
    assert f"a pulse of {pulse} frames does not split into strides of" in text
    wanted = ", ".join(dict.fromkeys(near.split(", ")))
    assert f"try:  a pulse that is a multiple of 6 (nearest: {wanted})" in text


@pytest.mark.parametrize("pulse", [0, -4])
def test_a_pulse_of_nothing(pulse: int) -> None:
    assert f"a pulse of {pulse} frames" in refused(lambda g, x: g("Relu", x), pulse=pulse, kind=UsageError)


def test_a_pulse_named_like_the_stream() -> None:
    assert "the pulse cannot be named 'S'" in refused(lambda g, x: g("Relu", x), pulse="S", kind=UsageError)


def test_an_unknown_level() -> None:
    g = G()
    with pytest.raises(UsageError, match="optimize 'fast'\n  why:  the levels are none, speed, size"):
        convert(g.model(g("Relu", g.input("x", [1, 4, "S"]))), axis="S", optimize="fast")


def test_an_axis_that_is_not_there() -> None:
    g = G()
    model = g.model(g("Relu", g.input("audio", ["batch", 1, "samples"])))
    with pytest.raises(UsageError) as e:
        convert(model, axis="sample", pulse=1)
    assert "no axis 'sample' in this model" in str(e.value) and "did you mean --axis samples?" in str(e.value)


def test_an_input_with_two_time_axes() -> None:
    text = refused(lambda g, x: g("Relu", x), ["S", 2, "S"])
    assert "cannot pulsify input 'x' on axes 0, 2" in text and "declare the one axis that is time" in text


def test_no_time_axis_at_all() -> None:
    g = G()
    model = g.model(g("Relu", g.input("x", [1, 2, 3])))
    with pytest.raises(UsageError, match="no input has a symbolic axis"):
        convert(model, pulse=1)


def test_a_node_that_is_malformed_is_named() -> None:
    for make in (
        lambda g, x: g("Transpose", x, perm=[0, 1]),
        lambda g, x: g("Concat", x, x, axis=7),
        lambda g, x: g("Conv", x, g.weight(4, 4)),
        lambda g, x: g("Gemm", x, g.weight(4, 4)),
        lambda g, x: g("Pad", x, g.ints(0, 1)),
        lambda g, x: g("MatMul", g("Transpose", x, perm=[0, 2, 1]), g.weight(5, 2)),
    ):
        g = G()
        with pytest.raises(PulsifyError) as e:
            convert(g.model(make(g, g.input("x", [1, 4, "S"]))), axis="S", pulse=1)
        assert e.value.exit_code in (3, 5), e.value


def test_a_law_that_fails_on_a_sound_node_is_our_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception in a shape law is the model's fault only where onnx has something against the node."""
    from pulsify.ops.elementwise import Pointwise

    def broken(*_: object) -> None:
        raise IndexError("a fault of ours")

    monkeypatch.setattr(Pointwise, "infer", broken)
    g = G()
    with pytest.raises(InternalError, match="a fault of ours") as e:
        convert(g.model(g("Relu", g.input("x", [1, 4, "S"]))), axis="S", pulse=1)
    assert "the shape law of Relu node 'n_relu_1' failed" in e.value.what and e.value.exit_code == 70


@pytest.mark.parametrize(
    "op, shapes, attributes",
    [
        ("Transpose", [[1, 4, "S"]], {"perm": [0, 1]}),
        ("Gather", [[1, 4, "S"]], {"axis": 1}),
        ("Split", [[1, 4, "S"]], {"axis": 5}),
    ],
)
def test_a_malformed_node_is_refused_whatever_the_law_does_with_it(op: str, shapes: list[Any], attributes: dict[str, Any]) -> None:
    g = G()
    inputs = [g.input(f"x{k}", shape) for k, shape in enumerate(shapes)]
    with pytest.raises(Refusal) as e:
        convert(g.model(g(op, *inputs, **attributes)), axis="S", pulse=1)
    assert f"{op} node" in e.value.what


def test_every_refusal_leaves_the_model_alone() -> None:
    g = G()
    model = g.model(g("Softmax", g.input("x", [1, 4, "S"])))
    before = model.SerializeToString()
    with pytest.raises(Refusal):
        convert(model, axis="S", pulse=4)
    assert onnx.ModelProto.FromString(before) == model
