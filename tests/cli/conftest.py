"""Fixtures that run the command line in this process, on tiny audio, in a temporary folder."""

import os
import shutil
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities import rank_zero_only

from cli import main
from tests.audio_files import make_sc09
from tests.forking import in_child, status_of
from tests.harmonicrnn.parallel.ranks import free_port

REPOSITORY = Path(__file__).parents[2]
CONFIG = """
seed_everything: 1
model:
  preset: griffin
  levels: [{{width: 8, depth: 1, factor: 2}}, {{width: 16, depth: 1}}]
  heads: 2
  groups: 2
data:
  class_path: datamodules.SC09
  init_args: {{root: {root}, clip_samples: 320, batch_size: 4, num_workers: 0}}
samples: {{sample_seconds: 0.002, prompt_seconds: 0.001}}
trainer:
  max_steps: 4
  val_check_interval: 2
  check_val_every_n_epoch: null
  log_every_n_steps: 1
  enable_progress_bar: false
  default_root_dir: logs/tiny
"""


def without_pictures(patch):
    """Skips pictures, which take most of the time of a tiny training; the tests of callbacks draw them."""
    patch.setattr("torch.utils.tensorboard.writer.figure_to_image", lambda *_: np.zeros((3, 1, 1), np.uint8))
    for function in ("audio_samples.mel_figure", "audio_samples.waveform_figure", "nll_report.position_figure"):
        patch.setattr(f"callbacks.{function}", lambda *_, **__: None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Enters and returns a working directory with `data/`, in the layout of SC09, and `tiny.yaml`."""
    monkeypatch.chdir(tmp_path)
    without_pictures(monkeypatch)
    make_sc09(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(textwrap.dedent(CONFIG.format(root=tmp_path / "data")))
    torch.set_num_threads(1)
    return tmp_path


def made_in(folder, extra=""):
    """Prepares a folder like the fixture `folder`, trains a run in it, and returns it."""
    make_sc09(folder / "data")
    (folder / "tiny.yaml").write_text(textwrap.dedent(CONFIG.format(root=folder / "data")))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        without_pictures(patch)
        assert main(f"fit --config tiny.yaml {extra}".split()) == 0
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Returns a folder with a finished run."""
    return made_in(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def halted(tmp_path_factory):
    """Returns a folder with a run that stopped at step 2 of 4, without samples."""
    extra = "--samples.sample_seconds 0 --trainer.callbacks+=tests.cli.run_callbacks.StopAt"
    return made_in(tmp_path_factory.mktemp("halted"), extra)


def copied(made, folder, version=0):
    """Copies the run in `made` into the working directory and returns its folder."""
    to = folder / f"logs/tiny/version_{version}"
    run = Path(shutil.copytree(made / "logs/tiny/version_0", to, copy_function=shutil.copy))  # the newest run is the last one copied
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace(str(made), str(folder)))
    return run


@pytest.fixture
def ready(folder, trained):
    """Returns `logs/tiny/version_0` in the working directory, as left by `fit --config tiny.yaml`."""
    return copied(trained, folder)


@pytest.fixture
def begun(folder, halted):
    """Returns `logs/tiny/version_0` in the working directory, stopped at step 2 of 4."""
    return copied(halted, folder)


@pytest.fixture
def old_run(tmp_path):
    """Returns the folder of a copy, below `logs/`, of a run made by version 0.1."""
    return Path(shutil.copytree(REPOSITORY / "tests/fixtures/run_of_version_0.1", tmp_path / "logs/demo/version_0"))


@pytest.fixture
def run(folder):
    """Returns a function that runs the command line; spaces separate the arguments."""
    return lambda command: main(command.split())


def as_program(folder, command, timeout=200):
    """Runs the command line as a program in its own process group, which Lightning kills on failure; returns the CompletedProcess."""
    arguments = [sys.executable, REPOSITORY / "train.py", *command.split()]
    # The callbacks of the tests are imported from the repository.
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, start_new_session=True)


def as_two_ranks(folder, command):
    """Runs a command line in two forked processes with the environment of torchrun; returns their exit statuses and joint output."""
    port = free_port()

    def work(rank):
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", GROUP_RANK="0")
        os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=str(port), TORCHELASTIC_RUN_ID="test")
        rank_zero_only.rank = rank  # Lightning reads it at import
        return main(f"{command} --trainer.devices 2 --trainer.accelerator cpu --trainer.strategy ddp".split())

    outputs = [folder / f"rank_{rank}.txt" for rank in range(2)]
    children = [in_child(partial(work, rank), output) for rank, output in enumerate(outputs)]
    return [status_of(child) for child in children], "".join(output.read_text() for output in outputs)
