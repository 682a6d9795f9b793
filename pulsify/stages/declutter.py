"""declutter: one spelling for what exporters write in many.

Promise: no constant arithmetic, no identities, no node twice, shape arguments constant where they can be, padding along time only
in Pad nodes, one axis each.
"""

from __future__ import annotations

from pulsify.graph import Graph
from pulsify.rewrites import (
    block_transposed,
    constant_joins,
    drop_dead,
    drop_identities,
    exclusive_sums,
    first_frames,
    first_states,
    fix_shapes,
    fold_constants,
    frame_gathers,
    full_sequences,
    fuse_pads,
    guard_operands,
    merge_equals,
    movers_first,
    open_shuffles,
    pads_ahead,
    plain_pools,
    split_as_slices,
    split_axes,
    split_pads,
    split_resizes,
    static_frames,
    tables,
    triangles,
    variances,
    wide_bounds,
    zero_starts,
)

__all__ = ["REWRITES", "declutter"]

#: In order; each is one pass over the graph.
REWRITES = (fold_constants, drop_identities, wide_bounds, full_sequences, zero_starts, triangles, tables, fix_shapes, drop_dead, movers_first, frame_gathers, exclusive_sums, variances, block_transposed, split_resizes, open_shuffles, plain_pools, static_frames, split_as_slices, first_frames, first_states, constant_joins, split_pads, split_axes, fuse_pads, pads_ahead, guard_operands, merge_equals, drop_dead)


def declutter(g: Graph) -> Graph:
    for rewrite in REWRITES:
        rewrite.apply(g)
    g.assume.settle()
    return g
