"""Callback that logs histograms of the recurrence coefficients a: modulus (decay) and angle (frequency)."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from typing_extensions import override

from callbacks.show import HISTOGRAMS, show_histogram, takes
from harmonicrnn.audio.dataset import Batch
from harmonicrnn.models import GatedRecurrence


class RecurrenceHistograms(Callback):
    """Log histograms of |a| and arg a, in radians, over the first validation batch, per step of each level.

    The tags are `recurrence/level_K/modulus_per_step` and `recurrence/level_K/angle_radians_per_step`. With context parallelism, only the
    first slice of each waveform is used.
    """

    @override
    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self._handles: list[Any] = []
        if batch_idx or trainer.sanity_checking or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        if not any(takes(logger, HISTOGRAMS) for logger in trainer.loggers):
            return
        self._seen: dict[int, list[tuple[Tensor, Tensor | None]]] = {}
        for name, layer in pl_module.named_modules():
            if isinstance(layer, GatedRecurrence):
                level = name.split(".").count("inner")
                self._handles.append(layer.register_forward_hook(self._watch(level)))

    @override
    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if not self._handles:
            return
        for handle in self._handles:
            handle.remove()
        for level, seen in self._seen.items():
            if not sum(modulus.numel() for modulus, _ in seen):
                continue  # the clip is shorter than this level's pooling window
            modulus, angle = zip(*seen, strict=True)
            show_histogram(trainer, f"recurrence/level_{level}/modulus_per_step", torch.cat(modulus))
            if angle[0] is not None:
                show_histogram(trainer, f"recurrence/level_{level}/angle_radians_per_step", torch.cat(angle))

    def _watch(self, level: int) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            # One lane and every 16th step are enough for the distribution.
            modulus, angle = layer.modulus_and_angle(inputs[0][:1, ::16])  # type: ignore[operator]
            self._seen.setdefault(level, []).append((modulus.flatten().cpu(), None if angle is None else angle.flatten().cpu()))

        return hook
