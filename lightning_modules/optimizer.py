"""AdamW, and how its rate runs: by default as the nearest peers have it (Mamba on SC09, arXiv 2312.00752), or as the paper's authors do."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import lightning as L
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities import rank_zero_info
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from harmonicrnn.errors import UserError


@dataclass(frozen=True)
class OptimizerConfig:
    """How the weights are trained.

    Args:
        lr: Peak learning rate.
        betas: Of AdamW.
        weight_decay: On what `decayed` says.
        decayed: "matrices" (none on recurrence parameters, norms and biases) or "all".
        warmup: Share of all steps over which the rate rises linearly to its peak.
        warmup_steps: Steps instead of a share; null for the share.
        schedule: After the warm-up: "cosine" to zero, or "constant".
        skip_above: Norm of the gradient (of all ranks, before clipping) above which a step is left out, as is one whose loss is not finite;
            null stops the run at a loss or gradient that is not finite, and leaves out nothing.
        most_skips: Steps left out one after the other that end the run.
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    decayed: Literal["matrices", "all"] = "matrices"
    warmup: float = 0.1
    warmup_steps: int | None = None
    schedule: Literal["cosine", "constant"] = "cosine"
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
        if (self.warmup_steps or 0) < 0 or (self.skip_above is not None and not self.skip_above > 0) or self.most_skips < 1:
            raise ValueError(
                f"model.optimizer: warmup_steps ({self.warmup_steps}) must be at least 0, skip_above ({self.skip_above}) above 0, "
                f"most_skips ({self.most_skips}) at least 1"
            )


def make_optimizer(
    net: nn.Module, config: OptimizerConfig, total_steps: int, time_used: Callable[[], float] | None = None
) -> tuple[Optimizer, LambdaLR]:
    """The optimiser and its schedule, to be stepped after each of `total_steps` steps; where time is limited, the schedule comes to its end
    with the steps or with the time, whichever is first, but for `warmup_steps`, which are steps in any case."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    if config.decayed == "all":
        groups = [{"params": parameters, "weight_decay": config.weight_decay}]
    else:
        # Vectors are the recurrence's decay and phase, norms and biases; two of them have two dimensions, gate biases and the widths of
        # prediction.
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
    """Gives the share of `trainer.max_time` that is over, as the first rank's clock has it; None where time is not limited."""
    timer = next((callback for callback in trainer.callbacks if isinstance(callback, Timer)), None)  # type: ignore[attr-defined]
    if timer is None or timer.time_remaining() is None:
        return None

    def share() -> float:
        elapsed = timer.time_elapsed()
        return float(trainer.strategy.broadcast(min(1.0, elapsed / max(1e-9, elapsed + timer.time_remaining()))))

    return share


def apply_config(optimizer: Optimizer, schedule: LambdaLR, config: OptimizerConfig) -> None:
    """Gives an optimiser and its schedule, restored from a checkpoint with the settings of then, those of now, and says what changed."""
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
            f"The learning rate goes on at {config.lr * factor:.3g}, and was {before:.3g}: its schedule is that of all steps now"
        )
    for group in optimizer.param_groups:
        group.update(lr=config.lr * factor, initial_lr=config.lr, betas=now["betas"])


def check_ends(trainer: L.Trainer) -> None:
    """Raises UserError where training has no end to which the schedule could run."""
    timed = any(isinstance(callback, Timer) for callback in trainer.callbacks)  # type: ignore[attr-defined]
    if trainer.max_steps == -1 and (trainer.max_epochs == -1 or (trainer.max_epochs is None and timed)):
        raise UserError("the learning-rate schedule needs an end: set trainer.max_steps or trainer.max_epochs")


def rate_factor(step: float, total_steps: int, warmup_steps: float, schedule: Literal["cosine", "constant"] = "cosine") -> float:
    """The share of the peak rate at a step: rises over the warm-up, 1 at its end; then it stays, or is 0 after the last step."""
    if step + 1 <= warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1.0, total_steps - warmup_steps))
    return 0.5 * (1 + math.cos(math.pi * max(0.0, progress)))
