"""Spectra of real windows as products with the matrix of the transform, where that is faster.

``DFT(x)[f] = sum_k x[k] * exp(-2*pi*i*f*k/K)`` is ``x @ M`` with ``M [K, 2*bins]``, cosines and minus sines of a bin side by side; the
window of an STFT goes into M. Runtimes transform powers of two in ``K*log2(K)`` steps, one window at a time; short windows, or
windows filled up with zeros, are faster as a product of all of them. Other lengths stay: onnxruntime's transform of those is
off by 3e-5 (K = 320) to 1e-4 (960) of the largest value, and a product, which is not, would not give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2, prod

import numpy as np
import onnx_ir as ir

from pulsify.dim import DimLike
from pulsify.graph import Graph, sort
from pulsify.ops._infer import view
from pulsify.ops.spectral import DFT
from pulsify.rewrites._costs import as_rows
from pulsify.rewrites._row_form import Product
from pulsify.rewrites._rows import Rows

__all__ = ["apply"]

#: Microseconds per step of a transform of a power of two.
_STEP = 0.0017

#: Bytes of a matrix at most.
_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class _Spectrum:
    """``windows`` of ``taps`` real numbers per pulse and row, each into ``bins`` of a transform of length ``size``."""

    windows: int
    taps: int
    size: int
    bins: int

    @property
    def pays(self) -> bool:
        steps = log2(self.size)
        if steps != int(steps) or self.taps * self.bins * 8 > _BYTES:
            return False
        transform = self.windows * self.size * steps * _STEP
        return as_rows(Product("MatMul", self.windows, 1, self.taps, 2 * self.bins)) < transform

    def matrix(self, window: np.ndarray) -> np.ndarray:
        """``[taps, 2*bins]``."""
        turns = np.outer(np.arange(self.taps), np.arange(self.bins)) % self.size * (2 * np.pi / self.size)
        parts: np.ndarray = np.stack([np.cos(turns), -np.sin(turns)], axis=2) * window[:, None, None]
        return parts.reshape(self.taps, -1).astype(np.float32)


def apply(g: Graph) -> int:
    if g.pulse is None or not isinstance(g.pulse.size, int):
        return 0
    rows, ways = Rows(g), {"STFT": _stft, "DFT": _dft}
    count = sum(ways[node.op_type](rows, node) for node in list(g.graph) if node.op_type in ways and not node.domain and _fixed(g, node))
    if count:
        sort(g.graph)
    return count


def _fixed(g: Graph, node: ir.Node) -> bool:
    """Whether all sizes but that of the batch are known."""
    return sum(not isinstance(d, int) for d in g.chunks.get(node.outputs[0], (None, None))) < 2


def _stft(rows: Rows, node: ir.Node) -> bool:
    g, (signal, step, *rest), out = rows.g, node.inputs, node.outputs[0]
    shape, made = g.chunks.get(signal) if signal is not None else None, g.chunks.get(out)
    if signal is None or step is None or step.const_value is None or shape is None or made is None or (len(shape) == 3 and shape[2] != 1):
        return False
    given = rest[0] if rest else None
    if g.facts[signal].dtype != ir.DataType.FLOAT or (given is not None and given.const_value is None):
        return False
    length, frames, bins = shape[1], made[1], made[2]
    if not isinstance(length, int) or not isinstance(frames, int) or not isinstance(bins, int):
        return False
    hop = int(step.const_value.numpy().reshape(-1)[0])
    taps = int(given.const_value.shape.numpy()[0]) if given is not None else _constant(rest[1] if len(rest) > 1 else None)  # type: ignore[union-attr]
    if taps is None or (frames - 1) * hop + taps > length:
        return False
    found = _Spectrum(frames, taps, taps, bins)
    if not found.pays:
        return False
    window = np.ones(taps) if given is None else given.const_value.numpy().astype(np.float64)  # type: ignore[union-attr]
    wire = signal
    if len(shape) == 3:
        (wire,) = rows.node("Squeeze", [signal, rows.const([2])], f"{out.name}.signal")
        rows._loose(wire, signal)
        g.chunks[wire] = tuple(shape[:2])
    index = np.arange(frames)[:, None] * hop + np.arange(taps)
    (wire,) = rows.node("Gather", [wire, rows.const(index, stem="frames")], f"{out.name}.windows", axis=1)
    rows._loose(wire, signal)
    return _product(rows, node, wire, found.matrix(window), made)


def _dft(rows: Rows, node: ir.Node) -> bool:
    g, x, out = rows.g, node.inputs[0], node.outputs[0]
    shape, made = g.chunks.get(x) if x is not None else None, g.chunks.get(out)
    if x is None or shape is None or made is None or g.facts[x].dtype != ir.DataType.FLOAT or shape[-1] != 1:
        return False
    if node.attributes.get_int("inverse", 0) or DFT().axis_of(view(g, node)) != len(shape) - 2:
        return False
    taps, bins = shape[-2], made[-2]
    if not isinstance(taps, int) or not isinstance(bins, int):
        return False
    size = taps if len(node.inputs) < 2 or node.inputs[1] is None else _constant(node.inputs[1])
    if size is None:
        return False
    found = _Spectrum(prod(d for d in shape[:-2] if isinstance(d, int)), min(taps, size), size, bins)
    if not found.pays:
        return False
    (wire,) = rows.node("Squeeze", [x, rows.const([len(shape) - 1])], f"{out.name}.windows")
    rows._loose(wire, x)
    # What lies behind the transform's length is not part of it.
    matrix = np.pad(found.matrix(np.ones(found.taps)), ((0, taps - found.taps), (0, 0)))
    return _product(rows, node, wire, matrix, made)


def _constant(v: ir.Value | None) -> int | None:
    return None if v is None or v.const_value is None else int(v.const_value.numpy().reshape(-1)[0])


def _product(rows: Rows, node: ir.Node, wire: ir.Value, matrix: np.ndarray, made: tuple[DimLike, ...]) -> bool:
    out = node.outputs[0]
    (flat,) = rows.node("MatMul", [wire, rows.weight(matrix, f"{out.name}.transform")], f"{out.name}.flat")
    rows._loose(flat, wire)
    (new,) = rows.node("Reshape", [flat, rows.const([d if isinstance(d, int) else -1 for d in made])], out.name or "spectrum")
    rows.replace(out, new)
    rows.g.graph.remove(node, safe=True)
    return True
