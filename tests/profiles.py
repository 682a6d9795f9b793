"""How many examples a property test runs: every day, or in the nightly profile (``PULSIFY_NIGHTLY=1``)."""

from __future__ import annotations

import os

from hypothesis import settings

__all__ = ["NIGHTLY", "examples"]

NIGHTLY = bool(os.environ.get("PULSIFY_NIGHTLY"))


def examples(count: int) -> settings:
    """A decorator: ``count`` examples every day, fifty times as many nightly."""
    return settings(max_examples=count * 50 if NIGHTLY else count)
