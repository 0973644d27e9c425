"""Base LightningModule of autoregressive models: loss, optimiser, carried states and checks of checkpoints."""

import math
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim.lr_scheduler import LambdaLR

from datamodules import AudioDataModule, Batch
from harmonicrnn.audio import Quantiser
from harmonicrnn.audio.quantise import Law
from harmonicrnn.checkpoints import UNSEEN, check_fits
from harmonicrnn.errors import UserError, check_choice, check_whole
from harmonicrnn.models import AutoregressiveNet, ModelState, undivided
from harmonicrnn.models.carried_states import CarriedStates
from harmonicrnn.models.dropout import Dropout, DropoutPlace, at_place
from harmonicrnn.old_names import bring_up_to_date
from harmonicrnn.ops import combined_key
from harmonicrnn.parallel import context_size
from harmonicrnn.voice_folder import read_weights
from lightning_modules.compiled_forward import Compile, CompiledForward
from lightning_modules.history_noise import LOWEST, with_noise
from lightning_modules.optimizer import OptimizerConfig, apply_config, optimizer_and_schedule

CARRIED = "carried_states"
SKIPPED = "skipped_steps"
BEGIN = "initial weights must be of the configured architecture and data: set model and data as in the config of those weights"
GATE = "net.gate."  # what the names of its weights begin with


