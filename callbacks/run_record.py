"""What it takes to know later what a run was."""

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
    """Keeps code version, seed, command and libraries: as `run.json` in the run's folder, and in each checkpoint beside its format version.

    Args:
        seed: What the initial weights derive from; the data and the samples have seeds of their own in the config.
        command: That started the training.
    """

    def __init__(self, seed: int | None = None, command: str | None = None) -> None:
        self.record: dict[str, Any] = {
            "format": FORMAT,
            "seed": seed,
            "command": command,
            **provenance(),
        }

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
    """The run's folder: the one being written in training, else the one that the evaluated checkpoint lies in. Of the first rank alone."""
    if trainer.state.fn != "fit" and trainer.ckpt_path:
        return run_of(Path(trainer.ckpt_path)).folder
    return Path(trainer.default_root_dir)
