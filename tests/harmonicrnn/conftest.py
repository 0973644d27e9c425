"""Fixtures for tests on several ranks."""

from collections.abc import Iterator

import pytest

from tests.harmonicrnn.parallel.ranks import Ranks


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    """Returns processes that act as ranks."""
    started = Ranks()
    yield started
    started.stop()
