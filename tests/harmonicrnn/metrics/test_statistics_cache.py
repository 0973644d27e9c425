import sys

import pytest

from harmonicrnn.metrics.statistics_cache import default_cache


@pytest.mark.skipif(sys.platform != "linux", reason="a convention of Linux")
def test_the_cache_lies_where_the_user_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "harmonicrnn"
