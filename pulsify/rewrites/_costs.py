"""What products over windows cost on onnxruntime's CPU provider: a measured table, and interpolation in it.

``costs.json`` is written by ``python -m benchmarks.costs``: microseconds of a layer, its buffer included, on one core, over
frames per pulse, channels and kernel. Between grid points and beyond them the logarithm of a cost is piecewise linear in
the logarithms of the three. A product of C into C' channels counts as one of ``sqrt(C*C')``, with as many multiplications.
Depthwise convolutions have a table of their own.
"""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pulsify.rewrites._row_windows import GATHERED

if TYPE_CHECKING:
    from pulsify.rewrites._row_form import Product

__all__ = ["BLOCK", "BORDER", "HALF_BLOCK", "NODE", "as_is", "as_rows", "has_blocks", "lifts", "moving"]

#: A node that does next to nothing.
NODE = 0.25

#: A wire that enters or leaves a lifted region: an axis of length 1 comes or goes, and channels are laid in blocks or taken out.
BORDER = 2 * NODE

#: Blocks of channels.
BLOCK, HALF_BLOCK = 16, 4

#: A depthwise convolution's frames cut out of one row, between products that are not depthwise; and with a batch what shapes
#: several frames for a product (flat_rows.py), or a bias and an activation that are not within one.
_CUT, _BATCHED = 0.6, 0.8

#: The Concat and the Slice of a buffer.
_BUFFER = 1.0


@lru_cache(maxsize=4096)
def as_is(p: Product, readers: int = 1, among_lifted: bool = False) -> float:
    """The operator the model has, lifted where that costs less, if ``readers`` of them read the same windows (and share a
    buffer). Among lifted ones whatever can be lifted is, and what can't is beyond a border."""
    t = _table()
    if p.op == "Depthwise":
        return _depthwise("flat" if p.out % HALF_BLOCK else "lifted", p)
    apart = 2 * BORDER if among_lifted and not has_blocks(p) else 0.0
    if p.op == "ConvTranspose":
        channels = math.sqrt(p.into * 2 * p.out / p.up)
        return apart + _interpolate(t["transposed"], (t["frames"], t["channels"], t["strides"]), (p.frames, channels, p.up))
    if among_lifted and has_blocks(p):
        cost = _interpolate(t["lifted"], _axes(t), _point(p))
    else:
        cost = apart + _interpolate(t["as_is"], _axes(t), _point(p))
        if lifts(p):
            cost = min(cost, _interpolate(t["lifted"], _axes(t), _point(p)) + 2 * NODE)
    return cost if p.taps == 1 else cost - (1 - 1 / readers) * min(_BUFFER, cost / 2)


@lru_cache(maxsize=4096)
def lifts(p: Product, reads_lifted: bool = False) -> bool:
    """Whether a convolution by itself costs less over a picture one pixel high (lift_convs.py), or one that reads such."""
    if not has_blocks(p):
        return False
    t = _table()
    flat, high = (_interpolate(t[kind], _axes(t), _point(p)) for kind in ("as_is", "lifted"))
    return high + (0.0 if reads_lifted else 2 * NODE) < flat


def has_blocks(p: Product) -> bool:
    """Whether runtimes have a blocked convolution for it: in blocks of the widest vector registers for its outputs, and of the
    narrowest for its inputs."""
    return p.op == "Conv" and not p.out % BLOCK and not p.into % HALF_BLOCK


@lru_cache(maxsize=4096)
def as_rows(p: Product, readers: int = 1) -> float:
    """A product of rows, where ``readers`` of them share their windows."""
    t = _table()
    if p.batched:
        more = _BATCHED if p.op == "Depthwise" else 0.0 if p.frames == 1 or p.taps == 1 else _BATCHED / readers
        return as_rows(replace(p, batched=False), readers) + more
    if p.op == "Depthwise":
        return _depthwise("rows", p) + (_CUT if p.frames > 1 else 0.0)
    if p.taps > p.step > 1 and p.dilation == 1 and (p.taps % p.step == 0 or p.frames * p.taps >= GATHERED):
        # Windows of whole blocks need no gathering of frames.
        product = _interpolate(t["rows"], _axes(t), (p.frames, math.sqrt(p.taps * p.into * p.out), 1))
        return product + NODE * (p.taps // p.step + (2 if p.taps % p.step == 0 else 6)) / readers
    table = t["rows_apart"] if p.frames * p.step <= p.dilation else t["rows"]
    cost = _interpolate(table, _axes(t), _point(p))
    if p.taps > 1 and readers > 1:
        product = min(cost, _interpolate(t["rows"], _axes(t), (p.frames, math.sqrt(p.taps * p.into * p.out), 1)))
        cost = product + (cost - product) / readers
    return cost + (NODE if p.op == "ConvTranspose" else 0.0)


def _depthwise(form: str, p: Product) -> float:
    t = _table()["depthwise"]
    return _interpolate(t[form], (t["frames"], t["channels"], t["kernels"]), (p.frames, p.out, p.taps))


@lru_cache(maxsize=4096)
def _point(p: Product) -> tuple[float, float, float]:
    """Where a product lies in the grid; a longer kernel than any measured counts as more channels."""
    taps = min(p.taps, max(_table()["kernels"]))
    return p.frames, math.sqrt(p.into * p.out * p.taps / taps), taps


@lru_cache(maxsize=4096)
def moving(transposed: bool, frames: int, channels: int) -> float:
    """A wire that enters or leaves row form."""
    if not transposed:
        return NODE
    t = _table()
    return max(NODE, _interpolate(t["moving"], (t["frames"], t["channels"]), (frames, channels)))


def _axes(t: dict[str, Any]) -> tuple[Sequence[int], ...]:
    return t["frames"], t["channels"], t["kernels"]


@cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(__file__).with_name("costs.json").read_text())
    return found


def _interpolate(values: Any, axes: Sequence[Sequence[int]], at: Sequence[float]) -> float:
    """Piecewise linear in the logarithms; beyond the grid the last slope goes on, and a cost is proportional to frames, the
    first axis. Cells that were not measured (None) take the slope of their neighbours."""
    most = axes[0][-1]
    return math.exp(_log(values, axes, (min(at[0], most), *at[1:]))) * max(1.0, at[0] / most)


def _log(values: Any, axes: Sequence[Sequence[int]], at: Sequence[float]) -> float:
    if not axes:
        return math.log(max(values, 1e-2))
    grid, rest = axes[0], axes[1:]
    known = [i for i in range(len(grid)) if _measured(values[i])]
    i = min(max(bisect_right([grid[k] for k in known], at[0]), 1), len(known) - 1)
    low, high = known[i - 1], known[i]
    a, b = (_log(values[k], rest, at[1:]) for k in (low, high))
    x, y, z = math.log(grid[low]), math.log(grid[high]), math.log(max(at[0], 1e-9))
    return a + (b - a) * (z - x) / (y - x)


def _measured(values: Any) -> bool:
    """Whether enough of a slice is known to interpolate in it."""
    if isinstance(values, list):
        return sum(map(_measured, values)) > 1
    return values is not None
