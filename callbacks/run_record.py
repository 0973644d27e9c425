"""What it takes to know later what a run was."""

import json
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from callbacks.run_directory import run_directory
from harmonicrnn.checkpoints import FORMAT, KEY
from harmonicrnn.files import replacing
from harmonicrnn.provenance import provenance


class RunRecord(Callback):
    """Keeps code version, seed and library versions: as `run.json` in the run's folder, and in each checkpoint beside its format version.

    Args:
        seed: What the initial weights derive from; the data and the samples have seeds of their own in the config.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.record: dict[str, Any] = {
            "format": FORMAT,
            "seed": seed,
            **provenance(),
        }

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            with replacing(run_directory(trainer) / "run.json") as file:
                file.write((json.dumps(self.record, indent=2) + "\n").encode())

    @override
    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.record
