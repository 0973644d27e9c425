"""Where a run's files are."""

from pathlib import Path

import lightning as L


def run_directory(trainer: L.Trainer) -> Path:
    """The run's folder: the one being written in training, else the one that the evaluated checkpoint lies in."""
    if trainer.state.fn != "fit" and trainer.ckpt_path:
        checkpoint = Path(trainer.ckpt_path).resolve()
        return checkpoint.parents[1] if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    return Path(trainer.log_dir or trainer.default_root_dir)
