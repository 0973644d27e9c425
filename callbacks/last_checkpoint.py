"""Callback that saves `last.ckpt`, and stops training when a signal asks for it."""

import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from typing_extensions import override

from callbacks.checkpoint_files import OneFile
from callbacks.final_validation import is_done
from callbacks.stop_signals import Stopped, StopSignals
from harmonicrnn.files import remove_parts


class LastCheckpoint(OneFile):
    """Save `last.ckpt` after each validation, every few minutes, at the end of training, and on a stop signal.

    After a stop signal, the current step and validation are finished and `Stopped` is raised. Lightning's `save_last` skips validations
    that are not the best, and its `train_time_interval` skips intervals that end while gradients are accumulated.

    Args:
        minutes: Minutes between checkpoints; null to save at validations only.
    """

    def __init__(self, minutes: float | None = 10) -> None:
        if minutes is not None and not minutes > 0:
            raise ValueError(f"checkpoint.minutes must be above 0, or null, got {minutes}")
        super().__init__("last")
        self.minutes = minutes

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._signals = StopSignals()
        self._signals.ignore_after(trainer._signal_connector)
        if trainer.is_global_zero and self.dirpath:
            remove_parts(Path(self.dirpath))

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        # Gloo: the reduction after each step runs on the CPU and does not synchronise the GPU.
        self._group = None
        if trainer.world_size > 1:
            self._group = torch.distributed.new_group(backend="gloo", timeout=getattr(trainer.strategy, "_timeout", None))
        self._saved_at = time.monotonic()
        self._signals.watch()

    @override
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        loop = trainer.fit_loop.epoch_loop
        if loop._should_accumulate() or is_done(trainer):
            return  # accumulated gradients are not saved in checkpoints
        signum, due = self._asked(trainer)
        # A run resumed from here would skip a validation that is due now; on_validation_end saves and stops instead.
        if (signum or due) and not loop._should_check_val_fx(trainer.fit_loop._data_fetcher):
            self._save(trainer)
            self._stop(trainer, signum)

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if trainer.sanity_checking or is_done(trainer):
            return
        signum, due = self._asked(trainer)
        if signum or due:
            self._save(trainer)
        self._stop(trainer, signum)

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._save(trainer)

    def _asked(self, trainer: L.Trainer) -> tuple[int, bool]:
        """Return the signal received by any rank (0 for none), and whether a checkpoint is due by the first rank's clock."""
        due = trainer.is_global_zero and self.minutes is not None and time.monotonic() - self._saved_at >= 60 * self.minutes
        asked = torch.tensor([self._signals.received, due])
        if self._group is not None:
            torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX, group=self._group)
        return int(asked[0]), bool(asked[1])

    def _save(self, trainer: L.Trainer) -> None:
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    @override
    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        self._saved_at = time.monotonic()

    def _stop(self, trainer: L.Trainer, signum: int) -> None:
        if signum:
            raise Stopped(trainer, signum, Path(self.best_model_path))
