"""Resize: nearest and linear along time, every local coordinate mode, by scales or sizes; other axes at any ratio."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.api import convert
from pulsify.errors import Refusal
from tests.contexts import CONTEXTS, batches, build, contexts, pulses
from tests.contract_check import check, check_least_delay
from tests.graphs import G
from tests.profiles import examples

COORDINATES = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "asymmetric")
ROUNDING = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def resize(scales: list[float], **attributes: Any):
    return lambda g, x: g("Resize", x, "", g.const(scales, np.float32), **attributes)


def sized(axis: int, p: int, q: int, rank: int = 3, **attributes: Any):
    """The size of one axis computed from the shape: ``len * p // q``."""

    def op(g: G, x: str) -> str:
        shape = g("Shape", x)
        sizes = [g("Gather", shape, g.ints(a)) for a in range(rank)]
        sizes[axis] = g("Div", g("Mul", sizes[axis], g.ints(p)), g.ints(q))
        return g("Resize", x, "", "", g("Concat", *sizes, axis=0), **attributes)

    return op


def streams(model: Any, at: Any, least: bool = True) -> None:
    multiple = convert(model, axis="S", pulse="P").manifest["pulse_multiple"]
    check(model, "S", [p if isinstance(p, str) else p * multiple for p in at])
    if least:
        check_least_delay(model)


@pytest.mark.parametrize("context", CONTEXTS)
@given(
    k=st.integers(2, 5),
    where=st.sampled_from(COORDINATES),
    rounding=st.sampled_from(ROUNDING),
    batch=batches,
    at=pulses(),
)
@examples(4)
def test_nearest_by_a_number(context: str, k: int, where: str, rounding: str, batch: Any, at: Any) -> None:
    op = resize([1, 1, k], coordinate_transformation_mode=where, nearest_mode=rounding)
    # Where all frames are rounded down from between two, the first alone waits for the one it is clamped to.
    streams(
        build(op, [batch, 2, "S"], context),
        at,
        least=context != "early" and (rounding != "floor" or where == "asymmetric"),
    )


@given(
    r=st.sampled_from([(1, 2), (1, 4), (1, 8), (3, 2), (5, 4), (3, 4), (3, 8), (1, 3), (2, 3), (4, 3), (1, 5), (7, 5)]),
    where=st.sampled_from(COORDINATES), rounding=st.sampled_from(ROUNDING), context=contexts, at=pulses(), batch=batches,
)  # fmt: skip
@examples(15)
def test_nearest_by_a_ratio(r: tuple[int, int], where: str, rounding: str, context: str, at: Any, batch: Any) -> None:
    op = resize([1, 1, r[0] / r[1]], coordinate_transformation_mode=where, nearest_mode=rounding)
    model = build(op, [batch, 2, "S"], context)
    try:
        convert(model, axis="S")
    except Refusal as e:
        assert "exactly between two inputs" in e.why or "half_pixel_symmetric" in e.why, e
        return
    streams(model, at, least=False)


@pytest.mark.parametrize("context", CONTEXTS)
@given(k=st.integers(2, 5), where=st.sampled_from(COORDINATES), batch=batches, at=pulses())
@examples(4)
def test_linear_by_a_number(context: str, k: int, where: str, batch: Any, at: Any) -> None:
    op = resize([1, 1, k], mode="linear", coordinate_transformation_mode=where)
    streams(build(op, [batch, 2, "S"], context), at, least=context != "early")


@given(
    r=st.sampled_from([(1, 2), (1, 3), (1, 4), (3, 2), (2, 3), (4, 3), (5, 4)]),
    where=st.sampled_from(COORDINATES), context=contexts, at=pulses(), batch=batches,
)  # fmt: skip
@examples(10)
def test_linear_by_a_ratio(r: tuple[int, int], where: str, context: str, at: Any, batch: Any) -> None:
    if where == "half_pixel_symmetric" and r[1] > 1:
        where = "half_pixel"
    streams(
        build(
            resize([1, 1, r[0] / r[1]], mode="linear", coordinate_transformation_mode=where), [batch, 2, "S"], context
        ),
        at,
        False,
    )


@given(
    r=st.sampled_from([(2, 1), (3, 1), (1, 2), (1, 4), (3, 2)]), mode=st.sampled_from(["nearest", "linear"]),
    where=st.sampled_from(COORDINATES), context=contexts, at=pulses(),
)  # fmt: skip
@examples(10)
def test_by_sizes(r: tuple[int, int], mode: str, where: str, context: str, at: Any) -> None:
    """A ratio that holds only for some lengths is recorded with them."""
    op = sized(2, *r, mode=mode, coordinate_transformation_mode=where)
    model = build(op, ["N", 2, "S"], context)
    assert convert(model, axis="S", pulse="P").batch.assume.modulus == r[1]
    streams(model, at, least=False)


