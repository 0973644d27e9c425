"""Tests of the folder that a run is written to, and of its single writer."""

import os
import shutil
import signal
import time

import pytest

from cli.run_folder import new_folder, sole_writer
from harmonicrnn.errors import UserError
from harmonicrnn.runs import any_runs, find_run
from tests.forking import in_child, status_of

FIT = "fit --config tiny.yaml --samples.sample_seconds 0 --trainer.limit_val_batches 1"


def held_by_a_child(folder):
    """Starts a process that holds a run's folder and has a child that outlives it; returns its process id."""

    def hold():
        with sole_writer(folder):
            in_child(live_on)
            time.sleep(20)

    def live_on():
        (folder / "held").touch()  # by the grandchild, which has released by now what it inherited
        time.sleep(3)

    pid = in_child(hold)
    while not (folder / "held").exists():
        time.sleep(0.01)
    return pid


def test_a_folder_has_one_writer_and_a_killed_one_leaves_it_free(tmp_path):
    pid = held_by_a_child(tmp_path)
    with pytest.raises(UserError, match="another training writes there"), sole_writer(tmp_path):
        pass
    os.kill(pid, signal.SIGKILL)
    assert status_of(pid) == -signal.SIGKILL
    with sole_writer(tmp_path):
        pass


def test_new_runs_that_start_together_have_folders_of_their_own(tmp_path, monkeypatch):
    (tmp_path / "version_x").mkdir()
    (tmp_path / "version_4").mkdir()
    assert new_folder(tmp_path, None) == tmp_path / "version_5"
    monkeypatch.setattr("cli.run_folder.Path.glob", lambda *_: iter([tmp_path / "version_3"]))  # as before the other processes made theirs
    assert [new_folder(tmp_path, None).name for _ in range(2)] == ["version_6", "version_7"]


def test_a_run_is_not_written_over(tmp_path):
    assert new_folder(tmp_path, 3) == new_folder(tmp_path, "version_3") == tmp_path / "version_3"
    (tmp_path / "version_3/checkpoints").mkdir()
    (tmp_path / "version_3/checkpoints/last.ckpt").touch()
    with pytest.raises(UserError, match="version_3: holds a run already"):
        new_folder(tmp_path, 3)


def test_links_to_checkpoints(tmp_path):
    """A link to a checkpoint stands for its target, wherever that is; a broken link is ignored."""
    checkpoints = tmp_path / "logs/run/version_0/checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "none.ckpt").symlink_to(tmp_path / "gone.ckpt")
    assert not any_runs(tmp_path / "logs")
    with pytest.raises(UserError, match="no run with a checkpoint"):
        find_run("last", tmp_path / "logs")
    for name in ("best.ckpt", "last.ckpt"):
        (checkpoints / name).touch()
    (checkpoints.parent / "config.yaml").touch()
    assert find_run("last", tmp_path / "logs").goes_on_in_place
    other = tmp_path / "logs/run/version_1/checkpoints/last.ckpt"
    other.parent.mkdir(parents=True)
    (other.parents[1] / "config.yaml").touch()
    other.symlink_to(checkpoints / "best.ckpt")
    run = find_run(str(other), tmp_path)
    assert (run.folder, run.checkpoint, run.goes_on_in_place) == (checkpoints.parent, checkpoints / "best.ckpt", False)


def test_a_run_goes_on_once_at_a_time_and_is_found_where_the_command_line_puts_it(run, folder, capsys):
    place = "--trainer.logger.init_args.save_dir elsewhere --trainer.logger.init_args.name other"
    assert run(f"{FIT} {place} --trainer.max_steps 2") == 0
    version = folder / "elsewhere/other/version_0"
    before = {path: path.read_bytes() for path in version.rglob("*") if path.is_file()}
    pid = held_by_a_child(version)
    assert run(f"{FIT} {place} --ckpt_path last") == 2
    assert "another training writes there" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    os.kill(pid, signal.SIGKILL)
    status_of(pid)
    assert run(f"{FIT} {place} --ckpt_path last") == 0
    assert [path.name for path in version.parent.iterdir()] == ["version_0"]
    assert run(f"test --config tiny.yaml {place.replace('.init_args', '')}") == 0
    assert (version / "nll_test.json").is_file()
    shutil.rmtree(folder / "elsewhere")
    capsys.readouterr()
    assert run(f"test --config tiny.yaml {place}") == 2
    assert "elsewhere/other: no run with a checkpoint" in capsys.readouterr().err
    assert not (folder / "logs").exists()
