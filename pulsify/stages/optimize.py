"""optimize: exact rewrites that make the pulsed graph smaller or faster.

Promise: the same numbers. Dead nodes and unused constants are gone.
"""

from __future__ import annotations

from pulsify.graph import Graph
from pulsify.rewrites import drop_dead

__all__ = ["REWRITES", "optimize"]

REWRITES = (drop_dead,)


def optimize(g: Graph) -> Graph:
    for rewrite in REWRITES:
        rewrite.apply(g)
    return g
