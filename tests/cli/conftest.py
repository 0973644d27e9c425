"""The command line run in this process, on tiny audio, in a folder of its own."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from cli import main
from tests.audio_files import make_sc09

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
  logger: {{init_args: {{name: tiny}}}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory: `data/` in the layout of SC09, and `tiny.yaml`."""
    monkeypatch.chdir(tmp_path)
    make_sc09(tmp_path / "data")
    (tmp_path / "tiny.yaml").write_text(textwrap.dedent(CONFIG.format(root=tmp_path / "data")))
    torch.set_num_threads(1)
    return tmp_path


@pytest.fixture
def old_run(tmp_path):
    """The folder of a copy of a run that version 0.1 made, below `logs/`."""
    return Path(shutil.copytree(REPOSITORY / "tests/fixtures/run_of_version_0.1", tmp_path / "logs/demo/version_0"))


@pytest.fixture
def run(folder):
    """Runs the command line; a space separates arguments."""
    return lambda command: main(command.split())


def as_program(folder, command, timeout=200):
    """The finished process of a command line; a process group of its own, as Lightning kills its group when a rank fails."""
    arguments = [sys.executable, REPOSITORY / "train.py", *command.split()]
    # Callbacks of the tests are found from the repository.
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=timeout, start_new_session=True)
