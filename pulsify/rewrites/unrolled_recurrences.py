"""For onnxruntime where it runs natively: a GRU or LSTM with weights of megabytes, frame by frame, as blocked convolutions.

With few frames per pulse a recurrence takes as long as its weights take to arrive, ``W`` once and ``R`` once per frame, and they
arrive faster for a blocked convolution (_pictures.py) than for the products within the operator. With ``a = W x + b`` of all frames,

    GRU   z = s(az + Rz h)   r = s(ar + Rr h)   n = tanh(an + r*(Rn h + bn))   h' = n + z*(h - n)
          n = tanh(an + Rn (r*h)) where the reset comes first (``linear_before_reset = 0``)
    LSTM  i, o, f = s(a + R h)   g = tanh(ag + Rg h)   c' = f*c + i*g   h' = o*tanh(c')

A frame is some thirteen nodes, which the gain has to pay for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from pulsify.graph import Graph, sort
from pulsify.rewrites._pictures import Pictures, in_blocks
from pulsify.rewrites._row_form import array
from pulsify.rewrites._rows import Rows

__all__ = ["apply"]

#: Bytes of recurrent weights from which on it pays, and how many each frame of a pulse takes: later ones find ``R`` in a cache.
_BYTES, _PER_FRAME = 4 << 20, 2 << 20

#: How many gates a frame has, and activations if none are named.
_GATES = {"GRU": 3, "LSTM": 4}
_ACTIVATIONS = {"GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}


@dataclass(frozen=True, slots=True)
class _Cell:
    """Weights with the gates under each other: ``w [G*H, I]`` and ``r [G*H, H]``, and biases ``[G*H]`` of both products."""

    op: str
    frames: int
    hidden: int
    w: np.ndarray
    r: np.ndarray
    ahead: np.ndarray
    late: np.ndarray | None
    reset_first: bool


def apply(g: Graph) -> int:
    if g.target != "onnxruntime-native":
        return 0
    pictures = Pictures(Rows(g))
    found = [(node, cell) for node in g.graph if (cell := _cell(g, node)) is not None]
    for node, cell in found:
        _unroll(pictures, node, cell)
    if found:
        sort(g.graph)
    return len(found)


def _cell(g: Graph, node: ir.Node) -> _Cell | None:
    """What a recurrence computes, if it is one of large weights, forward, of all frames of few, and of default activations."""
    if node.op_type not in _GATES or node.domain:
        return None
    given: list[ir.Value | None] = [*node.inputs, *[None] * (8 - len(node.inputs))]
    _, w, r, b, lens, *states = given
    a = node.attributes
    held = g.chunks.get(node.outputs[0])
    weights, past, biases = array(w), array(r), array(b)
    if held is None or weights is None or past is None or (b is not None and biases is None) or lens is not None:
        return None
    frames, count = held[0], _GATES[node.op_type]
    if not isinstance(frames, int) or past.nbytes < max(_BYTES, frames * _PER_FRAME) or past.dtype != np.float32 or len(past) != 1:
        return None
    if a.get_string("direction", "forward") != "forward" or "clip" in a or a.get_int("layout", 0) != 0 or a.get_int("input_forget", 0) != 0:
        return None
    if list(a.get_strings("activations", _ACTIVATIONS[node.op_type])) != _ACTIVATIONS[node.op_type]:
        return None
    if states[0] is None or (node.op_type == "LSTM" and (states[1] is None or states[2] is not None)):
        return None
    if not in_blocks(weights.shape[2]) or not in_blocks(past.shape[2]):
        return None
    hidden = past.shape[2]
    ahead, late = (np.zeros((2, count * hidden), np.float32) if biases is None else biases.reshape(2, -1)).copy()
    after = node.op_type == "GRU" and a.get_int("linear_before_reset", 0) == 1
    # The bias of what is reset stays with it.
    kept = 2 * hidden if after else count * hidden
    ahead[:kept] += late[:kept]
    late[:kept] = 0
    return _Cell(node.op_type, frames, hidden, weights[0], past[0], ahead, late if after else None, node.op_type == "GRU" and not after)


class _Steps:
    """The nodes of a frame after the other."""

    def __init__(self, pictures: Pictures, cell: _Cell, node: ir.Node, stem: str):
        self.pictures, self.cell, self.stem = pictures, cell, stem
        h = cell.hidden
        parts = [cell.r[: 2 * h], cell.r[2 * h :]] if cell.reset_first else [cell.r]
        self.kernels = [pictures.kernel(part, f"{stem}.recurrent", (node, k)) for k, part in enumerate(parts)]

    def op(self, name: str, *inputs: ir.Value) -> ir.Value:
        return self.pictures.node(name, list(inputs), f"{self.stem}.{name.lower()}")

    def split(self, wire: ir.Value, *sizes: int) -> list[ir.Value]:
        """Channels by gates, so many each."""
        return self.pictures.split(wire, [n * self.cell.hidden for n in sizes], 1, f"{self.stem}.gates")

    def frames(self, ahead: ir.Value) -> Iterator[tuple[ir.Value, ...]]:
        """What a step reads of the product with the input: of the GRU, the gates that one activation is for apart."""
        apart = self.split(ahead, 2, 1) if self.cell.op == "GRU" else [ahead]
        return zip(*(self.pictures.split(part, [1] * self.cell.frames, 2, f"{self.stem}.frame") for part in apart), strict=True)

    def gru(self, a_zr: ir.Value, a_n: ir.Value, h: ir.Value) -> list[ir.Value]:
        past = self.pictures.conv(h, self.kernels[0], self.cell.late, f"{self.stem}.past")
        if self.cell.reset_first:
            z, r = self.split(self.op("Sigmoid", self.op("Add", past, a_zr)), 1, 1)
            reset = self.pictures.conv(self.op("Mul", r, h), self.kernels[1], None, f"{self.stem}.reset")
        else:
            zr, new = self.split(past, 2, 1)
            z, r = self.split(self.op("Sigmoid", self.op("Add", zr, a_zr)), 1, 1)
            reset = self.op("Mul", r, new)
        n = self.op("Tanh", self.op("Add", a_n, reset))
        return [self.op("Add", n, self.op("Mul", z, self.op("Sub", h, n)))]

    def lstm(self, a: ir.Value, h: ir.Value, c: ir.Value) -> list[ir.Value]:
        past = self.op("Add", a, self.pictures.conv(h, self.kernels[0], None, f"{self.stem}.past"))
        iof, g = self.split(past, 3, 1)
        i, o, f = self.split(self.op("Sigmoid", iof), 1, 1, 1)
        c = self.op("Add", self.op("Mul", f, c), self.op("Mul", i, self.op("Tanh", g)))
        return [self.op("Mul", o, self.op("Tanh", c)), c]


def _unroll(pictures: Pictures, node: ir.Node, cell: _Cell) -> None:
    rows, (y, *lasts) = pictures.rows, node.outputs
    stem = y.name or "frames"
    x, *states = (pictures.of(v, 3) for v in (node.inputs[0], *node.inputs[5:7]) if v is not None)
    ahead = pictures.conv(x, pictures.kernel(cell.w, f"{stem}.kernel", node), cell.ahead, f"{stem}.ahead")
    steps, frames = _Steps(pictures, cell, node, stem), []
    for parts in steps.frames(ahead):
        states = steps.gru(*parts, *states) if cell.op == "GRU" else steps.lstm(*parts, *states)
        frames.append(states[0])
    for old, new in zip(lasts, states, strict=False):
        rows.replace(old, pictures.back(new, 3, f"{old.name}.rows"))
    whole = frames[0] if cell.frames == 1 else pictures.node("Concat", frames, f"{stem}.frames", axis=2)
    wire = pictures.back(whole, 3, f"{stem}.rows")
    for reader, _ in list(y.uses()):
        if reader.op_type == "Squeeze" and not reader.domain and _is_one(reader.inputs[1:]):
            rows.replace(reader.outputs[0], wire)
            rows.g.graph.remove(reader, safe=True)
    (new,) = rows.node("Unsqueeze", [wire, rows.const([1])], f"{stem}.directions")
    rows._loose(new, wire)
    rows.replace(y, new)
    rows.g.graph.remove(node, safe=True)


def _is_one(axes: Sequence[ir.Value | None]) -> bool:
    """Whether a Squeeze names the axis of directions alone."""
    given = array(axes[0]) if axes else None
    return given is not None and given.tolist() == [1]
