"""DownPool and UpPool: pooling along time by grouped convolutions with kernel size equal to stride.

As windows do not overlap, each convolution is one matrix product per group; tests compare both with torch's conv1d and
conv_transpose1d.
"""

import torch
from torch import Tensor, nn

from harmonicrnn.models.initialisation import parameter
from harmonicrnn.models.presets import Init


def _groups(inputs: int, outputs: int, groups: int) -> int:
    """Returns the number of groups; 0 is one per channel. Raises ValueError if it does not divide both widths."""
    found = groups or min(inputs, outputs)
    if inputs % found or outputs % found:
        raise ValueError(f"pooling groups ({found}) must divide the widths on both sides ({inputs} and {outputs})")
    return found


class DownPool(nn.Module):
    """Strided convolution: each window of p steps of D_in channels becomes one step of D_out, (B, mp, D_in) -> (B, m, D_out)."""

    def __init__(self, inputs: int, outputs: int, factor: int, groups: int, init: Init = "griffin") -> None:
        super().__init__()
        self.factor, self.groups = factor, _groups(inputs, outputs, groups)
        fan_in = factor * inputs // self.groups
        self.weight = parameter((self.groups, fan_in, outputs // self.groups), fan_in, init)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        weight = self.weight.to(x.dtype)
        if weight.shape[1:] == (self.factor, 1):  # one channel to one: elementwise products are faster than matrix products
            windows = x.reshape(batch, time // self.factor, self.factor, width)
            return (windows * weight[:, :, 0].T).sum(dim=2) + self.bias.to(x.dtype)
        windows = x.reshape(batch * (time // self.factor), self.factor, self.groups, width // self.groups)
        by_group = windows.permute(2, 0, 1, 3).flatten(-2)  # (G, Bm, p D_in/G)
        y = torch.bmm(by_group, weight).transpose(0, 1)
        return y.reshape(batch, time // self.factor, self.bias.shape[0]) + self.bias.to(x.dtype)


class UpPool(nn.Module):
    """Transposed convolution: each step of D_in channels becomes p steps of D_out, (B, m, D_in) -> (B, mp, D_out).

    The initial variance of weights is `variance` / fan-in, with fan-in D_in / groups, or p times that for "paper", as in Flax.
    """

    def __init__(self, inputs: int, outputs: int, factor: int, groups: int, init: Init = "griffin", variance: float | None = None) -> None:
        super().__init__()
        self.factor, self.groups = factor, _groups(inputs, outputs, groups)
        own = inputs // self.groups
        fan_in = factor * own if init == "paper" else own
        self.weight = parameter((self.groups, own, factor * outputs // self.groups), fan_in, init, variance)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        weight, outputs = self.weight.to(x.dtype), self.bias.shape[0]
        if weight.shape[1:] == (1, self.factor):
            return (x[:, :, None] * weight[:, 0].T + self.bias.to(x.dtype)).flatten(1, 2)
        by_group = x.reshape(batch * time, self.groups, width // self.groups).transpose(0, 1)
        y = torch.bmm(by_group, weight).unflatten(-1, (self.factor, outputs // self.groups))  # (G, Bm, p, D_out/G)
        return y.permute(1, 2, 0, 3).reshape(batch, time * self.factor, outputs) + self.bias.to(x.dtype)
