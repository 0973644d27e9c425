"""What no test leaves to those after it."""

import os
from collections.abc import Iterator

import pytest
from torch import distributed


@pytest.fixture(autouse=True)
def leave_group() -> Iterator[None]:
    """A trainer's process group lasts as long as its process; forked children of later tests would take themselves for members and wait."""
    yield
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests leave nothing in the user's cache, and find nothing there."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
