"""The interval of the last checkpoint."""

import pytest

from callbacks.last_checkpoint import LastCheckpoint


def test_minutes():
    for minutes in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=r"checkpoint\.minutes must be above 0"):
            LastCheckpoint(minutes)
