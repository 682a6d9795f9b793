"""The batch merged with another axis in front of a window: memory and masks are kept where it is an axis of its own."""

from __future__ import annotations

import pytest

from tests.contract_check import check
from tests.graphs import G


@pytest.mark.parametrize("outer", [False, True])
@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("op", ["Conv", "Padded", "ConvTranspose"])
def test_windows_of_merged_rows(op: str, before: int, outer: bool) -> None:
    g = G()
    x = g.input("x", ["N", 6, "S"])
    if before:
        x = g("Conv", x, g.weight(6, 6, before), pads=[1, 1])
    y = g("Reshape", x, g.ints(0, 2, 3, -1))
    if outer:
        y = g("Transpose", y, perm=[1, 0, 2, 3])
    y = g("Reshape", g("Exp", y), g("Concat", g.ints(-1, 3), g("Shape", x, start=2, end=3), axis=0))
    if op == "ConvTranspose":
        y = g("ConvTranspose", y, g.weight(3, 2, 5), strides=[2], pads=[1, 2])
    else:
        y = g("Conv", y, g.weight(2, 3, 4), pads=[2, 1] if op == "Padded" else [0, 0])
    size = g("Shape", y, start=2, end=3)
    back = g("Reshape", y, g("Concat", g.ints(2, -1, 2) if outer else g.ints(-1, 4), size, axis=0))
    check(g.model(g("Transpose", back, perm=[1, 0, 2, 3]) if outer else back), pulses=(1, 2, 5))
