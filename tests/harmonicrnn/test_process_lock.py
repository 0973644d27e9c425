"""Tests of the file lock that keeps other processes out."""

import errno
import os

import pytest

from harmonicrnn.process_lock import sole_process


def test_a_file_system_without_locks_is_warned_of(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    done = []
    with (
        pytest.warns(UserWarning, match=rf"{tmp_path}/lock: cannot be locked \(No locks available\); make sure"),
        sole_process(tmp_path / "lock", taken=lambda: pytest.fail("no process holds it")),
    ):
        done.append(True)
    assert done