class AutoregressiveModule(L.LightningModule, ABC):
    """Train a model of p(x_t | x_<t) by maximum likelihood of the next sample.

    A subclass builds the net from its own arguments and passes on the others.

    Args:
        net: The model, `forward(classes, state=None, before=None) -> (logits, state)`.
        optimizer, init_from, sample_rate, law, compile, history_noise: See `HarmonicModule`.
    """

    best_by: tuple[str, Literal["min", "max"]] = ("val/bits", "min")
    """Metric logged at validation that selects the best checkpoint, and whether its minimum or maximum is best."""

    @abstractmethod
    def __init__(
        self,
        net: AutoregressiveNet,
        optimizer: OptimizerConfig,
        init_from: Path | None,
        sample_rate: int,
        law: Law,
        compile: Compile = "auto",
        history_noise: float | None = None,
    ) -> None:
        super().__init__()
        if history_noise is not None and not LOWEST < history_noise <= 0:
            raise ValueError(f"model.history_noise must be above {LOWEST:g} dB and at most 0 dB, or null for none, got {history_noise}")
        check_choice("model.compile", compile, (True, False, "auto"))
        check_whole("model.sample_rate", sample_rate, 1)
        self.save_hyperparameters(ignore=["net", "init_from", "compile", "history_noise"])
        self.history_noise = history_noise
        self.net, self.optimizer, self.sample_rate = net, optimizer, sample_rate
        self.quantiser = Quantiser(net.bits, law)
        net.set_cells(*self.quantiser.cells())
        self.compiles = compile
        self._compiled: CompiledForward | None = None
        self.carried = CarriedStates()
        self.skipped = self.skipped_in_a_row = 0  # skipped optimiser steps
        self.not_finite = False  # whether a loss of the current optimiser step is not finite
        self.begun = init_from is not None  # whether the weights are of a training
        if init_from is not None:
            path, checkpoint = read_weights(Path(init_from))
            # A gate is trained after the network: it can be put on, and taken off.
            saved, gate = checkpoint["state_dict"], {n: w for n, w in self.state_dict().items() if n.startswith(GATE)}
            checkpoint["state_dict"] = gate | {n: w for n, w in saved.items() if n in gate or not n.startswith(GATE)}
            if not gate and len(checkpoint["state_dict"]) < len(saved):
                rank_zero_warn(
                    f"{path}: its gate is left out, as the network is trained; model.prediction.gate trains one on it afterwards"
                )
            check_fits(checkpoint, self, path, advice=BEGIN)
            self.load_state_dict(checkpoint["state_dict"])

    @property
    def unseen_in_weights(self) -> dict[str, str | int]:
        """Settings that the weights depend on, but that cannot be inferred from them."""
        return {**self.net.unseen_in_weights, "law": self.quantiser.law, "sample_rate": self.sample_rate}

    def forward(self, classes: Tensor, state: ModelState | None = None, before: Tensor | None = None) -> tuple[Tensor, ModelState]:
        """Return the logits of each sample given those before it, and the state after the last; see `AutoregressiveNet.forward`."""
        return self.net(classes, state, before)

    def setup(self, stage: str) -> None:
        if stage == "fit" and self.history_noise is not None and context_size(self.trainer) > 1:
            raise UserError("model.history_noise is drawn for whole clips, and here ranks share them: leave one of them out")
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            self.check_chunks(data, context_size(self.trainer))
        wanted = self.compiles is True or (self.compiles == "auto" and self.trainer.strategy.root_device.type == "cuda")
        if wanted and context_size(self.trainer) > 1:
            rank_zero_info("torch.compile: off, as ranks share a waveform and their exchanges cannot be compiled")
        elif wanted and not self.net.compiles:
            rank_zero_info("torch.compile: off, as linear prediction has kernels of its own that cannot be compiled")
        elif wanted and stage in ("fit", "validate"):
            self._compiled = CompiledForward(self.net)

    def on_fit_start(self) -> None:
        """Raise UserError if a gate is to be trained, and the network that it is trained on is not as it will be used."""
        if getattr(self.net, "gate", None) is None:
            return
        if not self.begun:
            raise UserError("model.prediction.gate is trained alone, on a network that was trained before: name it with --model.init_from")
        if self.history_noise is not None:
            raise UserError("model.history_noise is for the network, and a gate is trained without: leave it out, or model.prediction.gate")
        if any(isinstance(module, Dropout) and module.rate for module in self.net.modules()):
            raise UserError(
                "model.dropout is for the network, and a gate is trained without: set it to 0, or leave out model.prediction.gate"
            )

    def check_chunks(self, data: AudioDataModule, ranks: int) -> None:
        """Raise UserError if clips are too short to be split over the ranks that share them, or if chunks with carried state do not
        consist of whole pooling windows on each rank."""
        product = self.net.pooling_product
        windows = f"the product of the pooling factors ({product})" + (f" and the {ranks} ranks that share a waveform" if ranks > 1 else "")
        if ranks > 1 and data.clip_samples < ranks * product:
            least = f"data.clip_samples ({data.clip_samples}) must be at least {ranks * product}, {windows}"
            raise UserError(f"{least}; use longer clips or fewer ranks")
        if any(data.carries_state(split) for split in ("train", "validation")) and data.clip_samples % (ranks * product):
            raise UserError(
                f"data.clip_samples ({data.clip_samples}) must be a multiple of {windows} where state "
                "is carried from chunk to chunk (data.order: sequential, data.eval_context: file)"
            )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        return optimizer_and_schedule(self.trainer, self.net, self.optimizer)

    def on_train_start(self) -> None:
        # Only a resumed training has a restored optimiser and schedule.
        if self.global_step and isinstance(schedule := self.lr_schedulers(), LambdaLR):
            apply_config(self.trainer.optimizers[0], schedule, self.optimizer)

    def training_step(self, batch: Batch) -> Tensor:
        nats = torch.where(batch.valid, self._nats(batch, "train"), 0).sum()
        # Normalise by the valid samples of all ranks. The nats are summed in the same exchange, so that all ranks stop together.
        sums, ranks = torch.stack([nats.detach().double(), batch.valid.sum().double()]), self.trainer.world_size
        if ranks > 1:
            sums = self.trainer.strategy.reduce(sums, reduce_op="sum")
        counted = sums[1].clamp(min=1)  # a batch without valid samples has a loss of 0
        mean = sums[0] / counted
        if not mean.isfinite() and self.optimizer.skip_above is None:
            where = "in another rank's share" if nats.isfinite() else first_non_finite(self, batch.classes)
            raise UserError(f"the loss is {mean.item()} at step {self.global_step}; not finite first: {where}. {self._advice()}")
        if not mean.isfinite():
            self.not_finite = True
            self.carried.begin_anew("train")  # the carried states may not be finite either
        elif sums[1] > 0:
            self._log_bits(mean)
        return nats * (ranks / counted).to(nats.dtype)  # DDP averages gradients over the ranks

    def _log_bits(self, nats: Tensor) -> None:
        bits = (nats / math.log(2)).float()
        self.log("train/bits", bits)
        self.log("bits/sample", bits, prog_bar=True, logger=False)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        norm = get_total_norm([p.grad for p in self.parameters() if p.grad is not None])
        if self.optimizer.skip_above is not None:
            self._leave_out(norm)
        elif not norm.isfinite():
            bad = (n for n, p in self.named_parameters() if p.grad is not None and not p.grad.isfinite().all())
            name = next(bad, "none alone, but their norm")
            raise UserError(f"the gradient is not finite at step {self.global_step}, first that of {name}. {self._advice()}")
        self.log("train/gradient_norm", norm)

    def _leave_out(self, norm: Tensor) -> None:
        """Skip the step if its loss or gradient norm is not finite, or the norm exceeds the limit; both are equal on all ranks."""
        limit = self.optimizer.skip_above
        assert limit is not None
        leave_out, self.not_finite = self.not_finite or not norm.item() <= limit, False
        self.skipped, self.skipped_in_a_row = self.skipped + leave_out, self.skipped_in_a_row + 1 if leave_out else 0
        self.log("train/skipped_steps", float(self.skipped))
        if not leave_out:
            return
        for parameter in self.parameters():
            parameter.grad = None  # the optimiser skips these
        if self.skipped_in_a_row >= self.optimizer.most_skips:
            raise UserError(
                f"{self.skipped_in_a_row} steps in a row were skipped, up to step {self.global_step}: their losses are not "
                f"finite, or their gradients' norms above model.optimizer.skip_above ({limit:g}), the last {norm.item():g}. "
                f"{self._advice()}"
            )

    def validation_step(self, batch: Batch) -> Tensor:
        """Return the nats of each sample, (B, T)."""
        return self._nats(batch, "evaluation")

    def test_step(self, batch: Batch) -> Tensor:
        """Return the nats of each sample, (B, T)."""
        return self._nats(batch, "evaluation")

    def _heard(self, batch: Batch, stream: str) -> Tensor | None:
        """Return the noisy history of a training batch, a function of seed, step and place in the data; None for the batch itself."""
        if stream != "train" or self.history_noise is None:
            return None
        seed, places = int(os.environ.get("PL_GLOBAL_SEED", 0)), zip(batch.clip.tolist(), _starts(batch).tolist(), strict=True)
        seeds = [combined_key(seed, self.global_step, *place) for place in places]
        return with_noise(batch.classes, self.quantiser, self.history_noise, seeds)

    def _nats(self, batch: Batch, stream: str) -> Tensor:
        nats, heard = self._compiled.nats if self._compiled else self.net.nats, self._heard(batch, stream)
        with at_place(self.net, self._place(batch) if stream == "train" else None):
            if batch.context is None:
                found, _ = nats(batch.classes, None, batch.before, heard)
            else:
                found, state = nats(batch.classes, self.carried.take(stream, batch.context, self.net), batch.before, heard)
                self.carried.put(stream, state, self.net.slices)
        return found

    def _place(self, batch: Batch) -> DropoutPlace:
        return DropoutPlace.of(self.net, int(os.environ.get("PL_GLOBAL_SEED", 0)), self.global_step, batch.clip, _starts(batch))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[UNSEEN] = self.unseen_in_weights
        checkpoint[CARRIED] = self.carried.to_save(self._over_data_ranks)
        checkpoint[SKIPPED] = [self.skipped, self.skipped_in_a_row]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.begun = True
        bring_up_to_date(checkpoint)
        if self._trainer is not None and self.trainer.precision == "64-true":
            self.double()  # Lightning converts after loading, which would round the weights
        spread = self._trainer is not None and self.trainer.world_size > 1
        rank = self.trainer.strategy.distributed_sampler_kwargs["rank"] if spread else 0
        self.carried.restore(checkpoint.get(CARRIED, []), rank)
        self.skipped, self.skipped_in_a_row = checkpoint.get(SKIPPED, [0, 0])

    def _over_data_ranks(self, tensor: Tensor) -> Tensor:
        if self.trainer.world_size == 1:
            return tensor[None]
        # Ranks of one context group are consecutive, and all have its state.
        return self.all_gather(tensor)[:: context_size(self.trainer)]

    def _advice(self) -> str:
        return "The last checkpoint is kept; lower model.optimizer.lr, or check the data"


def _starts(batch: Batch) -> Tensor:
    """Return the position of each lane's first sample in its recording or clip, (B,)."""
    start = torch.zeros_like(batch.clip)
    for offset in (batch.context, batch.start):
        start = start if offset is None else start + offset
    return start


@torch.no_grad()
def first_non_finite(net: nn.Module, classes: Tensor) -> str:
    """Return the name of the first parameter, or else of the first layer output in forward order, that is not finite."""
    for name, parameter in net.named_parameters():
        if not parameter.isfinite().all():
            return f"parameter {name}"
    found: list[str] = []

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            value = output[0] if isinstance(output, tuple) else output
            if not found and not value.isfinite().all():
                found.append(f"layer {name}")

        return hook

    # Hooks of inner layers run before those of their parents, so the first one found is the innermost.
    handles = [layer.register_forward_hook(watch(name)) for name, layer in net.named_modules() if name]
    try:
        with undivided(net):
            net(classes)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else "the loss itself"
