"""Chains of rational rates: strided slices, convolutions, upsampling and regrouping in any order."""

from __future__ import annotations

from fractions import Fraction
from math import lcm
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.contexts import batches, cut, pad, pulses, window
from tests.contract_check import check
from tests.graphs import G
from tests.profiles import examples

#: One step: its rate, and the wire after it.
STEPS = {
    "stride": lambda g, x, k: g("Slice", x, g.ints(k - 1), g.ints(2**62), g.ints(2), g.ints(k)),
    "conv": lambda g, x, k: g("Conv", x, g.weight(2, 2, 3), strides=[k], pads=[1, 1]),
    "pool": lambda g, x, k: g("MaxPool", x, kernel_shape=[k + 1], strides=[k]),
    "transposed": lambda g, x, k: g("ConvTranspose", x, g.weight(2, 2, 4), g.weight(2), strides=[k], pads=[1, 2]),
    "linear": lambda g, x, k: g("Resize", x, "", g.const([1, 1, k], "float32"), mode="linear"),
    "nearest": lambda g, x, k: g(
        "Resize", x, "", g.const([1, 1, k], "float32"), coordinate_transformation_mode="asymmetric"
    ),
    "late": lambda g, x, k: window(g, x, 2),
    "padded": lambda g, x, k: pad(g, x, 2, 3, k, 1, 0.5),
}
DOWN, UP = ("stride", "conv", "pool"), ("transposed", "linear", "nearest")


@given(
    steps=st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(2, 3)), min_size=2, max_size=4), batch=batches,
    at=pulses(),
)  # fmt: skip
@examples(40)
def test_chains(steps: list[tuple[str, int]], batch: Any, at: Any) -> None:
    """The pulse is a multiple of every denominator on the way."""
    g = G()
    y = g.input("x", [batch, 2, "S"])
    rate, multiple = Fraction(1), 1
    for name, k in steps:
        y = g("Tanh", STEPS[name](g, y, k))
        rate *= Fraction(1, k) if name in DOWN else k if name in UP else 1
        multiple = lcm(multiple, rate.denominator)
    c = check(g.model(y), "S", [p if isinstance(p, str) else p * multiple for p in at[:1]] + list(at[1:]))
    assert c.manifest["pulse_multiple"] == multiple


@given(p=st.integers(2, 4), q=st.integers(2, 4), batch=batches, at=pulses())
@examples(15)
def test_branches_of_equal_rate_meet(p: int, q: int, batch: Any, at: Any) -> None:
    """Up by p and down by q, one way and the other."""
    g = G()
    x = g.input("x", [batch, 2, "S"])
    a = STEPS["stride"](g, STEPS["nearest"](g, x, p), q)
    y = g("Reshape", g("Transpose", x, perm=[0, 2, 1]), g.ints(0, -1, 2 * q))
    y = g("MatMul", y, g.weight(2 * q, 2 * p))
    b = g("Transpose", g("Reshape", y, g.ints(0, -1, 2)), perm=[0, 2, 1])
    multiple = Fraction(p, q).denominator if p % q else 1
    c = check(g.model(g("Add", a, cut(g, b, 2))), "S", [k * q for k in at if isinstance(k, int)] + ["P"])
    assert c.manifest["pulse_multiple"] % multiple == 0 and c.batch.assume.modulus == q
