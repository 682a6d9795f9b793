"""Shared by all tests: hypothesis profiles and the flag that rewrites golden dumps."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from tests.profiles import NIGHTLY

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
settings.register_profile("everyday", deadline=None, derandomize=True, suppress_health_check=_SLOW, print_blob=True)
settings.register_profile("nightly", deadline=None, derandomize=False, suppress_health_check=_SLOW, print_blob=True)
settings.load_profile("nightly" if NIGHTLY else "everyday")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden/*.txt instead of comparing")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked nightly are left out every day, not skipped."""
    if NIGHTLY:
        return
    config.hook.pytest_deselected(items=[i for i in items if i.get_closest_marker("nightly")])
    items[:] = [i for i in items if not i.get_closest_marker("nightly")]
