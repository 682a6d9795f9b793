"""How many examples a property test runs: every day, or ``PULSIFY_NIGHTLY`` (a factor, such as 50) times as many."""

from __future__ import annotations

import os

from hypothesis import settings

__all__ = ["NIGHTLY", "examples"]

#: 0 every day; else the factor.
NIGHTLY = int(os.environ.get("PULSIFY_NIGHTLY") or 0)


def examples(count: int) -> settings:
    """A decorator: ``count`` examples every day, a multiple of that nightly."""
    return settings(max_examples=count * max(1, NIGHTLY))
