"""Classes that moved are found by each of the class paths that they had."""

import importlib

import pytest

from harmonicrnn.old_names import current

PUBLISHED = ("SC09", "SC09Digits", "Maestro", "HubWavs", "Beethoven", "YouTubeMix")
OLD = [f"datamodules.{module}.{name}" for module in ("published", "datasets") for name in PUBLISHED]
OLD += ["datamodules.sc09_digits.SC09Digits", "datamodules.beethoven.Beethoven", "datamodules.youtube_mix.YouTubeMix"]
CHECKPOINTS = ("WholeCheckpointIO", "OneFile", "BestCheckpoint", "LastCheckpoint", "Stopped", "FinalValidation")
OLD += [f"callbacks.{module}.{name}" for module in ("checkpoints", "checkpointing") for name in CHECKPOINTS]
OLD += ["callbacks.run_record.RandomStates", "callbacks.throughput.TrainingBar", "callbacks.loggers.Curves", "callbacks.loggers.Table"]
OLD += ["datamodules.synthetic.Synthetic", "datamodules.memory.Memory"]
STAYED = ["datamodules.SC09", "datamodules.sc09.SC09", "datamodules.maestro.Maestro", "datamodules.hub_wavs.HubWavs"]
STAYED += ["callbacks.LastCheckpoint", "callbacks.final_validation.FinalValidation", "callbacks.random_states.RandomStates"]
STAYED += ["callbacks.training_bar.TrainingBar", "callbacks.run_record.RunRecord", "callbacks.throughput.Throughput"]


@pytest.mark.parametrize("path", [*OLD, *STAYED])
def test_a_class_is_found_by_its_old_path(path):
    module, _, name = current(path).rpartition(".")
    assert getattr(importlib.import_module(module), name).__name__ == path.rpartition(".")[2]
    assert current(current(path)) == current(path)
    assert (current(path) != path) == (path in OLD)
