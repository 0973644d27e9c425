"""Pooling along time by grouped convolutions whose kernel is as long as their stride.

As windows do not overlap, each convolution is one matrix product per group; the tests hold both equal to torch's conv1d and
conv_transpose1d.
"""

import torch
from torch import Tensor, nn


def _check(inputs: int, outputs: int, groups: int) -> None:
    if groups < 1 or inputs % groups or outputs % groups:
        raise ValueError(f"pooling groups ({groups}) must divide the widths on both sides ({inputs} and {outputs})")


class DownPool(nn.Module):
    """Strided convolution: each window of p steps of D_in channels becomes one step of D_out, (B, mp, D_in) -> (B, m, D_out)."""

    def __init__(self, inputs: int, outputs: int, factor: int, groups: int) -> None:
        super().__init__()
        _check(inputs, outputs, groups)
        self.factor, self.groups = factor, groups
        fan_in = factor * inputs // groups
        self.weight = nn.Parameter(torch.randn(groups, fan_in, outputs // groups) * fan_in**-0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        windows = x.reshape(batch * (time // self.factor), self.factor, self.groups, width // self.groups)
        by_group = windows.permute(2, 0, 1, 3).flatten(-2)  # (G, Bm, p D_in/G)
        y = torch.bmm(by_group, self.weight.to(x.dtype)).transpose(0, 1)
        return y.reshape(batch, time // self.factor, self.bias.shape[0]) + self.bias.to(x.dtype)


class UpPool(nn.Module):
    """Transposed convolution: each step of D_in channels becomes p steps of D_out, (B, m, D_in) -> (B, mp, D_out)."""

    def __init__(self, inputs: int, outputs: int, factor: int, groups: int) -> None:
        super().__init__()
        _check(inputs, outputs, groups)
        self.factor, self.groups = factor, groups
        fan_in = inputs // groups
        self.weight = nn.Parameter(torch.randn(groups, fan_in, factor * outputs // groups) * fan_in**-0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        by_group = x.reshape(batch * time, self.groups, width // self.groups).transpose(0, 1)
        y = torch.bmm(by_group, self.weight.to(x.dtype)).unflatten(
            -1, (self.factor, self.bias.shape[0] // self.groups)
        )  # (G, Bm, p, D_out/G)
        return y.permute(1, 2, 0, 3).reshape(batch, time * self.factor, self.bias.shape[0]) + self.bias.to(x.dtype)
