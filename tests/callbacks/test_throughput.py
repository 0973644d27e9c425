"""What a training shows: its speed, and in the terminal its steps, as the command line shows them."""

import re
from types import SimpleNamespace

import pytest
import torch

from callbacks.throughput import Throughput
from datamodules import Batch
from tests.cli.conftest import folder, run  # noqa: F401 - fixtures

FIT = "fit --config tiny.yaml --trainer.max_steps 7 --trainer.enable_progress_bar true"
FIT += " --samples.sample_seconds 0 --trainer.limit_val_batches 1"


def test_counts_training_time_alone(monkeypatch):
    """Two batches of 1 s each, 0.5 s of waiting for data before the second, and a validation of 100 s after it, between loggings."""
    clock = iter([0.0, 2.5, 10.0, 110.0, 112.0, 113.0])
    monkeypatch.setattr("callbacks.throughput.time.perf_counter", lambda: next(clock))
    logged = []
    module = SimpleNamespace(log=lambda name, value, logger=True, **_: logger and logged.append((name, value)))
    trainer = SimpleNamespace(world_size=2, log_every_n_steps=2, global_step=0)
    batch = Batch(torch.zeros(5, 100), torch.ones(5, 100), torch.arange(5))
    callback = Throughput()

    def step():
        callback.on_train_batch_start(trainer, module, batch, 0)
        trainer.global_step += 1
        callback.on_train_batch_end(trainer, module, None, batch, 0)

    step()  # starts the clock at 0
    step()  # logs at 2.5
    assert logged == [("train/samples_per_second", pytest.approx(2 * 1000 / 2.5))]
    step()
    callback.on_validation_start(trainer, module)  # at 10: 7.5 s since the last logging
    step()  # from 110 to 112
    assert logged[1] == ("train/samples_per_second", pytest.approx(2 * 1000 / (7.5 + 2)))


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
