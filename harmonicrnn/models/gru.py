"""GRURecurrence, a baseline layer: the gated recurrent unit (arXiv 1406.1078), which is sequential and cannot be split."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harmonicrnn.models.state import State, after, all_fresh


@dataclass(frozen=True)
class GRUState(State):
    """h (B, D)."""

    h: Tensor
    fresh: Tensor


class GRURecurrence(nn.Module):
    """torch's GRU as a layer, (B, T, D) -> (B, T, D).

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)

    def forward(self, x: Tensor, state: GRUState | None = None) -> tuple[Tensor, GRUState]:
        """x (B, T, D) to y (B, T, D)."""
        h = state.h.to(x.dtype) if state else x.new_zeros(x.shape[0], x.shape[2])
        fresh = state.fresh if state else all_fresh(x)
        if x.shape[1] == 0:  # torch raises for it
            return x, GRUState(h, fresh)
        y, last = self.gru(x, h[None].contiguous())
        return y, GRUState(last[0].to(torch.promote_types(x.dtype, torch.float32)), after(fresh, x))
