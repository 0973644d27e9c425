"""LightningModule of the spoken-digit classifier used for the SC09 scores."""

from collections.abc import Sequence
from typing import Any, Literal

import lightning as L
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from datamodules import Batch, SC09Digits
from harmonicrnn.audio import Quantiser
from harmonicrnn.audio.quantise import Law
from harmonicrnn.checkpoints import DIGIT_ACCURACY, UNSEEN
from harmonicrnn.errors import UserError
from harmonicrnn.models.digit_net import CLASSES, RATE, DigitNet
from lightning_modules.optimizer import OptimizerConfig, apply_config, optimizer_and_schedule

SHIFT = 0.1  # largest shift in training, in seconds
SPEED = 0.15  # largest relative change of speed in training
NOISY = 0.3  # share of clips with noise in training
QUIETEST_NOISE, LOUDEST_NOISE = 15.0, 0.0  # dB below the power of the clip
SPLITS: tuple[Literal["validation"], Literal["test"]] = ("validation", "test")
NOTHING = -1  # label of an empty lane


class DigitModule(L.LightningModule):
    """Train a ResNeXt on log-mel spectrograms of augmented clips by the cross entropy of the digit.

    Clips are quantised and decoded at the centres of the cells, as generated audio is.

    Args:
        optimizer: Settings of the optimiser.
        sample_rate: Sample rate of the audio in Hz; set from the data.
        bits: Bits per sample; set from the data.
        law: Spacing of the classes; set from the data.
        stem: Channels of the first convolution.
        widths: Channels of each stage; each stage but the first halves the spectrogram.
        blocks: Residual blocks per stage.
        cardinality: Groups of the inner convolution of a block.
        group_width: Channels per group in the first stage.
        hidden: Width of the last hidden layer, whose activations are the features.
    """

    best_by: tuple[str, Literal["min", "max"]] = ("val/loss", "min")

    def __init__(
        self,
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008 - frozen
        sample_rate: int = RATE,
        bits: int = 8,
        law: Law = "mu-law",
        stem: int = 32,
        widths: Sequence[int] = (32, 64, 128),
        blocks: int = 2,
        cardinality: int = 8,
        group_width: int = 4,
        hidden: int = 64,
    ) -> None:
        super().__init__()
        if sample_rate != RATE:
            raise UserError(f"data.sample_rate must be {RATE} for the digit classifier, got {sample_rate}")
        if optimizer.skip_above is not None:
            raise UserError("model.optimizer.skip_above: the digit classifier does not support skipping steps; set it to null")
        self.save_hyperparameters()
        self.optimizer, self.quantiser = optimizer, Quantiser(bits, law)
        self.net = DigitNet(stem, widths, blocks, cardinality, group_width, hidden)
        self.accuracy = torch.nn.ModuleDict({split: MulticlassAccuracy(CLASSES, average="micro", ignore_index=NOTHING) for split in SPLITS})
        self.loss = torch.nn.ModuleDict({split: MeanMetric() for split in SPLITS})
        self.measured: dict[str, float] = {}
        self.measured_at = -1  # step at which it was measured

    def forward(self, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, hidden) and logits (B, 10) of audio (B, T) in [-1, 1] at 16 kHz; only the first second is used."""
        features, logits = self.net(audio)
        return features, logits

    @property
    def unseen_in_weights(self) -> dict[str, str | int]:
        """Settings that the weights depend on, but that cannot be inferred from them."""
        return {"bits": self.quantiser.bits, "law": self.quantiser.law}

    def setup(self, stage: str) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(data, SC09Digits):
            raise UserError(f"data.class_path must be datamodules.SC09Digits, whose clips have labels, got {type(data).__name__}")
        self._labels = {split: data.labels(split) for split in data.datasets}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimizer_and_schedule(self.trainer, self.net, self.optimizer)

    def on_train_start(self) -> None:
        apply_config(self.trainer.optimizers[0], self.lr_schedulers(), self.optimizer)  # type: ignore[arg-type]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean cross entropy in nats."""
        _, logits = self(in_noise(moved(self._audio(batch))))
        loss = F.cross_entropy(logits, self._of(batch, "train"))
        if not loss.isfinite():
            raise UserError(f"the loss is {loss.item()} at step {self.global_step}: lower model.optimizer.lr, or check the data")
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._measure(batch, SPLITS[dataloader_idx])

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._measure(batch, "test")

    def _measure(self, batch: Batch, split: Literal["validation", "test"]) -> None:
        _, logits = self(self._audio(batch))
        labels = self._of(batch, split)
        self.accuracy[split].update(logits, labels)
        self.loss[split].update(F.cross_entropy(logits, labels, ignore_index=NOTHING, reduction="none"), (labels != NOTHING).float())

    def on_validation_epoch_end(self) -> None:
        self._finish("validation", "val")
        self._finish("test", None)

    def on_test_epoch_end(self) -> None:
        self._finish("test", "test")

    def _finish(self, split: str, tag: str | None) -> None:
        self.measured[split] = self.accuracy[split].compute().item()
        self.measured_at = self.global_step
        loss = self.loss[split].compute()
        if self.trainer.state.fn != "fit" and not loss.isfinite():
            raise UserError(f"{self.trainer.ckpt_path}: its loss is {loss.item()}: the training diverged")
        if tag is not None:  # accuracy on the test split is stored, but not used for selection
            self.log(f"{tag}/accuracy", self.measured[split], prog_bar=True, sync_dist=True)
            self.log(f"{tag}/loss", loss, sync_dist=True)
        self.accuracy[split].reset()
        self.loss[split].reset()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[UNSEEN] = self.unseen_in_weights
        # Between validations, the measured accuracy is that of older weights.
        checkpoint[DIGIT_ACCURACY] = dict(self.measured) if self.measured_at == checkpoint["global_step"] else {}

    def _audio(self, batch: Batch) -> Tensor:
        return self.quantiser.decode_centre(batch.classes) * batch.valid

    def _of(self, batch: Batch, split: str) -> Tensor:
        labels = self._labels[split].to(batch.clip.device)[batch.clip]
        return torch.where(batch.clip < 0, NOTHING, labels)


def in_noise(audio: Tensor) -> Tensor:
    """Add white noise, 15 to 0 dB below the clip's power, to 30 % of clips (B, T).

    Without it, a classifier was so confident of wrong digits at 10 dB that the AM score was worse than at 0 dB.
    """
    lanes, device = len(audio), audio.device
    ratio = torch.rand(lanes, 1, device=device) * (QUIETEST_NOISE - LOUDEST_NOISE) + LOUDEST_NOISE
    level = (audio.square().mean(dim=1, keepdim=True) * 10 ** (-ratio / 10)).sqrt()
    return audio + torch.randn_like(audio) * level * (torch.rand(lanes, 1, device=device) < NOISY)


def moved(audio: Tensor) -> Tensor:
    """Change the speed of clips (B, T) by up to 15 % and shift them by up to 0.1 s, each at random; gaps are filled with zeros."""
    (lanes, samples), device = audio.shape, audio.device
    speed, shift = (2 * torch.rand(2, lanes, 1, device=device) - 1) * torch.tensor([SPEED, SHIFT * RATE], device=device)[:, None, None]
    place = (torch.arange(samples, device=device) - shift) * (1 + speed)
    before = place.floor()
    between = place - before
    padded = F.pad(audio, (1, 1))  # silence on both sides

    def at(index: Tensor) -> Tensor:
        return padded.gather(1, (index.long() + 1).clamp(0, samples + 1))

    return torch.lerp(at(before), at(before + 1), between)
