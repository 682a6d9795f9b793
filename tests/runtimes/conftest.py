"""Every case, converted once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtimes.cases import CASES, Prepared, prepare, write_stream


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The tier is collected where it is asked for (``-m runtimes``): what it imports need not be installed elsewhere."""
    return None if config.option.markexpr == "runtimes" else True


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prepared]:
    folder = tmp_path_factory.mktemp("pulsed")
    return {case.name: prepare(case, folder) for case in CASES}


@pytest.fixture(scope="session")
def streams(prepared: dict[str, Prepared], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder per case, for runners in other languages."""
    folder = tmp_path_factory.mktemp("streams")
    for name, p in prepared.items():
        write_stream(p, folder / name)
    return folder
