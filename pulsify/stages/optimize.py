"""optimize: exact rewrites that make the pulsed graph smaller or faster.

Promise: the same numbers. Dead nodes and unused constants are gone, at the level ``none`` nothing else is.
"""

from __future__ import annotations

from pulsify.graph import Graph
from pulsify.rewrites import drop_dead

__all__ = ["REWRITES", "optimize"]

#: Per level, in the order of application.
REWRITES = {"none": (drop_dead,), "speed": (drop_dead,), "size": (drop_dead,)}


def optimize(g: Graph, level: str = "speed") -> Graph:
    for rewrite in REWRITES[level]:
        rewrite.apply(g)
    return g
