"""Transpose, Squeeze, Unsqueeze, Flatten, Reshape: time moves but stays whole."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.adapt import Changes
from pulsify.api import convert
from pulsify.errors import Refusal
from tests.contexts import batches, build, contexts, pulses, verify
from tests.contract_check import check, check_least_delay
from tests.graphs import G
from tests.profiles import examples


@given(perm=st.sampled_from([*permutations(range(4)), None]), time=st.integers(0, 3), context=contexts, at=pulses())
@examples(30)
def test_transpose(perm: tuple[int, ...] | None, time: int, context: str, at: Any) -> None:
    shape: list[Any] = [2, 3, 1, 4]
    shape[time] = "S"
    order = (3, 2, 1, 0) if perm is None else perm
    attrs = {} if perm is None else {"perm": perm}
    verify(lambda g, x: g("Transpose", x, **attrs), shape, context, at, axis=time, out=order.index(time))


@given(
    axes=st.sampled_from([[0], [0, 3], [-1], [-1, 0], None]), context=contexts, at=pulses(), old=st.booleans(),
)  # fmt: skip
@examples(20)
def test_squeeze(axes: list[int] | None, context: str, at: Any, old: bool) -> None:
    gone = {0, 3} if axes is None else {a % 4 for a in axes}

    def op(g: G, x: str) -> str:
        if axes is None:
            return g("Squeeze", x)
        return g("Squeeze", x, axes=axes) if old else g("Squeeze", x, g.ints(*axes))

    verify(
        op, [1, 2, "S", 1], context, at, axis=2, out=2 - (0 in gone), rank=4 - len(gone), opset=12 if old else 18,
    )  # fmt: skip


@pytest.mark.parametrize("opset", [12, 18])
@pytest.mark.parametrize("shape", [[1, 2, "S", 1], [2, "S"], ["S", 1]])
def test_squeeze_that_names_no_axes(shape: list[Any], opset: int) -> None:
    """A pulse may be one frame long, and a stream is not: that would have an axis less."""
    g = G(opset=opset)
    model = g.model(g("Squeeze", g("Tanh", g.input("x", shape))))
    c = check(model, pulses=(1, 2, "P"))
    assert [(s.text, s.least) for s in c.batch.assume.binding()] == [("S >= 2", 2)]


def test_squeeze_of_an_empty_list_of_axes() -> None:
    """onnxruntime takes it for none given."""
    g = G()
    c = check(g.model(g("Squeeze", g("Tanh", g.input("x", [1, 2, "S"])), g.ints())), pulses=(1, 2, "P"))
    assert c.batch.assume.least == 2


def test_squeeze_of_an_axis_that_may_be_one() -> None:
    """What it takes away depends on the size of the batch, whatever the stream is."""
    g = G()
    model = g.model(g("Squeeze", g("Conv", g.input("x", ["N", 1, "S", 4]), g.weight(3, 1, 3, 4), pads=[2, 0, 0, 0])))
    with pytest.raises(Refusal) as e:
        convert(model, axis="S", pulse=1)
    assert e.value.render().splitlines()[1:] == [
        "  why:  it names no axes, and takes away axis 0, N long, wherever that is 1",
        "  wire: conv_2 [N, 3, S, 1], time axis 2",
        "  try:  --unbake, which makes it a Squeeze of axes [3]",
        "  try:  give it the axes [3]",
    ]
    c = convert(model, axis="S", pulse=1, changes=Changes(unbake=True))
    c.verify()
    assert list(c.graph.notes) == ["unbaked node 'n_squeeze_3': Squeeze is now Squeeze of axes [3]"]


@given(axes=st.sampled_from([[0], [1], [-1], [0, 2], [-2, 0], [2, 3]]), context=contexts, at=pulses(), old=st.booleans())
@examples(20)
def test_unsqueeze(axes: list[int], context: str, at: Any, old: bool) -> None:
    rank = 2 + len(axes)
    new = {a % rank for a in axes}
    out = [a for a in range(rank) if a not in new][1]

    def op(g: G, x: str) -> str:
        return g("Unsqueeze", x, axes=axes) if old else g("Unsqueeze", x, g.ints(*axes))

    verify(op, [2, "S"], context, at, axis=1, out=out, rank=rank, opset=12 if old else 18)


#: shape, target, where time goes
KEPT: list[tuple[list[Any], list[int], int]] = [
    ([1, 6, "S"], [1, 2, 3, -1], 3),
    ([1, 6, "S"], [0, 3, 2, -1], 3),
    (["S", 6], [-1, 2, 3], 0),
    (["S", 2, 3], [-1, 6], 0),
    (["S", 2, 3], [0, -1], 0),
    ([2, "S", 6], [2, -1, 3, 2], 1),
    ([2, "S", 6], [0, 0, 2, 3], 1),
    ([2, "S", 6], [0, 0, -1], 1),
    ([2, 3, "S", 4], [6, -1, 4], 1),
    ([2, 3, "S", 4], [1, 6, -1, 2, 2], 2),
    ([2, "S"], [2, 1, -1, 1], 2),
    (["N", 6, "S"], [0, 2, 3, -1], 3),
    (["N", "S", 6], [0, -1, 2, 3], 1),
    (["N", "S", 2, 3], [0, 0, 6], 1),
]


@pytest.mark.parametrize(("shape", "target", "out"), KEPT, ids=lambda v: str(v).replace(" ", ""))
@given(context=contexts, at=pulses())
@examples(4)
def test_reshape_that_keeps_time_whole(shape: list[Any], target: list[int], out: int, context: str, at: Any) -> None:
    verify(
        lambda g, x: g("Reshape", x, g.ints(*target)), shape, context, at, axis=shape.index("S"), out=out, rank=len(target)
    )


@given(context=contexts, at=pulses(), batch=st.sampled_from(["N", 2]))
@examples(10)
def test_reshape_to_a_shape_read_off_the_tensor(context: str, at: Any, batch: Any) -> None:
    """``x.view(x.size(0), x.size(1), 2, 3)`` as exporters write it, and back."""

    def op(g: G, x: str) -> str:
        shape = g("Shape", x)
        sizes = [g("Unsqueeze", g("Gather", shape, g.const(i, np.int64)), g.ints(0)) for i in range(2)]
        y = g("Reshape", x, g("Concat", *sizes, g.ints(2, 3), axis=0))
        return g("Reshape", g("Transpose", y, perm=[0, 1, 3, 2]), shape)

    verify(op, [batch, "S", 6], context, at, axis=1)


def test_reshape_of_the_batch_with_the_channels() -> None:
    """Channels folded into the batch and back; no memory needs the merged axis."""
    g = G()
    x = g.input("x", ["N", 2, "S"])
    shape = g("Shape", x)
    length = g("Gather", shape, g.ints(2))
    y = g("Reshape", x, g("Concat", g.ints(-1), length, axis=0))
    z = g("Reshape", g("Tanh", y), g("Concat", g("Gather", shape, g.ints(0)), g.ints(2), length, axis=0))
    check(g.model(g("Conv", z, g.weight(2, 2, 3), pads=[2, 0])))


@pytest.mark.parametrize(("axis", "shape", "out"), [(1, ["S", 2, 3], 0), (0, [1, 1, "S"], 1), (2, [1, "S", 3], 0), (-1, [1, "S", 3], 0), (2, [1, 1, "S"], 1)])
@given(context=contexts, at=pulses())
@examples(4)
def test_flatten(axis: int, shape: list[Any], out: int, context: str, at: Any) -> None:
    verify(lambda g, x: g("Flatten", x, axis=axis), shape, context, at, axis=shape.index("S"), out=out, rank=2)


#: shape, target, where time goes
REGROUPED: list[tuple[list[Any], list[int], int]] = [
    (["N", "S", 3], [0, -1, 12], 1),  # four frames stacked
    (["N", "S"], [0, -1, 4], 1),
    (["S", 6], [-1, 2, 12], 0),
    ([2, 3, "S", 4], [6, -1, 3, 4], 1),
    (["N", "S", 6], [0, -1, 3], 1),  # a frame split in two
    (["N", "S", 6], [0, -1], 1),
    ([1, "S", 3], [1, -1], 1),
    (["S", 2, 3], [-1, 2], 0),
    (["N", 2, "S", 4], [0, 1, 2, -1, 2], 3),
]


@pytest.mark.parametrize(("shape", "target", "out"), REGROUPED, ids=lambda v: str(v).replace(" ", ""))
@given(context=contexts, at=pulses())
@examples(6)
def test_reshape_that_regroups_frames(shape: list[Any], target: list[int], out: int, context: str, at: Any) -> None:
    """Stacked, and split where time varies slowest; the stream's length then has a residue."""
    model = build(
        lambda g, x: g("Reshape", x, g.ints(*target)), shape, context, axis=shape.index("S"), out=out, rank=len(target)
    )
    multiple = convert(model, axis="S", pulse="P").manifest["pulse_multiple"]
    c = check(model, "S", [p if isinstance(p, str) else p * multiple for p in at])
    assert c.batch.assume.modulus == multiple
    check_least_delay(model)


