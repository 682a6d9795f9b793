"""Windows of whole blocks, of a wire whose rows are blocks.

Where b frames divide the length K of windows and their distance s, their first frame o, the pulse n and the history H, let
a row be a block of b frames, ``X[q] = x[b*q : b*q + b]``. The same windows are then K/b rows, s/b apart:

    x[s*p + o : s*p + o + K] = X[(s*p + o)/b : (s*p + o + K)/b]

What is remembered, joined and gathered are few long rows. With the largest b, the greatest common divisor, a spectrogram
whose hop is half its window puts two rows side by side.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd

import numpy as np

from pulsify.rewrites._memory import Reader, Source
from pulsify.rewrites._row_windows import shaped, stride
from pulsify.rewrites._rows import Rows

__all__ = ["widened"]


def widened(rows: Rows, source: Source) -> Source:
    """The source with rows as long as its windows allow; itself if they allow none."""
    view, state = source.view, source.slot.state
    size = gcd(view.frames, source.history)
    for reader in source.readers:
        size = _block(reader.offsets, size)
    if size < 2 or not source.readers:
        return source
    wide = replace(view, frames=view.frames // size, channels=view.channels * size)
    shape = tuple(source.history // size if a == view.axis else d for a, d in enumerate(state.shape))
    source.slot.state = replace(state, shape=(*shape[:-1], wide.channels))
    wire = shaped(rows, source.wire, wide.frames, wide.channels, view, f"{source.wire.name}.blocks")
    readers = [Reader(r.offsets[:, ::size] // size, r.old) for r in source.readers]
    return Source(wire, wide, source.delay, source.slot, readers)


def _block(offsets: np.ndarray, size: int) -> int:
    """The largest block of frames that windows are made of and that divides ``size``."""
    if np.any(np.diff(offsets, axis=1) != 1) or (len(offsets) > 1 and not stride(offsets)):
        return 1
    return gcd(size, offsets.shape[1], int(offsets[0, 0]), stride(offsets))
