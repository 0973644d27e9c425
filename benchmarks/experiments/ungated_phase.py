"""A variant of the gated recurrence with an ungated phase, for comparison: |a_t| as in CG-LRU, arg a_t = phase.

With h_t = exp(i phase t) g_t, g follows the recurrence without a phase on the input exp(-i phase t) x_t.
"""

from typing import Any

import torch
from torch import Tensor

from harmonicrnn.models import GatedRecurrence
from harmonicrnn.models.recurrence import RecurrenceState
from harmonicrnn.models.state import after
from harmonicrnn.ops import cg_lru
from lightning_modules import HarmonicModule


def turned(x: Tensor, angle: Tensor) -> Tensor:
    """Returns x (B, T, 2N), real parts before imaginary parts, multiplied by exp(i angle); angle (T, N)."""
    cos, sin = angle.cos(), angle.sin()
    re, im = x.chunk(2, dim=-1)
    return torch.cat([re * cos - im * sin, re * sin + im * cos], dim=-1)


class UngatedPhase(GatedRecurrence):
    """The complex gated recurrence with an ungated phase, on one rank; raises ValueError if the sequence is split over ranks."""

    def forward(self, x: Tensor, state: RecurrenceState | None = None) -> tuple[Tensor, RecurrenceState]:
        if self.slices is not None:
            raise ValueError("a phase without a gate is computed on one rank alone: leave trainer.strategy out")
        assert self.phase is not None
        h0, fresh = (None, None) if state is None else (state.h, state.fresh)
        steps = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=torch.float64)
        angle = (steps[:, None] * self.phase.double()).remainder(2 * torch.pi).to(x.dtype)
        how = self.slices, self.scan, self.max_root_slope, self.unit_first_step
        still = torch.zeros_like(self.phase)
        y, _ = cg_lru(turned(x, -angle), self._gates(x), self.decay, still, h0, fresh, *how)
        y = turned(y, angle)
        if x.shape[1]:
            last = y[:, -1].to(torch.promote_types(y.dtype, torch.float32))
        else:
            last = x.new_zeros(x.shape[0], x.shape[2], dtype=torch.float32) if h0 is None else h0
        return y, RecurrenceState(last, after(self.fresh_lanes(x, state), x))


class UngatedPhaseModule(HarmonicModule):
    """HarmonicModule with `UngatedPhase` instead of each gated recurrence."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for layer in self.net.modules():
            if isinstance(layer, GatedRecurrence):
                layer.__class__ = UngatedPhase
