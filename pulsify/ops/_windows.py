"""Geometry of sliding windows: ``out[j]`` reads ``in[s*j - b + dilation*k]``, ``0 <= k < K``.

Length law: ``L_out = floor((L_in + before + after - w) / s) + 1`` with span ``w = (K - 1)*dilation + 1``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pulsify.dim import Dim, DimLike, floor_div, symbols_of
from pulsify.facts import Need, Stream, Window
from pulsify.ops._rule import NodeView

__all__ = ["Geometry", "geometry", "window_length", "window_stream"]


@dataclass(frozen=True, slots=True)
class Geometry:
    """The window on one spatial axis; ``axis`` counts all axes of the tensor."""

    axis: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def span(self) -> int:
        return (self.kernel - 1) * self.dilation + 1


def geometry(n: NodeView, kernel: Sequence[int], k: int = 0) -> list[Geometry]:
    """The windows of a convolution or pool over input k, automatic padding resolved to numbers."""
    shape = n.shape(k)
    spatial = len(shape) - 2
    if spatial != len(kernel):
        n.refuse(f"a kernel of {len(kernel)} axes over an input of {spatial} spatial axes", input=k)
    strides = n.attr("strides", (1,) * spatial)
    dilations = n.attr("dilations", (1,) * spatial)
    pads = n.attr("pads", (0,) * (2 * spatial))
    auto = n.attr("auto_pad", "NOTSET")
    out = []
    for i in range(spatial):
        g = Geometry(i + 2, kernel[i], strides[i], dilations[i], pads[i], pads[i + spatial])
        if auto == "VALID":
            g = Geometry(g.axis, g.kernel, g.stride, g.dilation, 0, 0)
        elif auto in ("SAME_UPPER", "SAME_LOWER"):
            before, after = _same(n, shape[i + 2], g, auto == "SAME_LOWER")
            g = Geometry(g.axis, g.kernel, g.stride, g.dilation, before, after)
        out.append(g)
    return out


def _same(n: NodeView, length: DimLike, g: Geometry, lower: bool) -> tuple[int, int]:
    """Padding for ``ceil(L/s)`` outputs: ``max((ceil(L/s) - 1)*s + w - L, 0)`` in all, the odd one last (or first).

    The total depends on ``L mod s``. A stream cannot know that at its start, so where the padding before the first
    frame would differ, L must be a multiple of s (recorded as a condition).
    """
    s, w = g.stride, g.span

    def split(residue: int) -> tuple[int, int]:
        total = max(w - (residue or s), 0)
        half = total // 2
        return (total - half, half) if lower else (half, total - half)

    if not isinstance(length, Dim):
        return split(int(length) % s)
    options = [split(r) for r in range(s)]
    if len({b for b, _ in options}) == 1:
        before = options[0][0]
        after = max(a for _, a in options)
        wanted = floor_div(length + (s - 1), s)
        if floor_div(length + (before + after - w), s) + 1 == wanted:
            return before, after
    if not n.assume.divides(s, length, n.name):
        n.refuse(
            f"its automatic padding depends on {length} modulo its stride {s}, which never is 0",
            axis=g.axis,
            hint="export the model with explicit padding",
        )
    return options[0]




def window_length(n: NodeView, length: DimLike, g: Geometry, ceil_mode: bool = False) -> DimLike:
    """The length law, on a symbolic or a known length."""
    room = length + (g.before + g.after - g.span)
    if symbols_of(room) <= {n.symbol} and not n.assume.ge(room, 0, n.name):
        n.refuse(
            f"a window of {g.span} frames does not fit {length} frames padded by {g.before} and {g.after}", axis=g.axis
        )
    out = floor_div(room + (g.stride - 1 if ceil_mode else 0), g.stride) + 1
    if ceil_mode and g.stride > 1:
        # A window that would start in the padding after the end is left out.
        last = (out - 1) * g.stride
        if n.assume.ge(last, length + g.before, n.name):
            return out - 1
    return out


def window_stream(axis: int, g: Geometry, k: int = 0, output: int = 0) -> Stream:
    """The region transform of an unpadded window."""
    return Stream(output, axis, (Need(k, g.axis, Window(g.stride, g.before, g.span)),))
