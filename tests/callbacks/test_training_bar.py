"""What a training shows in the terminal: as the command line shows it."""

import re

import pytest

from tests.cli.conftest import folder, run  # noqa: F401 - fixtures

FIT = "fit --config tiny.yaml --samples.sample_seconds 0 --trainer.enable_progress_bar true"


@pytest.fixture
def wide(monkeypatch):
    """A terminal in which nothing is cut off."""
    monkeypatch.setenv("COLUMNS", "300")


def test_one_bar_counts_the_steps_of_all_epochs(run, wide, capsys):  # noqa: F811
    assert run(f"{FIT} --trainer.max_steps 7") == 0  # 20 clips, 4 at a time: more than an epoch
    shown = capsys.readouterr().out
    assert re.search(r"Training +━.* 7/7 ", shown)
    assert "val/bits: " in shown
    assert not re.search(r"Epoch|v_num|-2", shown)


def test_a_training_that_goes_on_counts_its_steps_of_before(run, wide, capsys):  # noqa: F811
    assert run(f"{FIT} --trainer.callbacks+=tests.cli.run_callbacks.StopAt") == 0
    assert re.search(r"Training +━.* 2/4 ", capsys.readouterr().out)
    assert run(f"{FIT} --ckpt_path last") == 0
    assert re.search(r"Training +━.* 4/4 ", capsys.readouterr().out)
