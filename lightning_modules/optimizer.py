"""AdamW with the recipe of the nearest peers (Mamba on SC09, arXiv 2312.00752): linear warm-up, cosine decay to zero."""

import math
from dataclasses import dataclass

import lightning as L
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
        weight_decay: On weight matrices; none on recurrence parameters, norms and biases.
        warmup: Share of all steps over which the rate rises linearly to its peak; then it falls to zero as a cosine.
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1
    warmup: float = 0.1

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.weight_decay < 0 or not 0 <= self.warmup < 1:
            raise ValueError(
                f"model.optimizer: lr ({self.lr}) must be above 0, weight_decay ({self.weight_decay}) at least 0, "
                f"warmup ({self.warmup}) in [0, 1)"
            )


def make_optimizer(net: nn.Module, config: OptimizerConfig, total_steps: int) -> tuple[Optimizer, LambdaLR]:
    """The optimiser and its schedule, to be stepped after each of `total_steps` steps."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    # Vectors are the recurrence's decay and phase, norms and biases; gate biases are the one vector in two dimensions.
    biases = {id(p) for name, p in net.named_parameters() if name.endswith("bias")}
    decayed = [p for p in parameters if p.dim() > 1 and id(p) not in biases]
    others = [p for p in parameters if p.dim() <= 1 or id(p) in biases]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = AdamW(groups, lr=config.lr, betas=config.betas)
    return optimizer, LambdaLR(optimizer, lambda step: rate_factor(step, total_steps, config.warmup))


def check_ends(trainer: L.Trainer) -> None:
    """Raises UserError where training has no end to which the schedule could run, or validates after no step at all."""
    if trainer.val_check_interval == 0:
        raise UserError("trainer.val_check_interval must be above 0; set trainer.limit_val_batches to 0 for no validation")
    if trainer.max_steps == -1 and trainer.max_epochs == -1:
        raise UserError("the learning-rate schedule needs an end: set trainer.max_steps or trainer.max_epochs")


def rate_factor(step: int, total_steps: int, warmup: float) -> float:
    """The share of the peak rate at a step: rises over the warm-up, 1 at its end, 0 after the last step."""
    warmup_steps = warmup * total_steps
    if step + 1 <= warmup_steps:
        return (step + 1) / warmup_steps
    progress = min(1.0, (step - warmup_steps) / max(1.0, total_steps - warmup_steps))
    return 0.5 * (1 + math.cos(math.pi * max(0.0, progress)))
