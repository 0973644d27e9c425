"""CausalConv, the causal depthwise convolution before the recurrence."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harmonicrnn.models.mixing import MixesTime
from harmonicrnn.models.state import State, after, state_dtype


@dataclass(frozen=True)
class ConvState(State):
    """The last width - 1 inputs, (B, width - 1, D), oldest first; zeros before the first step."""

    window: Tensor
    fresh: Tensor


class CausalConv(MixesTime):
    """y_t = bias + sum_k kernel_k x_{t - (width - 1) + k}, per channel.

    The kernel starts with variance 0.01 / width (Griffin).

    Args:
        channels: D.
        width: taps.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"conv_width must be at least 1, got {width}")
        self.width = width
        self.kernel = nn.Parameter(torch.randn(width, channels) * (0.01 / width) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(channels))

    def begin_halo(self, layer: nn.Module, u: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Starts sending the end of x = layer(u) to the next slice's rank before x is complete; pass the result to `forward`."""
        steps = self.width - 1
        if self.slices is None or steps == 0 or u.shape[1] < steps:
            return None
        return self.slices.begin_halo(layer(u[:, u.shape[1] - steps :]))

    def forward(
        self, x: Tensor, state: ConvState | None = None, halo: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, ConvState]:
        """x (B, T, D) to y (B, T, D); `halo` is the result of `begin_halo`."""
        before = state.window.to(x.dtype) if state else x.new_zeros(x.shape[0], self.width - 1, x.shape[2])
        if self.slices is not None:
            before = halo(before) if halo else self.slices.halo(x, before)
        y = self._convolve(x, torch.cat([before, x], dim=1))
        recent = x[:, max(0, x.shape[1] - before.shape[1]) :]
        window = torch.cat([before, recent], dim=1)[:, recent.shape[1] :]
        return y, ConvState(window.to(state_dtype(x)), after(self.fresh_lanes(x, state), x))

    def _convolve(self, x: Tensor, padded: Tensor) -> Tensor:
        # Shifted sums are faster than torch's depthwise kernel on the CPU and need no transposes.
        time, kernel = x.shape[1], self.kernel.to(x.dtype)
        y = self.bias.to(x.dtype) + padded[:, :time] * kernel[0]
        for k in range(1, self.width):
            y = torch.addcmul(y, padded[:, k : k + time], kernel[k])
        return y
