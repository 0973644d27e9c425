"""Tests of a run of version 0.1, made before the library was a package, with all commands."""

import json

import numpy as np
import pytest
import torch
import yaml

from cli import main

CLASSES = [
    85,
    32,
    24,
    43,
    62,
    22,
    30,
    23,
    113,
    180,
    243,
    13,
    149,
    231,
    107,
    48,
    22,
    147,
    38,
    204,
    233,
    218,
    16,
    130,
]  # drawn by version 0.1


@pytest.fixture
def run(old_run, monkeypatch):
    """Runs the command line in the folder that holds `logs/demo/version_0`."""
    monkeypatch.chdir(old_run.parents[2])
    torch.set_num_threads(1)
    return lambda command: main(command.split())


def test_it_draws_the_same_samples(run, old_run):
    assert run("generate --seconds 0.003 --seed 3 --data.clips 8 --out clips") == 0
    assert np.load(old_run.parents[2] / "clips/clip_0000.npy").tolist() == CLASSES
    assert json.loads((old_run.parents[2] / "clips/manifest.json").read_text())["reference"]["source"].startswith("Synthetic")
    assert (old_run / "detector_reference.json").is_file()


def test_it_is_tested(run, old_run):
    # Clips do not depend on the size of the dataset; an eighth of it is the test split.
    assert run("test --data.clips 24 --trainer.limit_test_batches 2 --trainer.enable_progress_bar false") == 0
    assert json.loads((old_run / "nll_test_partial.json").read_text())["bits_per_sample"] == pytest.approx(8.007461661230021, abs=1e-6)


def test_its_training_goes_on(run, old_run):
    """The config sets the model without a class, and the dataset by its short path."""
    more = "--trainer.max_steps 22 --trainer.limit_val_batches 0 --samples.sample_seconds 0"
    assert run(f"fit --config {old_run}/config.yaml --ckpt_path best {more}") == 0
    last = torch.load(old_run / "checkpoints/last.ckpt", weights_only=True)
    assert last["global_step"] == 22
    assert yaml.safe_load((old_run / "config.yaml").read_text())["trainer"]["max_steps"] == 22
