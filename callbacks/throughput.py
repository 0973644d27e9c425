"""Callback that measures the speed of training in audio samples per second."""

import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

from harmonicrnn.audio.dataset import Batch


class Throughput(Callback):
    """Log `train/samples_per_second` (`samples/s` in the progress bar): audio samples of all ranks per second, without validation.

    Lightning's ThroughputMonitor synchronises the GPU after every batch, and does not show the speed in the progress bar.
    """

    def __init__(self) -> None:
        self._samples, self._seconds = 0, 0.0
        self._started: float | None = None

    @override
    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int) -> None:
        # The clock starts at the first batch after a validation, and then includes waiting for data.
        if self._started is None:
            self._started = time.perf_counter()

    @override
    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int) -> None:
        self._samples += batch.classes.numel() * trainer.world_size
        every = trainer.log_every_n_steps
        if every and trainer.global_step % every == 0 and self._started is not None:
            if batch.classes.is_cuda:
                torch.cuda.synchronize()
            now = time.perf_counter()
            self._seconds += now - self._started
            rate = self._samples / self._seconds
            pl_module.log("train/samples_per_second", rate)
            pl_module.log("samples/s", rate, prog_bar=True, logger=False)
            self._samples, self._seconds, self._started = 0, 0.0, now

    @override
    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._started is not None:
            self._seconds += time.perf_counter() - self._started
            self._started = None