@given(
    time=st.integers(0, 3), scale=st.sampled_from([0.5, 1, 2]), other=st.sampled_from([0.5, 1.0, 1.7, 3]), at=pulses(),
    mode=st.sampled_from(["nearest", "linear"]), where=st.sampled_from([*COORDINATES, "align_corners"]), context=contexts,
)  # fmt: skip
@examples(15)
def test_beside_other_axes(time: int, scale: float, other: float, at: Any, mode: str, where: str, context: str) -> None:
    """Images with time on any axis; the others may be resized as they like."""
    shape: list[Any] = [2, 3, 5, 6]
    shape[time] = "S"
    scales = [1.0, 1.0, other, other]
    if time > 1:
        scales[time] = scale
    op = resize(scales, mode=mode, coordinate_transformation_mode=where)
    if where == "align_corners" and time > 1 and scale != 1:
        with pytest.raises(Refusal, match="align_corners"):
            convert(build(op, shape, context, axis=time), axis="S")
        return
    if where == "half_pixel_symmetric" and scale == 0.5:
        where = "asymmetric"
        op = resize(scales, mode=mode, coordinate_transformation_mode=where)
    streams(build(op, shape, context, axis=time), at, least=False)


def test_upsample_arrives_as_resize() -> None:
    g = G(opset=9)
    x = g.input("x", ["N", 2, "S"])
    streams(g.model(g("Upsample", x, g.const([1, 1, 4], np.float32), mode="nearest")), (1, 3, "P"))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(
    ("op", "opset", "scale"), [("Upsample", 9, k) for k in (1.5, 2, 3)] + [("Resize", 10, k) for k in (0.25, 0.5, 0.75, 1.5, 2, 3)]
)
def test_coordinates_before_opset_11(op: str, opset: int, scale: float, mode: str) -> None:
    """Frame i lies at ``i/scale``; nearest is the frame above where the axis shrinks, the one below where not."""
    g = G(opset=opset)
    check(older(g, g(op, g.input("x", [1, 2, "S"]), g.const([1, 1, scale], np.float32), mode=mode)), "S", [12])


@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize(("time", "other"), [(0.5, 1.5), (1.5, 0.75), (3, 0.5), (0.5, 0.75)])
def test_axes_that_grow_beside_some_that_shrink_before_opset_11(time: float, other: float, computed: bool) -> None:
    g = G(opset=10)
    x = g.input("x", [1, 1, 8, "S"])
    scales = g.const([1, 1, other, time], np.float32)
    if computed:
        whole = g("Cast", g("Gather", g("Shape", x), g.ints(0)), to=1)
        scales = g("Concat", *(g("Mul", whole, g.const([k], np.float32)) for k in (1, 1, other, time)), axis=0)
    check(older(g, g("Resize", x, scales, mode="nearest")), "S", [12])


def older(g: G, y: str) -> onnx.ModelProto:
    model = g.model(y)
    model.ir_version = 4
    return model


