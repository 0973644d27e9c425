"""Callback that validates after the last step of a training."""

import lightning as L
from lightning.pytorch.callbacks import Callback
from typing_extensions import override


class FinalValidation(Callback):
    """Validate after the last step regardless of `trainer.val_check_interval`, as the last checkpoint may be the best."""

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loop = trainer.fit_loop.epoch_loop
        due = loop._should_check_val_fx

        def due_or_done(fetcher: object) -> bool:
            return due(fetcher) or (trainer.enable_validation and not loop._should_accumulate() and is_done(trainer))  # type: ignore[arg-type]

        loop._should_check_val_fx = due_or_done  # type: ignore[method-assign]


def is_done(trainer: L.Trainer) -> bool:
    """Return whether the current step is the last one of the training."""
    last_epoch = trainer.max_epochs not in (None, -1) and trainer.current_epoch + 1 >= trainer.max_epochs  # type: ignore[operator]
    steps_done = 0 <= trainer.max_steps <= trainer.global_step
    return steps_done or bool(last_epoch and trainer.fit_loop.epoch_loop.batch_progress.is_last_batch)
