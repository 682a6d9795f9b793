"""The frames of a stream as the batch model gives them nearer to its start.

Where each output frame depends on a bounded window of input frames, a part of the stream that holds the window gives the same
frame: for part ``[a, b)`` and rate r, ``batch(x[a:b])[j] = batch(x)[j + r*a]``, but for the frames next to a cut. A batch model that computes
with positions in float32 is off by 6e-8 of them: a linear Resize weighs the neighbours of its frame i by the fraction of ``i/scale``.
In short parts positions are small.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort

from pulsify import contract

__all__ = ["nearer", "resamples"]

#: Frames of the stream that one part adds, and the most parts.
_BODY, _PARTS = 32, 4000


def resamples(model: ir.Model) -> bool:
    """Whether a model weighs frames by positions it computes."""
    return any(n.op_type in ("Resize", "Upsample") and n.attributes.get_string("mode", "nearest") != "nearest" for n in model.graph)


def nearer(
    manifest: Mapping[str, Any], o: Mapping[str, Any], batch: ort.InferenceSession, inputs: Mapping[str, np.ndarray], want: np.ndarray, length: int
) -> np.ndarray | None:
    """What the batch model makes of the stream in parts; None where its frames have no bounded window, or not all inputs stream."""
    axis, reach, ports = o["axis"], o["receptive_field"], manifest["inputs"]
    if axis is None or reach is None or any(i["axis"] is None for i in ports):
        return None
    rate, rates = contract.rate(manifest, o), {i["name"]: (i["axis"], contract.rate(manifest, i)) for i in ports}
    stream = manifest["stream"]
    step = math.lcm(manifest["pulse_multiple"], *(c["modulus"] for c in stream["conditions"] or ()))
    margin = reach + abs(o["lookahead"]) + math.ceil(1 / rate) + step
    size = 2 * margin + _BODY + step
    if length <= size or size < stream["least"] or length // _BODY > _PARTS:
        return None
    out, at = want.copy(), 0
    while at < want.shape[axis]:
        a = max(0, math.floor(at / rate) - margin) // step * step
        b = length if length - a <= size + step else length - (length - a - size) // step * step
        cut = {n: np.take(v, range(int(a * r), int(b * r)), axis=k) for n, v in inputs.items() for k, r in [rates[n]]}
        (part,) = batch.run([o["name"]], cut)
        end = want.shape[axis] if b == length else math.floor((b - margin) * rate)
        first = int(a * rate)
        if end <= at or end - first > part.shape[axis]:
            return None
        place = (slice(None),) * axis
        out[(*place, slice(at, end))] = part[(*place, slice(at - first, end - first))]
        at = end
    return out
