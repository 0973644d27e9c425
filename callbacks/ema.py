"""Callback for an exponential moving average (EMA) of the weights."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from typing_extensions import override


class EMA(WeightAveraging):
    """Exponential moving average of the weights, updated after each step and used for validation, sampling and checkpoints.

    Args:
        decay: Decay in (0, 1), limited to (1 + n)/(10 + n) at step n, so that the initial weights are soon forgotten. Null for no
            averaging.
    """

    def __init__(self, decay: float | None = None) -> None:
        if decay is not None and not 0 < decay < 1:
            raise ValueError(f"ema.decay must be between 0 and 1, got {decay}")
        self.decay = decay

        def average(averaged: list[Tensor], current: list[Tensor], updates: Tensor | int) -> None:
            assert decay is not None
            n = float(updates)
            torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

        super().__init__(multi_avg_fn=average)

    @override
    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # The average was created before the trainer converted the module to its precision.
        assert self._average_model is not None
        averages, module = ((*each.parameters(), *each.buffers()) for each in (self._average_model.module, pl_module))
        for averaged, current in zip(averages, module, strict=True):
            averaged.data = averaged.data.to(current.dtype)

    @override
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **options: Any) -> None:
        if getattr(pl_module, "skipped_in_a_row", 0):  # a skipped step does not change the weights
            self._latest_update_step = trainer.global_step
            return
        super().on_train_batch_end(trainer, pl_module, *args, **options)

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Do nothing yet: the final checkpoint must hold both the current weights and the average."""

    @override
    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_end(trainer, pl_module)

    @override
    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # Evaluation does not use the average's state, and Lightning would warn about it.
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
