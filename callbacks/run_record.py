"""What it takes to know later what a run was."""

import json
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

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


def run_directory(trainer: L.Trainer) -> Path:
    """The run's folder: the one being written in training, else the one that the evaluated checkpoint lies in.

    For the first rank alone, and without the others' help: Lightning's own `trainer.log_dir` waits for all of them.
    """
    if trainer.state.fn != "fit" and trainer.ckpt_path:
        checkpoint = Path(trainer.ckpt_path).resolve()
        return checkpoint.parents[1] if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    return Path(trainer.loggers[0].log_dir if trainer.loggers and trainer.loggers[0].log_dir else trainer.default_root_dir)