@given(inner=st.sampled_from([(6, 4), (4, 6), (3, 2), (10, 4)]), cut=st.integers(0, 3), at=pulses(), batch=batches)
@examples(15)
def test_reshape_by_a_fraction(inner: tuple[int, int], cut: int, at: Any, batch: Any) -> None:
    """Frames of b elements become frames of c."""
    b, c = inner
    g = G()
    y = g("Slice", g.input("x", [batch, "S", b]), g.ints(cut), g.ints(2**62), g.ints(1))
    model = g.model(g("Reshape", y, g.ints(0, -1, c)))
    multiple = convert(model, axis="S", pulse="P").manifest["pulse_multiple"]
    check(model, "S", [p if isinstance(p, str) else p * multiple for p in at])


@given(k=st.integers(2, 4), out=st.sampled_from([1, 3]), context=contexts, at=pulses())
@examples(10)
def test_stacking_by_computed_sizes(k: int, out: int, context: str, at: Any) -> None:
    """``x.view(n, t // k, k * c)``: no -1, so the sizes agree only where k divides t."""

    def op(g: G, x: str) -> str:
        shape = g("Shape", x)
        n, t = (g("Gather", shape, g.ints(i)) for i in range(2))
        return g("Reshape", x, g("Concat", n, g("Div", t, g.ints(k)), g.ints(k * 2), axis=0))

    verify(op, ["N", "S", 2], context, at, axis=1, multiple=k)


