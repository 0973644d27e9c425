"""The steps of a training in the terminal, as the command line shows them."""

import re

import pytest

from tests.cli.conftest import folder, run  # noqa: F401 - fixtures

FIT = "fit --config tiny.yaml --trainer.max_steps 7 --trainer.enable_progress_bar true"
FIT += " --samples.sample_seconds 0 --trainer.limit_val_batches 1"


@pytest.fixture
def wide(monkeypatch):
    """A terminal in which nothing is cut off."""
    monkeypatch.setenv("COLUMNS", "300")


def test_one_bar_counts_the_steps_of_all_epochs_and_of_before(run, wide, capsys):  # noqa: F811
    """20 clips, 4 at a time: seven steps are more than an epoch."""
    assert run(f"{FIT} --trainer.callbacks+=tests.cli.run_callbacks.StopAt") == 0
    assert re.search(r"Training +━.* 2/7 ", capsys.readouterr().out)
    assert run(f"{FIT} --ckpt_path last") == 0
    shown = capsys.readouterr().out
    assert re.search(r"Training +━.* 7/7 ", shown)
    assert "val/bits: " in shown
    assert not re.search(r"Epoch|v_num|-2", shown)
