"""AdamW and its learning-rate schedule; defaults as for Mamba on SC09 (arXiv 2312.00752)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import lightning as L
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from harmonicrnn.errors import UserError, check_choice, check_whole

Decayed = Literal["matrices", "all"]
Schedule = Literal["cosine", "constant"]


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of the optimiser and its schedule.

    Args:
        lr: Peak learning rate.
        betas: Betas of AdamW.
        weight_decay: Weight decay of the parameters selected by `decayed`.
        decayed: Parameters with weight decay: "matrices" (not recurrence parameters, norms and biases) or "all".
        warmup: Share of all steps in which the learning rate rises linearly to its peak, in [0, 1).
        warmup_steps: Number of warm-up steps; null to use `warmup`.
        schedule: Schedule after the warm-up: "cosine" (to zero) or "constant".
        skip_above: Gradient norm (over all ranks, before clipping) above which a step is skipped, as is a step whose loss is not finite.
            Null to skip no steps, and stop the run if a loss or gradient is not finite.
        most_skips: Number of consecutive skipped steps that stops the run.
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    decayed: Decayed = "matrices"
    warmup: float = 0.1
    warmup_steps: int | None = None
    schedule: Schedule = "cosine"
    skip_above: float | None = None
    most_skips: int = 50

    def __post_init__(self) -> None:
        if not (0 < self.lr < math.inf and 0 <= self.weight_decay < math.inf and 0 <= self.warmup < 1):
            raise ValueError(
                f"model.optimizer: lr ({self.lr}) must be above 0, weight_decay ({self.weight_decay}) at least 0, both finite, "
                f"warmup ({self.warmup}) in [0, 1)"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"model.optimizer: betas {list(self.betas)} must be in [0, 1)")
        if self.skip_above is not None and not self.skip_above > 0:
            raise ValueError(f"model.optimizer: skip_above must be above 0, got {self.skip_above}")
        if self.warmup_steps is not None:
            check_whole("model.optimizer: warmup_steps", self.warmup_steps, 0)
        check_whole("model.optimizer: most_skips", self.most_skips, 1)
        check_choice("model.optimizer: decayed", self.decayed, get_args(Decayed))
        check_choice("model.optimizer: schedule", self.schedule, get_args(Schedule))


def make_optimizer(
    net: nn.Module, config: OptimizerConfig, total_steps: int, time_used: Callable[[], float] | None = None
) -> tuple[Optimizer, LambdaLR]:
    """Return the optimiser and its schedule, which is stepped after each of `total_steps` steps.

    With `time_used`, the schedule ends with the steps or the time, whichever comes first; `warmup_steps` are always counted in steps.
    """
    parameters = [p for p in net.parameters() if p.requires_grad]
    if config.decayed == "all":
        groups = [{"params": parameters, "weight_decay": config.weight_decay}]
    else:
        # Not decayed: vectors (recurrence decay and phase, norms, biases), and gate biases and prediction widths, which are 2-D.
        biases = {id(p) for name, p in net.named_parameters() if name.endswith(("bias", "log_width"))}
        decayed = [p for p in parameters if p.dim() > 1 and id(p) not in biases]
        others = [p for p in parameters if p.dim() <= 1 or id(p) in biases]
        groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    warmup = config.warmup * total_steps if config.warmup_steps is None else float(config.warmup_steps)
    optimizer = AdamW(groups, lr=config.lr, betas=config.betas)

    def factor(step: int) -> float:
        by_steps = time_used is None or (config.warmup_steps is not None and step + 1 <= warmup)
        return rate_factor(step if by_steps else max(step, time_used() * total_steps), total_steps, warmup, config.schedule)  # type: ignore[misc]

    return optimizer, LambdaLR(optimizer, factor)


def time_used(trainer: L.Trainer) -> Callable[[], float] | None:
    """Return a function that gives the elapsed share of `trainer.max_time` by the first rank's clock; None if time is not limited."""
    timer = next((callback for callback in trainer.callbacks if isinstance(callback, Timer)), None)  # type: ignore[attr-defined]
    if timer is None or timer.time_remaining() is None:
        return None

    def share() -> float:
        elapsed = timer.time_elapsed()
        return float(trainer.strategy.broadcast(min(1.0, elapsed / max(1e-9, elapsed + timer.time_remaining()))))

    return share


def optimizer_and_schedule(trainer: L.Trainer, net: nn.Module, config: OptimizerConfig) -> OptimizerLRScheduler:
    """Return the optimiser and its schedule for the whole of a training, as `configure_optimizers` does."""
    check_ends(trainer)
    optimizer, schedule = make_optimizer(net, config, int(trainer.estimated_stepping_batches), time_used(trainer))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def apply_config(optimizer: Optimizer, schedule: LambdaLR, config: OptimizerConfig) -> None:
    """Apply the current settings to an optimiser and schedule restored from a checkpoint, and print what changed."""
    now = {"lr": config.lr, "weight_decay": config.weight_decay, "betas": tuple(config.betas)}
    decayed = optimizer.param_groups[0]
    then = {"lr": schedule.base_lrs[0], "weight_decay": decayed["weight_decay"], "betas": tuple(decayed["betas"])}
    for key, value in now.items():
        if value != then[key]:
            rank_zero_info(f"model.optimizer.{key} is {value} from here on, and was {then[key]}")
    schedule.base_lrs = [config.lr] * len(optimizer.param_groups)
    decayed["weight_decay"] = config.weight_decay
    factor, before = schedule.lr_lambdas[0](schedule.last_epoch), decayed["lr"]
    if not math.isclose(config.lr * factor, before, rel_tol=1e-6, abs_tol=1e-12):
        rank_zero_info(
            f"The learning rate is {config.lr * factor:.3g} from here on, and was {before:.3g}: the schedule spans the steps configured now"
        )
    for group in optimizer.param_groups:
        group.update(lr=config.lr * factor, initial_lr=config.lr, betas=now["betas"])


def check_ends(trainer: L.Trainer) -> None:
    """Raise UserError if training has no limit in steps or epochs, which the schedule needs."""
    timed = any(isinstance(callback, Timer) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    if trainer.max_steps == -1 and (trainer.max_epochs == -1 or (trainer.max_epochs is None and timed)):
        raise UserError("the learning-rate schedule needs an end: set trainer.max_steps or trainer.max_epochs")


def rate_factor(step: float, total_steps: int, warmup_steps: float, schedule: Schedule = "cosine") -> float:
    """Return the factor of the peak rate at a step: linear up to 1 in the warm-up; then constant, or a cosine to 0 after the last step."""
    if step + 1 <= warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1.0, total_steps - warmup_steps))
    return 0.5 * (1 + math.cos(math.pi * max(0.0, progress)))