@given(k=st.integers(2, 4), spelling=st.sampled_from(["tile", "expand", "concat"]), context=contexts, at=pulses())
@examples(20)
def test_every_frame_repeated(k: int, spelling: str, context: str, at: Any) -> None:
    """``repeat_interleave`` as exporters write it."""

    def op(g: G, x: str) -> str:
        y = g("Unsqueeze", x, g.ints(2))
        if spelling == "tile":
            y = g("Tile", y, g.ints(1, 1, k, 1))
        elif spelling == "expand":
            y = g("Expand", y, g.ints(1, 1, k, 1))
        else:
            y = g("Concat", *[y] * k, axis=2)
        return g("Reshape", y, g.ints(0, -1, 3))

    verify(op, ["N", "S", 3], context, at, axis=1)


@pytest.mark.parametrize("axis", [0, 1])
@given(context=contexts, at=pulses())
@examples(4)
def test_flatten_that_splits_frames(axis: int, context: str, at: Any) -> None:
    shape = [["S", 3, 2], ["N", "S", 3]][axis]
    verify(lambda g, x: g("Flatten", x, axis=axis), shape, context, at, axis=axis, out=1, rank=2)


MERGED: list[tuple[list[Any], list[int], str]] = [
    ([1, 3, "S"], [1, -1], r"it merges time with the 3 entries in front of it.*: \[1, 3, S\] becomes \[1, 3\*S\]"),
    (["S", 3], [3, -1], r"it does not keep frames together: \[S, 3\] becomes \[3, S\]"),
    ([2, "S", 3], [-1, 3], r"it merges time with the 2 entries in front of it.*becomes \[2\*S, 3\]"),
    ([2, "S"], [-1, 4], r"it does not keep frames together: \[2, S\] becomes \[S//2, 4\]"),
    ([4, "S", 3], [2, -1, 3], r"it does not keep frames together"),
]


@pytest.mark.parametrize(("shape", "target", "why"), MERGED, ids=lambda v: str(v).replace(" ", ""))
def test_merging_time_is_refused(shape: list[Any], target: list[int], why: str) -> None:
    """``[S, 3]`` to ``[3, S]`` has the right sizes and mixes everything."""
    with pytest.raises(Refusal) as e:
        verify(lambda g, x: g("Reshape", x, g.ints(*target)), shape, axis=shape.index("S"))
    assert "cannot pulsify Reshape node" in str(e.value) and f"on axis {shape.index('S')}" in str(e.value)
    assert e.match(f"(?s){why}")


def test_merging_time_with_the_batch_and_the_features_is_refused() -> None:
    """Behind features in front of time, streams of one row are torn apart. (The batch alone: test_merged_time.py.)"""
    with pytest.raises(Refusal, match=r"(?s)with the 3\*N entries in front .*export the model with a batch of 1"):
        verify(lambda g, x: g("Reshape", x, g.ints(-1)), ["N", 3, "S"], axis=2)


def test_a_baked_time_axis_is_named_with_numbers() -> None:
    with pytest.raises(Refusal, match=r"(?s)Reshape node 'n_reshape_\d'.*it reshapes 6\*S elements to \[1, 96, 6\]"):
        verify(lambda g, x: g("Reshape", x, g.ints(1, 96, 6)), [1, "S", 6], axis=1)


def test_flatten_that_merges_is_refused() -> None:
    with pytest.raises(Refusal, match=r"Flatten node .*on axis 2\n  why:  it merges time with the 3 entries in front"):
        verify(lambda g, x: g("Flatten", x), [1, 3, "S"])


def test_squeezing_time_is_refused() -> None:
    with pytest.raises(Refusal, match="it squeezes axis 1, which is S long"):
        verify(lambda g, x: g("Squeeze", x, g.ints(1)), [2, "S"], axis=1)
    with pytest.raises(Refusal):
        verify(lambda g, x: g("Squeeze", x, g.ints(0)), [2, "S"], axis=1)


@given(batch=batches, at=pulses(), swaps=st.lists(st.sampled_from([(0, 2, 1), (2, 0, 1), (1, 2, 0), (2, 1, 0)]), min_size=1, max_size=3))
@examples(10)
def test_axis_moves_between_windows(batch: Any, at: Any, swaps: list[tuple[int, ...]]) -> None:
    """Buffers sit on whatever axis time happens to be."""
    g = G()
    x = g.input("x", [batch, 3, "S"])
    y, time = x, 2
    for perm in swaps:
        y = g("Transpose", y, perm=perm)
        time = perm.index(time)
        starts = [g("Slice", y, g.ints(k), g.ints(k - 2 if k < 2 else 2**62), g.ints(time)) for k in (0, 1, 2)]
        y = g("Sum", starts[0], g("Tanh", starts[1]), starts[2])
    check(g.model(y), "S", at)
