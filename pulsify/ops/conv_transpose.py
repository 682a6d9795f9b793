"""Transposed convolution of any rank: ``full[i] = sum of w[k] * in[j] over j, k with u*j + dilation*k = i`` (+ bias).

``u`` is the stride, ``w = (K - 1)*dilation + 1`` the span of the kernel; the output is ``full`` without ``before``
frames at the start and ``after`` at the end, ``L_out = u*(L - 1) + w + output_padding - before - after``.

Region transform on a spatial time axis, in *block form* (``before = u*(span - 1)``, ``after - output_padding = w - u``):
``out [u*q, u*(q+1)) <- in [q, q + span)`` with ``span = floor((w - 1)/u) + 1`` frames. Every other form is that one
between a Pad and a Slice (rewrites/block_transposed.py), so the delay is multiplied by u and grows by ``before``.
"""

from __future__ import annotations

from dataclasses import dataclass

from pulsify.dim import Dim, DimLike, symbols_of
from pulsify.facts import Need, Plan, Stream, Window, WireFact
from pulsify.ops._rule import NodeView, Rule, register

__all__ = ["ConvTranspose", "Transposed", "transposed"]


@dataclass(frozen=True, slots=True)
class Transposed:
    """The geometry of one spatial axis; ``axis`` counts all axes. ``before`` and ``after`` are cut off the output."""

    axis: int
    stride: int
    width: int
    before: int
    after: int
    extra: int

    @property
    def span(self) -> int:
        """Input frames that a block of ``stride`` output frames depends on."""
        return (self.width - 1) // self.stride + 1

    @property
    def surplus(self) -> int:
        """Output frames beyond ``stride`` per input frame."""
        return self.width - self.stride + self.extra - self.before - self.after

    @property
    def is_block(self) -> bool:
        return self.before == self.stride * (self.span - 1) and self.after - self.extra == self.width - self.stride

    def length(self, given: DimLike) -> DimLike:
        return given * self.stride + self.surplus


def transposed(n: NodeView) -> list[Transposed]:
    """The geometry of every spatial axis, automatic padding resolved as onnxruntime does.

    ``SAME_*`` cuts ``max(w - u + output_padding, 0)`` frames in all, whatever the length; ``output_shape`` cuts down
    to a length, the odd frame first unless SAME_UPPER.
    """
    shape, w = n.shape(0), n.shape(1)
    spatial = len(shape) - 2
    kernel = n.attr("kernel_shape") or w[2:]
    if len(kernel) != spatial:
        n.refuse(f"a kernel of {len(kernel)} axes over an input of {spatial} spatial axes", input=0)
    strides = n.attr("strides", (1,) * spatial)
    dilations = n.attr("dilations", (1,) * spatial)
    extras = n.attr("output_padding", (0,) * spatial)
    pads = n.attr("pads", (0,) * (2 * spatial))
    auto = n.attr("auto_pad", "NOTSET")
    wanted = n.attr("output_shape")
    out = []
    for i in range(spatial):
        size = kernel[i]
        if not isinstance(size, int):
            n.refuse("its kernel size is unknown", input=1)
        u, extra = int(strides[i]), int(extras[i])
        width = (size - 1) * int(dilations[i]) + 1
        before, after = int(pads[i]), int(pads[i + spatial])
        if wanted:
            length, goal = shape[i + 2], int(wanted[i - spatial])
            if isinstance(length, Dim):
                if n.symbol in symbols_of(length):
                    n.refuse(
                        f"the time axis is baked in: its output_shape fixes {goal} frames",
                        axis=i + 2,
                        hint="export the model with pads and output_padding instead of output_shape",
                    )
                n.refuse(f"its output_shape fixes {goal} entries made of {length}", axis=i + 2)
            whole = (int(length) - 1) * u + extra + width
            before, after = _split(max(0, whole - goal), auto)
            extra += goal - (whole - before - after)
        elif auto == "VALID":
            before = after = 0
        elif auto in ("SAME_UPPER", "SAME_LOWER"):
            before, after = _split(max(0, width - u + extra), auto)
        out.append(Transposed(i + 2, u, width, before, after, extra))
    return out


def _split(total: int, auto: str) -> tuple[int, int]:
    half = total // 2
    return (half, total - half) if auto == "SAME_UPPER" else (total - half, half)


class ConvTranspose(Rule):
    status, note = "conditions", "time on a spatial axis or in the batch; no output_shape along time"

    def infer(self, n: NodeView) -> list[WireFact]:
        f, x, w = n.fact(0), n.shape(0), n.shape(1)
        spatial = []
        for t in transposed(n):
            length = t.length(x[t.axis])
            if symbols_of(length) <= {n.symbol} and not n.assume.ge(length, 1, n.name):
                n.refuse(f"it cuts {t.before} and {t.after} frames off an output that is no longer", axis=t.axis)
            spatial.append(length)
        return [WireFact(f.dtype, (x[0], w[1] * n.attr("group", 1), *spatial))]

    def plan(self, n: NodeView) -> Plan:
        for k in range(1, len(n.inputs)):
            if n.streaming(k):
                n.refuse("its weights change with time", input=k, hint="only the data of a convolution can stream")
        streams = []
        for axis in n.streaming(0):
            if axis == 1:
                n.refuse(
                    "it mixes all channels, and time is the channel axis",
                    axis=1,
                    hint="give another axis as time, or export with time on a spatial axis",
                )
            window = Window()
            if axis > 1:
                (t,) = (t for t in transposed(n) if t.axis == axis)
                assert t.is_block, "declutter brings transposed convolutions into block form"
                window = Window(1, 0, t.span, t.stride)
            streams.append(Stream(0, axis, (Need(0, axis, window),)))
        return Plan(tuple(streams))


register(ConvTranspose(), "ConvTranspose")
