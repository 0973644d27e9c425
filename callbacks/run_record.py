"""Callback that records how a run is made: code, seed, command and library versions; the folder of a run."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from harmonicrnn.checkpoints import FORMAT, KEY
from harmonicrnn.files import side_product, write_json
from harmonicrnn.provenance import provenance
from harmonicrnn.runs import run_of


class RunRecord(Callback):
    """Save format, code version, seed, command and library versions in `run.json` in the run's folder, and in each checkpoint.

    Args:
        seed: Seed of the initial weights; data and audio samples have seeds of their own in the config.
        command: Command that started the training.
    """

    def __init__(self, seed: int | None = None, command: str | None = None) -> None:
        self.record: dict[str, Any] = {"format": FORMAT, "seed": seed, "command": command, **provenance()}

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            path = run_directory(trainer) / "run.json"
            with side_product(path):
                write_json(path, self.record)

    @override
    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.record


def run_directory(trainer: L.Trainer) -> Path:
    """Return the run's folder: in training the one being written, else that of the evaluated checkpoint. Valid on the first rank only."""
    if trainer.state.fn != "fit" and trainer.ckpt_path:
        return run_of(Path(trainer.ckpt_path)).folder
    return Path(trainer.default_root_dir)
