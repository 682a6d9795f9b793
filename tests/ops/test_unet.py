"""U-Nets: strided down, transposed or resized up, skips by Add or Concat. The lengths agree only for some S."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulsify.api import convert
from pulsify.errors import Refusal
from tests.contexts import batches, pulses
from tests.contract_check import check, check_least_delay
from tests.graphs import G
from tests.profiles import examples


def down(g: G, x: str, stride: int, kernel: int, causal: bool, how: str) -> str:
    if how == "pool":
        return g("AveragePool", x, kernel_shape=[stride], strides=[stride])
    room = max(kernel - stride, 0)
    pads = [room, 0] if causal else [room // 2, room - room // 2]
    return g("Conv", x, g.weight(3, 3, kernel), g.weight(3), strides=[stride], pads=pads)


def up(g: G, x: str, stride: int, kernel: int, causal: bool, how: str) -> str:
    """``stride`` frames out per frame in, exactly."""
    if how == "transposed":
        kernel = max(kernel, stride)
        room = kernel - stride
        pads = [0, room] if causal else [room // 2, room - room // 2]
        return g("ConvTranspose", x, g.weight(3, 3, kernel), g.weight(3), strides=[stride], pads=pads)
    if how == "shuffle":
        y = g("Conv", x, g.weight(3 * stride, 3, 1))
        y = g("Reshape", g("Transpose", y, perm=[0, 2, 1]), g.ints(0, -1, 3))
        return g("Transpose", y, perm=[0, 2, 1])
    mode = (
        {"mode": "linear"}
        if how == "linear"
        else {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    )
    scales = g.const([1.0, 1.0, float(stride)], "float32")
    return g("Resize", x, "", scales, **mode)


def unet(g: G, x: str, strides: list[int], kernel: int, causal: bool, down_how: str, up_how: str, skip: str) -> str:
    """Skips around every level; what the lengths have to be follows from the strides."""
    skips = []
    for s in strides:
        skips.append(x)
        x = g("Tanh", down(g, x, s, kernel, causal, down_how))
    for s, kept in zip(reversed(strides), reversed(skips), strict=True):
        x = up(g, x, s, kernel, causal, up_how)
        x = g("Add", x, kept) if skip == "add" else g("Conv", g("Concat", kept, x, axis=1), g.weight(3, 6, 1))
    return x


UPS = ["transposed", "shuffle", "linear", "nearest"]


@given(
    strides=st.lists(st.integers(2, 4), min_size=1, max_size=3), kernel=st.integers(1, 5), causal=st.booleans(),
    down_how=st.sampled_from(["conv", "conv", "pool"]), up_how=st.sampled_from(UPS), skip=st.sampled_from(["add", "concat"]),
    batch=batches, at=pulses(),
)  # fmt: skip
@examples(25)
def test_unets(
    strides: list[int], kernel: int, causal: bool, down_how: str, up_how: str, skip: str, batch: Any, at: Any
) -> None:  # fmt: skip
    total = 1
    for s in strides:
        total *= s
    if down_how == "conv":
        kernel = max(kernel, *strides)  # no frame is skipped, so the lengths are those of the strides
    g = G()
    x = g.input("x", [batch, 3, "S"])
    model = g.model(unet(g, x, strides, kernel, causal, down_how, up_how, skip))
    c = check(model, "S", [p if isinstance(p, str) else p * total for p in at[:1]] + list(at[1:]))
    assert c.manifest["pulse_multiple"] == total
    assert c.batch.assume.modulus == total
    assert all(k.remainder == 0 for k in c.batch.assume.conditions)


@pytest.mark.parametrize("up_how", UPS)
def test_least_delay(up_how: str) -> None:
    g = G()
    x = g.input("x", ["N", 3, "S"])
    check_least_delay(g.model(unet(g, x, [2, 2], 4, False, "conv", up_how, "add")))


def test_causal_unet_has_the_delay_of_its_blocks_only() -> None:
    """A frame waits for the block of 4 it is downsampled with: pulses of 4 have no delay, in frames of S."""
    g = G()
    x = g.input("x", ["N", 3, "S"])
    c = check(g.model(unet(g, x, [2, 2], 4, True, "conv", "transposed", "add")), "S", (4, 8, "P"))
    assert c.manifest["outputs"][0]["delay"] == 0
    assert c.manifest["valid"] is None


def test_the_condition_is_reported() -> None:
    """A skip whose lengths agree for S a multiple of 4 only: found, and in the manifest."""
    g = G()
    x = g.input("x", [1, 3, "S"])
    c = convert(g.model(unet(g, x, [4], 4, True, "conv", "transposed", "add")), axis="S", pulse=8)
    assert [(k.modulus, k.remainder) for k in c.batch.assume.conditions if k.modulus > 1] == [(4, 0)]
    assert not c.batch.assume.allows(10) and c.batch.assume.allows(12)


def test_a_residue_other_than_zero() -> None:
    """Convolutions without padding: lengths agree for odd S only."""
    g = G()
    x = g.input("x", ["N", 3, "S"])
    y = g("Conv", x, g.weight(3, 3, 3), strides=[2])
    y = g("ConvTranspose", y, g.weight(3, 3, 3), strides=[2])
    model = g.model(g("Add", x, y))
    c = check(model, "S", (2, 4, "P"))
    assert {(k.modulus, k.remainder) for k in c.batch.assume.conditions if k.modulus > 1} == {(2, 1)}
    check_least_delay(model)


def test_a_skip_cropped_to_fit_needs_no_condition() -> None:
    """``skip[:, :, :up.shape[2]]``: any length."""
    g = G()
    x = g.input("x", ["N", 3, "S"])
    y = g("ConvTranspose", g("Conv", x, g.weight(3, 3, 4), strides=[2]), g.weight(3, 3, 4), strides=[2])
    size = g("Gather", g("Shape", y), g.ints(2))
    kept = g("Slice", x, g.ints(0), size, g.ints(2))
    c = check(g.model(g("Add", kept, y)), "S", (2, 6, "P"))
    assert c.batch.assume.modulus == 1


def test_an_upsampled_tail_padded_to_fit() -> None:
    """``F.pad(up, (0, skip.shape[2] - up.shape[2]))``: one frame where S is odd, none where it is even."""
    g = G()
    x = g.input("x", ["N", 3, "S"])
    y = g("ConvTranspose", g("Conv", x, g.weight(3, 3, 2), strides=[2]), g.weight(3, 3, 2), strides=[2])
    gap = g("Sub", g("Gather", g("Shape", x), g.ints(2)), g("Gather", g("Shape", y), g.ints(2)))
    pads = g("Concat", g.ints(0, 0, 0, 0, 0), gap, axis=0)
    c = check(g.model(g("Add", x, g("Pad", y, pads))), "S", (2, 6, "P"))
    assert c.batch.assume.modulus == 1


def test_lengths_that_never_agree_are_refused() -> None:
    g = G()
    x = g.input("x", [1, 3, "S"])
    y = g("ConvTranspose", x, g.weight(3, 3, 4), strides=[2])
    with pytest.raises(Refusal, match=r"its inputs are S and 2\*S \+ 2 frames long|2\*S \+ 2 and S"):
        convert(g.model(g("Add", x, y)), axis="S")
