"""What no test leaves to those after it."""

from collections.abc import Iterator

import pytest
from torch import distributed


@pytest.fixture(autouse=True)
def leave_group() -> Iterator[None]:
    """A trainer's process group lasts as long as its process; forked children of later tests would take themselves for members and wait."""
    yield
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
