"""Callback that shows the progress of training as one bar over all steps."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from typing_extensions import override


class TrainingBar(RichProgressBar):
    """Lightning's progress bar over all steps of a training instead of one per epoch, without the logger's version."""

    @property
    @override
    def total_train_batches(self) -> int:
        return int(self.trainer.estimated_stepping_batches)

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        if self.progress is not None:
            self.train_progress_bar_id = self._add_task(self.total_train_batches, f"{'Training':{len(self.validation_description)}}")
            # Exclude earlier steps of a resumed run from the speed.
            self.progress.reset(self.train_progress_bar_id, completed=trainer.global_step)

    @override
    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Do nothing: the bar spans all epochs."""

    @override
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, trainer.global_step - 1)

    @override
    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, int | str | float | dict[str, float]]:
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics
