"""optimize: exact rewrites that make the pulsed graph smaller or faster.

Promise: the same numbers. Dead nodes and unused constants are gone, at the level ``none`` nothing else is.
"""

from __future__ import annotations

from collections.abc import Callable

from pulsify.graph import Graph
from pulsify.rewrites import (
    activations_first,
    biases_ahead,
    blocked_products,
    causal_convs,
    channel_scales,
    drop_dead,
    einsums,
    exponentials,
    first_pulse,
    flat_rows,
    frame_rows,
    full_rank_scalars,
    lift_convs,
    masks_as_products,
    one_history,
    one_reshape,
    past_sums,
    plain_norms,
    plain_transposes,
    residual_taps,
    scaled_products,
    scales_ahead,
    shared_memory,
    short_sums,
    spectra_as_products,
    split_products,
    spread_frequencies,
    sums_of_convs,
    sums_of_products,
    unrolled_recurrences,
    window_gathers,
)

__all__ = ["REWRITES", "optimize"]

_FASTER = (
    plain_norms.apply, scaled_products.apply, scales_ahead.apply, split_products.apply, spectra_as_products.apply, einsums.apply,
    spread_frequencies.apply, residual_taps.apply, short_sums.apply, masks_as_products.apply, causal_convs.apply,
)  # fmt: skip

_ROWS = (frame_rows.apply, biases_ahead.apply, sums_of_products.apply, sums_of_convs.apply)

_LAST = (
    past_sums.apply, activations_first.apply, window_gathers.apply, exponentials.apply, lift_convs.apply, channel_scales.apply, plain_transposes.apply,
    flat_rows.apply, unrolled_recurrences.apply, blocked_products.apply, full_rank_scalars.apply, first_pulse.apply, one_reshape.apply, drop_dead.apply,
)  # fmt: skip

#: Per level, in the order of application. A ring is faster than a history that moves, and has a counter besides.
REWRITES: dict[str, tuple[Callable[[Graph], int], ...]] = {
    "none": (drop_dead.apply,),
    "speed": (drop_dead.apply, *_FASTER, *_ROWS, one_history.where_it_pays, shared_memory.apply, *_LAST),
    "size": (drop_dead.apply, *_FASTER, one_history.always, *_ROWS, shared_memory.without_rings, *_LAST),
}


def optimize(g: Graph, level: str = "speed", target: str = "onnx") -> Graph:
    """Apply the rewrites of a level; those that use a runtime's own operators do nothing where it is not the target."""
    g.target = target
    for rewrite in REWRITES[level]:
        rewrite(g)
    return g
