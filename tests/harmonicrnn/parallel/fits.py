"""Small trainings that run on each rank, or on one process, and return their losses, gradients and weights."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from callbacks.ema import EMA
from callbacks.nll_report import NLLReport
from datamodules import AudioFolder, Batch, Memory
from harmonicrnn.models import LevelSpec, ResidualBlock
from harmonicrnn.models.block import ResidualBranch, TemporalMixer
from harmonicrnn.parallel import ContextParallelStrategy
from lightning_modules import HarmonicModule, OptimizerConfig

LEVELS = [LevelSpec(8, 1, 2), LevelSpec(12, 1, 3), LevelSpec(8, 2)]
STEPS = 3


class Stop(L.Callback):
    """Ends training after a step, before the learning-rate schedule ends."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        trainer.should_stop = trainer.global_step >= self.step


class Recorded(HarmonicModule):
    """Records the loss and the gradients of every step, and masks random samples in the loss."""

    def __init__(self, sgd: bool, masked: bool, **network: Any) -> None:
        super().__init__(OptimizerConfig(lr=1e-2), bits=4, **{"preset": "griffin", "levels": LEVELS, "heads": 2, "groups": 2} | network)
        self.sgd, self.masked = sgd, masked
        self.losses: list[Tensor] = []
        self.gradients: list[dict[str, Tensor]] = []

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1) if self.sgd else super().configure_optimizers()

    def training_step(self, batch: Batch) -> Tensor:
        if self.masked:
            start, time = (0 if batch.start is None else int(batch.start[0])), batch.valid.shape[1]
            hidden = [torch.rand(1000, generator=torch.Generator().manual_seed(int(clip))) < 0.3 for clip in batch.clip]
            batch = batch._replace(valid=batch.valid & ~torch.stack(hidden)[:, start : start + time])
        loss = super().training_step(batch)
        self.losses.append(loss.detach())
        return loss

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        super().on_before_optimizer_step(optimizer)
        self.gradients.append({name: p.grad.clone() for name, p in self.named_parameters() if p.grad is not None})


def spread_decays(module: HarmonicModule) -> None:
    """Sets |a| near 1, near 0 and exactly 0 among the units of every layer."""
    for name, parameter in module.named_parameters():
        if name.endswith("decay"):
            values = torch.tensor([-30.0, -12.0, -3.0, 1.0, 3000.0]).repeat(len(parameter))[: len(parameter)]
            parameter.data = values.to(parameter)


def compile_dense(module: HarmonicModule) -> None:
    """Compiles the parts that do not mix time, with a backend that needs no C++ compiler."""
    for layer in module.modules():
        if isinstance(layer, ResidualBranch) and not isinstance(layer.layer, TemporalMixer):
            layer.compile(backend="aot_eager", dynamic=True)


def recompute(module: HarmonicModule) -> None:
    """Recomputes blocks in the backward pass, including their exchanges."""
    for block in module.modules():
        if isinstance(block, ResidualBlock):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)  # type: ignore[method-assign]


def poison(module: HarmonicModule) -> None:
    """Makes the loss of the second step NaN on the last rank alone; the step is left out."""
    module.optimizer = replace(module.optimizer, skip_above=1e6)
    healthy = module._nats

    def poisoned(batch: Batch, stream: str) -> Tensor:
        nats = healthy(batch, stream)
        last = module.global_rank == module.trainer.world_size - 1
        return nats * torch.nan if module.global_step == 1 and last else nats

    module._nats = poisoned  # type: ignore[method-assign]


def make_trainer(folder: Path, context_size: int | None, **options: Any) -> L.Trainer:
    """Returns a trainer on the ranks of this process group, or on one process if context_size is None."""
    place: dict[str, Any] = {"strategy": "auto", "devices": 1}
    if context_size is not None:
        ranks = torch.distributed.get_world_size()
        place = {"strategy": ContextParallelStrategy(context_size), "devices": ranks}
    defaults = {"max_steps": STEPS, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    defaults |= {"use_distributed_sampler": False, "enable_model_summary": False, "num_sanity_val_steps": 0, "limit_val_batches": 0}
    return L.Trainer(default_root_dir=folder, **defaults | place | options)


def make_data(folder: Path, **options: Any) -> AudioFolder:
    defaults = {"clip_samples": 40, "batch_size": 6, "num_workers": 0, "bits": 4, "scaling": "clip"}
    return AudioFolder(folder / "music", shards=folder / "shards", **defaults | options)


def fit(
    folder: Path,
    context_size: int | None,
    dtype: torch.dtype = torch.float64,
    sgd: bool = False,
    masked: bool = False,
    data: dict[str, Any] | None = None,
    network: dict[str, Any] | None = None,
    save: Path | None = None,
    go_on: Path | None = None,
    stop: int | None = None,
    change: Callable[[HarmonicModule], None] | None = None,
    ema: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Trains; returns losses (this rank's, as averaged over ranks), gradients by name, the weights after the last step, and logged values.

    `save` is the path of a checkpoint written at the end, `go_on` that of one to resume from, `stop` a step to end after; `change` is
    called with the module before training; `ema` averages its weights.
    """
    torch.manual_seed(0)
    module = Recorded(sgd, masked, **network or {})
    spread_decays(module)
    if change:
        change(module)
    precision = "64-true" if dtype == torch.float64 else "32-true"
    callbacks = [*([Stop(stop)] if stop else []), *([EMA(0.5)] if ema else [])]
    trainer = make_trainer(folder, context_size, **{"precision": precision, "callbacks": callbacks} | options)
    trainer.fit(module, datamodule=make_data(folder, **data or {}), ckpt_path=go_on)
    if save is not None:
        trainer.save_checkpoint(save)
    logged = {name: value.double() for name, value in trainer.callback_metrics.items()}
    return {"losses": module.losses, "gradients": module.gradients, "weights": dict(module.state_dict()), "logged": logged}


def measure(folder: Path, context_size: int | None, **data: Any) -> dict[str, Any]:
    """Returns the metrics of the test split as in the report; of Memory if a distance is given."""
    torch.manual_seed(0)
    module = Recorded(False, False)
    report = NLLReport()
    trainer = make_trainer(folder, context_size, precision="64-true", callbacks=[report])
    source = Memory(bits=4, num_workers=0, **data) if "distance" in data else make_data(folder, **data)
    trainer.test(module, datamodule=source, verbose=False)
    measured = report.metric.compute()
    curve, _ = (measured.pop(f"{name}_by_position") for name in ("bits_per_sample", "samples"))
    return {name: value.item() for name, value in measured.items()} | {"curve": curve}
