"""One window per pulse: what is remembered is a row, the window is that row with the pulse beside it.

Where all that is read of a wire x of n frames per pulse is the one window of its H frames of history and of the pulse,

    window = concat(past, x)    past' = window[n*C :]

with ``past [1, H*C]``, ``x [1, n*C]``: two nodes, of which the window is its product's operand as it is. A state for
several wires (_memory.py) takes one node per wire and five more.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pulsify.graph import DOMAIN
from pulsify.rewrites._memory import Source, forget, past_rows
from pulsify.rewrites._row_windows import note, shaped
from pulsify.rewrites._rows import Rows
from pulsify.rewrites.fix_shapes import END

__all__ = ["is_window", "remember"]


def is_window(source: Source) -> bool:
    """Whether all that is read is one window per pulse, of all that is remembered and of the pulse.

    A history as long as a pulse is the pulse itself, which is less."""
    frames = np.arange(-source.history, source.view.frames)
    return bool(source.readers) and source.history != source.view.frames and all(r.offsets.shape == (1, len(frames)) and np.array_equal(r.offsets[0], frames) for r in source.readers)


def remember(rows: Rows, source: Source) -> None:
    """Write such a wire's history as a row."""
    view, state, x = source.view, source.slot.state, source.wire
    width, kept = view.frames * view.channels, source.history * view.channels
    state = source.slot.state = replace(state, shape=(*state.shape[: view.axis], 1, kept))
    if view.frames > 1:
        x = shaped(rows, x, 1, width, view, f"{x.name}.row")
    (window,) = rows.node("Concat", [past_rows(rows, state, x), x], f"{state.id}.window", axis=view.axis + 1)
    note(rows, window, x, [1, kept + width])
    for reader in source.readers:
        rows.replace(reader.old, window)
    bounds = [rows.const([v]) for v in (width, END, view.axis + 1)]
    (new,) = rows.node("Slice", [window, *bounds], f"{state.id}.kept")
    note(rows, new, x, [1, kept])
    rows.build.node("Store", [new], f"{state.id}.store", {"id": state.id}, domain=DOMAIN, outputs=[])
    forget(rows, source)
