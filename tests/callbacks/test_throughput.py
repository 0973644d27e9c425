"""The speed that a training shows."""

from types import SimpleNamespace

import pytest
import torch

from callbacks.throughput import Throughput
from datamodules import Batch


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
