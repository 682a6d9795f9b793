"""Resize: nearest and linear interpolation along time by a ratio ``p/q`` (frames out per frames in).

Output frame i lies at ``x(i)`` on the input: ``i*q/p`` (asymmetric), ``(i + 1/2)*q/p - 1/2`` (half_pixel), ``(i +
1/2)*q/p`` (tf_half_pixel_for_nn); x grows by q where i grows by p. *nearest* takes the frame x rounds to, *linear* mixes
``floor(x)`` and the next; frames outside the input are its first and last. Declutter (rewrites/split_resizes.py) writes
time alone as ``Slice(start=c) after Resample after Pad(edge)``; Resample makes blocks of p frames:

    ``out[p*t + i] = (1 - f[i])*in[q*t + s + o[i]] + f[i]*in[q*t + s + o[i] + 1]``

Region transform: ``out [p*t, p*(t+1)) <- in [q*t + s, q*t + s + span)``. The phase c of the blocks is the one of least
delay. onnxruntime computes x in float32; ratios for which that decides between two frames are refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from math import floor as whole
from typing import Any

import numpy as np
import onnx_ir as ir

from pulsify.dim import Dim, DimLike, floor, floor_div, slope, symbols_of
from pulsify.facts import Need, Plan, Stream, Window, WireFact
from pulsify.graph import DOMAIN
from pulsify.ops._rule import NodeView, Rule, register

__all__ = ["Blocks", "blocks", "interpolated", "resized", "time_ratio"]

#: Terms of a ratio are at most this; longer ones are no ratio anybody wrote.
_LARGEST = 1024
#: How far from a tie a rounded coordinate must stay, in frames.
_MARGIN = Fraction(1, 4096)

_HALF = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
_LOCAL = (*_HALF, "asymmetric", "tf_half_pixel_for_nn")


@dataclass(frozen=True, slots=True)
class Blocks:
    """Resample's geometry: ``first`` is the phase c, ``low`` the least input frame of block 0, ``after`` the frames to
    pad at the end. ``offsets`` count from ``low``."""

    p: int
    q: int
    first: int
    low: int
    span: int
    after: int
    offsets: tuple[int, ...]
    mix: tuple[float, ...]

    @property
    def before(self) -> int:
        return max(0, -self.low)


def resized(n: NodeView) -> dict[int, tuple[str, Any]]:
    """axis -> ("scale", float32 number) or ("size", length)."""
    rank = len(n.shape(0))
    axes = [n.axis(a, rank) for a in n.attr("axes", tuple(range(rank)))]
    sizes, scales = n.optional(3), n.optional(2)
    if sizes is not None and sizes.shape != (0,):
        values = n.ints(3)
        assert values is not None
        if n.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
            n.refuse(
                "it keeps the aspect ratio of all axes, and one of them is time", hint="export with explicit scales"
            )
        return {a: ("size", v) for a, v in zip(axes, values, strict=True)}
    if scales is None:
        n.refuse("it has neither scales nor sizes")
    array = scales.array()
    if array is None:
        elems = scales.elems()
        if elems is None or any(isinstance(e, Dim) for e in elems.flat):
            n.refuse(f"its scales {n.wires[2]!r} are computed from data", hint="export with constant scales")
        array = np.array([float(e) for e in elems.flat])
    return {a: ("scale", np.float32(v)) for a, v in zip(axes, array.reshape(-1), strict=True)}


def interpolated(n: NodeView) -> list[int]:
    """The axes that a Resize moves frames along: by a scale that is not 1, whatever length it comes to, or to another size."""
    return sorted(a for a, (kind, v) in resized(n).items() if (v != 1 if kind == "scale" else v != n.shape(0)[a]))


def out_length(n: NodeView, a: int, d: DimLike, how: tuple[str, Any]) -> DimLike:
    """The length of an axis after resizing: the size asked for, or ``floor(scale*d)`` in float32."""
    kind, v = how
    if kind == "size":
        return v  # type: ignore[no-any-return]
    if not isinstance(d, Dim):
        return int(np.float32(v) * np.float32(d))
    return floor(d * _ratio(n, a, v))


def _ratio(n: NodeView, a: int, scale: Any) -> Fraction:
    """A float32 scale as the ratio it stands for."""
    ratio = Fraction(float(scale)).limit_denominator(_LARGEST)
    lengths = np.arange(1, 1 << 14)
    if ratio <= 0 or ratio.numerator > _LARGEST or np.float32(float(ratio)) != scale:
        n.refuse(f"its scale {scale} is no ratio of small numbers", axis=a, hint="scale by a ratio p/q, q up to 1024")
    if np.any(
        (np.float32(scale) * lengths.astype(np.float32)).astype(np.int64)
        != lengths * ratio.numerator // ratio.denominator
    ):
        n.refuse(
            f"its scale {scale}, rounded, does not give lengths of {ratio} times the input's", axis=a, hint="give sizes"
        )
    return ratio


def time_ratio(n: NodeView, a: int, how: tuple[str, Any]) -> Fraction:
    """Frames out per frame in. Sizes that are a ratio of the length only for some lengths are so by condition."""
    kind, v = how
    length = n.shape(0)[a]
    if kind == "scale":
        return _ratio(n, a, v)
    if not isinstance(v, Dim) or n.symbol not in symbols_of(v):
        n.refuse(
            f"the time axis is baked in: it resizes {length} frames to {v}",
            axis=a,
            hint="export with scales instead of sizes",
        )
    out, given = slope(v, n.symbol), slope(length, n.symbol)
    ratio = out / given if out and given else None
    if ratio is None or not n.assume.eq(v * ratio.denominator, length * ratio.numerator, n.name, must=True):
        n.refuse(
            f"it resizes {length} frames to {v}, and the ratio depends on the length of the stream",
            axis=a,
            hint="export with scales instead of sizes",
        )
    return ratio


def blocks(n: NodeView, a: int, how: tuple[str, Any]) -> Blocks:
    """The geometry along time. Refuses what is not local, and records what onnxruntime does otherwise when short."""
    mode, where = n.attr("mode", "nearest"), n.attr("coordinate_transformation_mode", "half_pixel")
    ratio = time_ratio(n, a, how)
    p, q = ratio.numerator, ratio.denominator
    if where not in _LOCAL:
        n.refuse(
            f"its coordinates ({where}) depend on the length of the stream",
            axis=a,
            hint="export with half_pixel or asymmetric",
        )
    if mode not in ("nearest", "linear"):
        n.refuse(f"{mode} interpolation along time is not supported", axis=a, hint="export with mode nearest or linear")
    if n.attr("antialias", 0):
        n.refuse(
            "interpolation with antialias along time is not supported",
            axis=a,
            hint="smooth with a convolution before it",
        )
    if mode == "linear" and n.fact(0).dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        n.refuse(
            f"linear interpolation of {n.fact(0).dtype.name} along time is not supported",
            axis=a,
            hint="cast to float before it",
        )
    if where == "half_pixel_symmetric" and how[0] == "scale" and q > 1:
        n.refuse(
            f"its coordinates (half_pixel_symmetric at scale {ratio}) depend on the length",
            axis=a,
            hint="export with half_pixel",
        )
    length = n.shape(0)[a]
    if p > q > 1:
        # Where the length stays as it is, onnxruntime copies.
        n.assume.ge(length, -(-q // (p - q)), n.name)
    if where == "pytorch_half_pixel" and p < q:
        # A single output frame lies at 0.
        n.assume.ge(floor(length * ratio), 2, n.name)
    taps = {i: _tap(n, a, i, ratio, how, mode, where) for i in range(1 - p, p)}
    # The delay behind an undelayed input; no frame comes before the first it is a copy of.
    best = min(range(p), key=lambda c: (max(p * ceil(Fraction(_reach(taps, p, c) + 1 - q, q)) + c, 0), c))
    rows = [taps[i] for i in range(-best, p - best)]
    low = min(o for o, _ in rows)
    high = _reach(taps, p, best)
    after = max(q * (ceil(Fraction(r * p // q + best, p)) - 1) + high + 1 - r for r in range(q))
    return Blocks(
        p,
        q,
        best,
        low,
        high - low + 1,
        max(after, 0),
        tuple(o - low for o, _ in rows),
        tuple(float(f) for _, f in rows),
    )


def _reach(taps: dict[int, tuple[int, Fraction]], p: int, c: int) -> int:
    """The last input frame that block 0 at phase c reads."""
    return max(o + (f > 0) for o, f in (taps[i] for i in range(-c, p - c)))


def _tap(
    n: NodeView, a: int, i: int, ratio: Fraction, how: tuple[str, Any], mode: str, where: str
) -> tuple[int, Fraction]:
    """The input frame left of (or nearest to) output frame i, and the share of the next."""
    half = Fraction(1, 2)
    x = Fraction(i) / ratio if where == "asymmetric" else (i + half) / ratio - (half if where in _HALF else 0)
    if mode == "linear":
        return whole(x), x - whole(x)
    rounding = n.attr("nearest_mode", "round_prefer_floor")
    edge = x + half if rounding.startswith("round") else x
    scale = Fraction(float(np.float32(float(ratio))))
    if scale != ratio and abs(edge - round(edge)) < _MARGIN and not (i == 0 and where == "asymmetric"):
        n.refuse(
            f"output frames lie exactly between two inputs ({rounding} at {ratio}), and {float(scale)!r} is not exact",
            axis=a,
            hint="export with another nearest_mode, or a scale that is a power of two",
        )
    if rounding == "round_prefer_floor":
        return ceil(x - half), Fraction(0)
    if rounding == "round_prefer_ceil":
        return whole(x + half), Fraction(0)
    return (whole(x) if rounding == "floor" else ceil(x)), Fraction(0)


class Resize(Rule):
    status, note = "conditions", "along time: nearest or linear by a ratio; not align_corners, cubic or antialias"

    def infer(self, n: NodeView) -> list[WireFact]:
        f, how = n.fact(0), resized(n)
        shape = tuple(out_length(n, a, d, how[a]) if a in how else d for a, d in enumerate(n.shape(0)))
        for a in n.streaming(0):
            if a in how and how[a][0] == "size":
                time_ratio(n, a, how[a])
        return [WireFact(f.dtype, shape)]

    def plan(self, n: NodeView) -> Plan:
        for k in range(1, len(n.inputs)):
            if n.streaming(k):
                n.refuse("its scales change with time", input=k)
        streams = tuple(Stream(0, a, (Need(0, a),)) for a in n.streaming(0))
        how, shape, out = resized(n), n.shape(0), self.infer(n)[0].shape
        assert out is not None
        axes = interpolated(n)
        if n.attr("mode", "nearest") == "nearest" or not streams or not 0 < len(axes) < 4:
            return Plan(streams)
        scales = [v if kind == "scale" else np.float32(v) / np.float32(int(shape[a])) for a in axes for kind, v in [how[a]]]
        return Plan(streams, kind="window", lower=lambda low: [_apart(low, n, axes, scales, out)])


def _apart(low: Any, n: NodeView, axes: Sequence[int], scales: Sequence[np.float32], shape: Sequence[DimLike]) -> Any:
    """The axes that are resized, as pictures of their own: ``[.., F] -> [-1, 1, .., F]``. A runtime interpolates over the last
    two axes at once, over all of other ranks than four, and a frame or a row beside another would come in with a weight of 0,
    as NaN if it is that. Of a picture one frame high it finds no other."""
    frames = {a: low.frames(0, a) for a in n.streaming(0)}
    if len(shape) == 4 and all(frames.get(a) == 1 for a in (2, 3) if a not in axes):
        return low.clone(low.inputs)[0]
    before = n.shape(0)
    for a in axes:
        if isinstance(before[a], Dim):
            n.refuse(f"it interpolates axis {a}, whose length {before[a]} is not a fixed size", axis=a, hint=f"fix {before[a]} in the model")
    rest = [a for a in range(len(shape)) if a not in axes]
    order = [*rest, *axes]
    moved = order != list(range(len(shape)))
    wire = low.op("Transpose", [low.inputs[0]], "aside", perm=order) if moved else low.inputs[0]
    lone = [1] if len(axes) == 1 else []
    wire = low.op("Reshape", [wire, low.dims([-1, 1, *lone, *(before[a] for a in axes)])], "pictures")
    kept = {k: v for k, v in low.attributes().items() if k not in ("axes", "keep_aspect_ratio_policy")}
    sizes = [int(before[a]) for a in axes]
    if all(int(k * np.float32(d)) == shape[a] for a, d, k in zip(axes, sizes, scales, strict=True)):
        given = [None, low.const([1, 1, *lone, *scales], np.float32)]
    else:
        kept["axes"] = list(range(2 + len(lone), 2 + len(lone) + len(axes)))
        given = [None, None, low.const([shape[a] for a in axes])]
    wire = low.op("Resize", [wire, *given], "run", **kept)
    free = next((a for a in rest if isinstance(frames.get(a, shape[a]), Dim)), None)
    others = [-1 if a == free else frames.get(a, shape[a]) for a in rest]
    wire = low.op("Reshape", [wire, low.dims([*others, *(shape[a] for a in axes)])], "apart")
    return low.op("Transpose", [wire], "back", perm=[order.index(a) for a in range(len(order))]) if moved else wire


class Resample(Rule):
    """Resize along time alone, in blocks; written by declutter."""

    domain, status = DOMAIN, "pseudo"

    def window(self, n: NodeView) -> Window:
        return Window(n.attr("down"), -n.attr("start"), n.attr("span"), n.attr("up"), whole=True)

    def infer(self, n: NodeView) -> list[WireFact]:
        f, w, axis = n.fact(0), self.window(n), n.attr("axis")
        count = floor_div(n.shape(0)[axis] + w.before - w.span, w.stride) + 1
        return [WireFact(f.dtype, tuple(count * w.up if a == axis else d for a, d in enumerate(n.shape(0))))]

    def plan(self, n: NodeView) -> Plan:
        axis, w = n.attr("axis"), self.window(n)
        streams = tuple(Stream(0, a, (Need(0, a, w if a == axis else Window()),)) for a in n.streaming(0))
        offsets, mix = n.attr("offsets"), n.attr("mix")
        return Plan(streams, kind="window", lower=lambda low: _lower(low, axis, w, offsets, mix))


def _lower(low: Any, axis: int, w: Window, offsets: tuple[int, ...], mix: tuple[float, ...]) -> list[ir.Value]:
    x, fact = low.inputs[0], low.facts[0]
    rank = fact.rank
    if w.stride == w.span == 1:
        scales = low.const([w.up if a == axis else 1 for a in range(rank)], np.float32)
        kept = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return [low.op("Resize", [x, None, scales], "repeat", **kept)]

    def every(j: int) -> Any:
        """Frame j of each window."""
        end = -(w.span - 1 - j) or (1 << 63) - 1
        return low.op("Slice", [x, *(low.const([v]) for v in (j, end, axis, w.stride))], "taps")

    if w.up == w.span == 1:
        return [every(0)]
    # [.., blocks, span, ..], then [.., blocks, up, ..]
    taps = [
        low.op("Unsqueeze", [every(j) if w.stride * w.span > 1 else x, low.const([axis + 1])], "tap")
        for j in range(w.span)
    ]
    stack = taps[0] if w.span == 1 else low.op("Concat", taps, "stack", axis=axis + 1)

    def pick(index: list[int]) -> Any:
        if index == list(range(w.span)):
            return stack
        return low.op("Gather", [stack, low.const(index)], "pick", axis=axis + 1)

    out = pick(list(offsets))
    if any(mix):
        share = np.asarray(mix).reshape([w.up, *(1,) * (rank - 1 - axis)])
        dtype = fact.dtype.numpy()
        # Where the share is 0 the next frame need not exist.
        after = pick([o + (f > 0) for o, f in zip(offsets, mix, strict=True)])
        out = low.op(
            "Add",
            [
                low.op("Mul", [out, low.const(1 - share, dtype)], "left"),
                low.op("Mul", [after, low.const(share, dtype)], "right"),
            ],
            "mix",
        )
    tail = [d for a, d in enumerate(fact.shape) if a > axis]
    return [low.op("Reshape", [out, low.dims([*(0,) * axis, -1, *tail])], "frames")]


register(Resize(), "Resize")
register(Resample(), "Resample", domain=DOMAIN)
