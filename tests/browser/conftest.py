"""The tier is collected where it is asked for (``make test-browser``): it needs a Chromium, or to be root under Debian."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return None if config.option.markexpr == "browser" else True
