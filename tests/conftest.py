"""Fixtures for all tests: process groups are left, and caches are private."""

import os
from collections.abc import Iterator

import pytest
from torch import distributed


@pytest.fixture(autouse=True)
def leave_group() -> Iterator[None]:
    """Leaves the trainer's process group, which lasts as long as the process: forked children of later tests would join it and wait."""
    yield
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Sets a cache folder of its own, so that tests neither read nor write the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