def test_nearest_upsampling_is_one_node() -> None:
    g = G()
    x = g.input("x", ["N", 2, "S"])
    y = g(
        "Resize",
        x,
        "",
        g.const([1, 1, 256], np.float32),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    c = check(g.model(y), "S", (1, 4))
    assert [n.op_type for n in c.model.graph.node] == ["Resize"]
    assert not c.manifest["states"] and c.manifest["outputs"][0]["delay"] == 0


def test_linear_upsampling_waits_for_half_a_frame() -> None:
    """Output frames of an input frame reach half a frame beyond it."""
    for k, delay in ((2, 1), (4, 2), (5, 2), (8, 4)):
        g = G()
        x = g.input("x", ["N", 2, "S"])
        c = check(g.model(g("Resize", x, "", g.const([1, 1, k], np.float32), mode="linear")))
        assert c.manifest["outputs"][0]["delay"] == delay


@pytest.mark.parametrize("dtype", [np.int32, np.uint8, np.int8])
def test_types(dtype: Any) -> None:
    import onnx

    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for scale, where in ((2, "asymmetric"), (0.5, "half_pixel"), (1.5, "half_pixel")):
        op = resize([1, 1, scale], coordinate_transformation_mode=where)
        streams(build(op, [1, 2, "S"], "alone", dtype=kind, result=kind), (1, 3, "P"), False)


def test_refusals() -> None:
    def refused(match: str, op: Any) -> None:
        with pytest.raises(Refusal, match=match) as e:
            convert(build(op, [1, 2, "S"]), axis="S")
        assert "Resize node" in str(e.value) and "on axis 2" in str(e.value)

    refused(
        "align_corners.* depend on the length",
        resize([1, 1, 2], mode="linear", coordinate_transformation_mode="align_corners"),
    )
    refused("cubic interpolation along time", resize([1, 1, 2], mode="cubic"))
    refused("antialias", resize([1, 1, 0.5], mode="linear", antialias=1))
    refused("no ratio of small numbers", resize([1, 1, float(np.float32(np.pi))]))
    # 1/7 in float32 is a little more than 1/7: x is 3 - 4e-7 where it should be 3.
    refused(r"lie exactly between two inputs \(floor at 1/7\)", resize([1, 1, 1 / 7], nearest_mode="floor"))
    refused(
        "the time axis is baked in: it resizes S frames to 40", lambda g, x: g("Resize", x, "", "", g.ints(1, 2, 40))
    )
    refused(
        "half_pixel_symmetric at scale 3/2", resize([1, 1, 1.5], coordinate_transformation_mode="half_pixel_symmetric")
    )


def test_a_ratio_of_lengths_that_varies_is_refused() -> None:
    def op(g: G, x: str) -> str:
        shape = g("Shape", x)
        sizes = [g("Gather", shape, g.ints(0)), g.ints(2), g("Add", g("Gather", shape, g.ints(2)), g.ints(1))]
        return g("Resize", x, "", "", g("Concat", *sizes, axis=0))

    with pytest.raises(Refusal, match=r"it resizes S frames to S \+ 1, and the ratio depends on the length"):
        convert(build(op, [1, 2, "S"]), axis="S")


@given(data=st.data())
@examples(30)
def test_other_axes_leave_frames_alone(data: st.DataObject) -> None:
    """One, two or three axes interpolated in front of time, behind it or on both sides, by scales or sizes: no frame is read
    beside another, whatever it holds."""
    g, mode = G(), data.draw(st.sampled_from(["linear", "cubic"]), "mode")
    rank = data.draw(st.integers(3, 5), "rank") if mode == "linear" else 4
    time = data.draw(st.integers(1, rank - 1), "time")
    shape: list[int | str] = [data.draw(st.sampled_from([1, "N"])), *[3] * (rank - 1)]
    shape[time] = "S"
    # What the runtime has of each rank.
    last = {3: [1, 2], 4: data.draw(st.sampled_from([[1, 2], [2, 3]])) if mode == "linear" else [2, 3], 5: [2, 3, 4]}[rank]
    others = [a for a in last if a != time]
    axes = data.draw(st.lists(st.sampled_from(others), min_size=1, max_size=2 if mode == "cubic" else 3, unique=True), "axes")
    where = data.draw(st.sampled_from(["half_pixel", "asymmetric", "pytorch_half_pixel", "align_corners"]))
    x = g.input("x", shape)
    if data.draw(st.booleans(), "sizes"):
        y = g("Resize", x, "", "", g.ints(*[data.draw(st.integers(1, 7)) for _ in axes]), axes=axes, mode=mode, coordinate_transformation_mode=where)
    else:
        scales = [data.draw(st.sampled_from([0.5, 1.0, 1.5, 2.0, 3.0])) if a in axes else 1.0 for a in range(rank)]
        y = g("Resize", x, "", g.const(np.float32(scales)), mode=mode, coordinate_transformation_mode=where)
    check(g.model(y), pulses=data.draw(pulses()))


@pytest.mark.parametrize("mode, scales", [("linear", (1, 1, 1, 1.2)), ("nearest", (1, 1, 1, 1.2)), ("nearest", (1, 1.2, 1, 2)), ("cubic", (1, 1, 1.2, 2))])
def test_a_scale_that_leaves_a_length_as_it_is(mode: str, scales: tuple[float, ...]) -> None:
    """``floor(1.2*4) = 4``: a copy alone, and as many numbers at other places beside an axis whose length changes."""
    g = G()
    shape = [1, "S", 4, 4] if mode == "cubic" else [1, 4, "S", 4]
    check(g.model(g("Resize", g.input("x", shape), "", g.const(np.float32(scales)), mode=mode)), pulses=(1, 4))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_beside_time_such_a_scale_is_refused(mode: str) -> None:
    g = G()
    model = g.model(g("Resize", g.input("x", [1, 4, "S", 4]), "", g.const(np.float32([1, 1, 2, 1.2])), mode=mode))
    with pytest.raises(Refusal, match="leaves its length as it is"):
        convert(model, axis="S")


def test_interpolation_of_an_axis_of_any_length() -> None:
    """Frame by frame it needs no length; side by side frames would be read by each other."""
    g = G()
    model = g.model(g("Resize", g.input("x", ["N", 2, "S", "F"]), "", g.const(np.float32([1, 1, 1, 2])), mode="linear"))
    convert(model, axis="S", pulse=1).verify()
    with pytest.raises(Refusal, match="whose length F is not a fixed size"):
        convert(model, axis="S", pulse=4)
