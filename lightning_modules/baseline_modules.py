"""LightningModules of the baselines: WaveNet and context counts."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from typing_extensions import override

from datamodules import Batch
from harmonicrnn.audio.quantise import Law
from harmonicrnn.errors import UserError
from harmonicrnn.models import ContextCounts, WaveNet
from lightning_modules.autoregressive_module import AutoregressiveModule
from lightning_modules.harmonic_module import HarmonicModule
from lightning_modules.optimizer import OptimizerConfig, check_ends


class WaveNetModule(HarmonicModule):
    """Train WaveNet by maximum likelihood of the next sample, with the settings of `HarmonicModule`.

    Args:
        network: Architecture, see `harmonicrnn.models.WaveNet`; bits are set from the data.
    """

    @override
    def build(self, **network: Any) -> WaveNet:
        return WaveNet(**network)


class CountsModule(AutoregressiveModule):
    """Count contexts: each step predicts a batch from the counts so far, and then adds the batch to them.

    Args:
        init_from: Checkpoint with initial counts.
        sample_rate: Sample rate of the audio in Hz; set from the data.
        law: Spacing of the classes; set from the data.
        network: Settings of `harmonicrnn.models.ContextCounts`; bits are set from the data.
    """

    net: ContextCounts

    def __init__(self, init_from: Path | None = None, sample_rate: int = 16_000, law: Law = "mu-law", **network: Any) -> None:
        net = ContextCounts(**network)
        super().__init__(net, OptimizerConfig(), init_from, sample_rate, law, compile=False)

    @override
    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.trainer.world_size > 1:
            raise UserError("counts are not shared between ranks: train CountsModule with trainer.devices 1")
        if stage == "fit" and any(isinstance(callback, WeightAveraging) for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            raise UserError("counts have no moving average: train CountsModule with ema.decay null")

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        check_ends(self.trainer)
        # It changes no weights; Lightning counts steps by it.
        return torch.optim.SGD(self.parameters(), lr=0.0)

    @override
    def training_step(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            state = None if batch.context is None else self.carried.take("train", batch.context, self.net)
            nats = torch.where(batch.valid, self._nats(batch, "train"), 0).sum()
            delayed, _, _ = self.net.delay(batch.classes, state, batch.before)
            self.net.learn(delayed, state.levels if state else None, batch.classes.long(), batch.valid)
        if batch.valid.any():
            self._log_bits(nats / batch.valid.sum())
        return torch.zeros((), requires_grad=True)
