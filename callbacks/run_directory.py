"""Where a run's files are."""

from pathlib import Path

import lightning as L


def run_directory(trainer: L.Trainer) -> Path:
    """The run's folder: the one being written in training, else the one that the evaluated checkpoint lies in.

    For the first rank alone, and without the others' help: Lightning's own `trainer.log_dir` waits for all of them.
    """
    if trainer.state.fn != "fit" and trainer.ckpt_path:
        checkpoint = Path(trainer.ckpt_path).resolve()
        return checkpoint.parents[1] if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    return Path(trainer.loggers[0].log_dir if trainer.loggers and trainer.loggers[0].log_dir else trainer.default_root_dir)
