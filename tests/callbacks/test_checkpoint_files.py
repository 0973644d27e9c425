"""Tests of checkpoint writing: full disks, and kills in the middle of a write."""

import errno
import os
import random
import signal
import time

import pytest
import torch

from callbacks.checkpoint_files import WholeCheckpointIO
from harmonicrnn.errors import UserError
from harmonicrnn.files import remove_parts
from harmonicrnn.runs import find_run
from tests.forking import in_child, status_of


def content(path):
    """The number that all of a checkpoint of `write` is made of."""
    (value,) = torch.load(path, weights_only=True)["weights"].unique().tolist()
    return value


def write(path, value):
    WholeCheckpointIO().save_checkpoint({"weights": torch.full((100_000,), float(value))}, path)


@pytest.fixture(autouse=True)
def _one_thread():
    """A forked child has none of torch's threads."""
    torch.set_num_threads(1)


def parts(folder):
    return list(folder.rglob("*.part"))


def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    write(path, 1)

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"last\.ckpt: the checkpoint cannot be written \(No space left on device\).*--ckpt_path last"):
        write(path, 2)
    assert content(path) == 1
    assert not parts(tmp_path)


def test_killed_while_writing_there_is_always_a_whole_checkpoint(tmp_path):
    folder = tmp_path / "version_0/checkpoints"
    path = folder / "last.ckpt"
    write(path, 0)

    def write_on():
        for value in range(1, 100_000):
            write(path, value)

    torn, seen, attempt = 0, set(), 0
    while attempt < 10 or (attempt < 40 and not (torn and len(seen) > 1)):
        pid = in_child(write_on)
        time.sleep(random.Random(attempt).uniform(0.02, 0.08))
        os.kill(pid, signal.SIGKILL)
        assert status_of(pid) == -signal.SIGKILL
        seen.add(content(path))
        torn += bool(parts(folder))
        assert find_run("last", tmp_path).checkpoint == path
        remove_parts(folder)
        assert [p.name for p in folder.iterdir()] == ["last.ckpt"]
        attempt += 1
    assert len(seen) > 1
    assert torn, "no kill fell into a write"
