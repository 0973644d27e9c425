"""What it takes to know later what a run was."""

import json
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from callbacks.run_directory import run_directory
from files import replacing
from lightning_modules.checkpoints import FORMAT, KEY

LIBRARIES = ("torch", "torchaudio", "lightning", "torchmetrics", "numpy", "numba", "soundfile", "soxr", "frechet-audio-distance")


def code_version() -> str:
    """The commit of the code, marked where files differ from it; "unknown" outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


class RunRecord(Callback):
    """Keeps code version, seed and library versions: as `run.json` in the run's folder, and in each checkpoint beside its format version.

    Args:
        seed: What the initial weights derive from; the data and the samples have seeds of their own in the config.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.record: dict[str, Any] = {
            "format": FORMAT,
            "code": code_version(),
            "seed": seed,
            "python": platform.python_version(),
            "libraries": {name: version(name) for name in LIBRARIES},
        }

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            with replacing(run_directory(trainer) / "run.json") as file:
                file.write((json.dumps(self.record, indent=2) + "\n").encode())

    @override
    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[KEY] = self.record
