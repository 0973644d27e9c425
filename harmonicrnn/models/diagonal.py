"""DiagonalRecurrence, a baseline layer: a linear time-invariant recurrence (S4D, arXiv 2206.11893).

Each of the D channels has N complex states; with A = -exp(log_rate) + i frequency and a step dt per channel,

    h_t = a h_{t-1} + b x_t,   a = exp(dt A),   b = (a - 1) / A          (zero-order hold of h' = A h + x)
    y_t = 2 Re sum_n c_n h_{t,n} + d x_t

which is the convolution of x with 2 Re sum_n c_n b_n a_n^k. It starts as S4D-Lin: A_n = -1/2 + i pi n, dt log-uniform in [0.001, 0.1].
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harmonicrnn.models.mixing import MixesTime
from harmonicrnn.models.state import State, after, state_dtype
from harmonicrnn.ops import Implementation, linear_scan

STATES = 4
"""N. S4D has 32; the gated recurrence, to which this is compared, has half a complex state per channel."""

MIN_STEP, MAX_STEP = 1e-3, 1e-1


@dataclass(frozen=True)
class DiagonalState(State):
    """h (B, D N, 2), real and imaginary parts, float32 or float64."""

    h: Tensor
    fresh: Tensor


class DiagonalRecurrence(MixesTime):
    """The recurrence above as a layer, (B, T, D) -> (B, T, D).

    Args:
        width: D.
        scan: implementation; see `harmonicrnn/ops/implementation.py`.
    """

    def __init__(self, width: int, scan: Implementation = "auto") -> None:
        super().__init__()
        self.scan: Implementation = scan
        self.log_step = nn.Parameter(torch.rand(width) * math.log(MAX_STEP / MIN_STEP) + math.log(MIN_STEP))
        self.log_rate = nn.Parameter(torch.full((width * STATES,), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(STATES).float().repeat(width))
        self.readout = nn.Parameter(torch.randn(2, width, STATES) * 0.5**0.5)
        self.through = nn.Parameter(torch.randn(width))

    def coefficients(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Returns a, b and c, each (D, N), complex with real dtype `dtype`."""
        rate = torch.complex(-self.log_rate.to(dtype).exp(), self.frequency.to(dtype)).view(-1, STATES)
        a = (self.log_step.to(dtype).exp()[:, None] * rate).exp()
        return a, (a - 1) / rate, torch.complex(*self.readout.to(dtype))

    def forward(self, x: Tensor, state: DiagonalState | None = None) -> tuple[Tensor, DiagonalState]:
        """x (B, T, D) to y (B, T, D)."""
        wide = state_dtype(x)
        a, b, c = self.coefficients(wide)
        inputs = (x.to(wide)[..., None] * b).flatten(2)
        h0 = torch.view_as_complex(state.h) if state else inputs.new_zeros(inputs.shape[0], inputs.shape[2])
        h, last = linear_scan(a.flatten().expand_as(inputs).contiguous(), inputs, h0, self.slices, self.scan)
        y = 2 * (h.unflatten(2, a.shape) * c).real.sum(dim=-1).to(x.dtype) + self.through.to(x.dtype) * x
        return y, DiagonalState(torch.view_as_real(last), after(self.fresh_lanes(x, state), x))
