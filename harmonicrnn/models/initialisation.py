"""Weight initialisation of linear layers."""

import torch
from torch import Tensor, nn

from harmonicrnn.models.presets import Init

CUT_STD = 0.87962566103423978
"""Standard deviation of a standard normal variable truncated to [-2, 2]."""


def lecun_(weight: Tensor, fan_in: int, init: Init, variance: float | None = None) -> Tensor:
    """Fills with normal numbers of variance `variance` / fan_in. None is 1, truncated at two deviations for "paper", as in Flax."""
    std = ((1.0 if variance is None else variance) / fan_in) ** 0.5
    if init == "griffin" or variance is not None:
        return nn.init.normal_(weight, std=std)
    std /= CUT_STD
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def linear(inputs: int, outputs: int, init: Init = "griffin", variance: float | None = None) -> nn.Linear:
    """Returns a linear layer with weights from `lecun_` and bias 0."""
    layer = nn.Linear(inputs, outputs)
    lecun_(layer.weight, inputs, init, variance)
    nn.init.zeros_(layer.bias)
    return layer


def parameter(shape: tuple[int, ...], fan_in: int, init: Init, variance: float | None = None) -> nn.Parameter:
    """Returns a parameter initialised by `lecun_`."""
    return nn.Parameter(lecun_(torch.empty(shape), fan_in, init, variance))
