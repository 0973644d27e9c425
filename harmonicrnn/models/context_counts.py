"""ContextCounts, a baseline: smoothed counts of each class after each context of n samples."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harmonicrnn.models.autoregressive_net import AutoregressiveNet
from harmonicrnn.models.state import State, after

MAX_COUNTS = 2**26  # per order, 256 MB


@dataclass(frozen=True)
class ContextState(State):
    """The n - 1 classes before the last, (B, n - 1), oldest first; fresh lanes are filled with the zero level at their start."""

    window: Tensor
    fresh: Tensor


class ContextCounts(AutoregressiveNet):
    """p(x_t | x_{t-n} .. x_{t-1}) from counts, each order smoothed by the one below it.

        p_k(x | c_k) = (N(c_k, x) + s p_{k-1}(x | c_{k-1})) / (N(c_k) + s),   p_{-1}(x) = 1 / q

    c_k are the last k samples, N how often x followed them, and N(c_k) the sum over x. It is the mean of a hierarchy of Dirichlet
    distributions (MacKay and Peto, 1995): unseen contexts fall back to shorter ones. Counts are buffers without gradients; `learn` adds to
    them.

    Args:
        order: n, samples of context.
        strength: s, weight of the shorter context's prediction, in observations.
        bits: Bits per sample, 4 to 12; q = 2^bits classes.

    Raises:
        ValueError: a number is out of range, or the table would be too large.
    """

    def __init__(self, order: int = 1, strength: float = 16.0, bits: int = 8) -> None:
        super().__init__(bits)
        if order < 0 or strength <= 0:
            raise ValueError(f"order ({order}) must be at least 0, strength ({strength}) above 0")
        if self.classes ** (order + 1) > MAX_COUNTS:
            raise ValueError(f"order {order} at {bits} bits takes 2^{bits * (order + 1)} counts, more than {MAX_COUNTS:,}: lower one")
        self.order, self.strength = order, strength
        tables = (torch.zeros(self.classes**k, self.classes, dtype=torch.int32) for k in range(order + 1))
        self.counts = nn.ParameterList([nn.Parameter(table, requires_grad=False) for table in tables])

    @property
    def unseen_in_weights(self) -> dict[str, str | int]:
        return {"strength": str(self.strength)}

    def predict(self, delayed: Tensor, state: State | None) -> tuple[Tensor, ContextState]:
        """As `AutoregressiveNet.predict`; the logits are ln p, in float64."""
        contexts, after_them = self._contexts(delayed, state)
        p = torch.full((*delayed.shape, self.classes), 1 / self.classes, dtype=torch.float64, device=delayed.device)
        for context, table in zip(contexts, self.counts, strict=True):
            counts = table[context].double()
            p = (counts + self.strength * p) / (counts.sum(dim=-1, keepdim=True) + self.strength)
        return p.log(), after_them

    @torch.no_grad()
    def learn(self, delayed: Tensor, state: State | None, classes: Tensor, valid: Tensor) -> None:
        """Counts the classes (B, T) that are valid (B, T); `delayed` and `state` as for `predict`."""
        contexts, _ = self._contexts(delayed, state)
        for context, table in zip(contexts, self.counts, strict=True):
            rows = (context * self.classes + classes)[valid]
            table.view(-1).index_add_(0, rows, torch.ones_like(rows, dtype=table.dtype))

    def _contexts(self, delayed: Tensor, state: State | None) -> tuple[list[Tensor], ContextState]:
        """Returns each sample's context index at each order (B, T), and the state after the last."""
        if self.slices is not None:
            raise ValueError("counting is not split along time")
        batch, time = delayed.shape
        fresh = self.fresh_lanes(delayed, state)
        reach = max(self.order - 1, 0)
        window = delayed.new_full((batch, reach), self.classes // 2)
        if state is not None:
            assert isinstance(state, ContextState)
            window = torch.where(fresh[:, None], window, state.window)
        padded = torch.cat([window, delayed], dim=1)
        contexts = [torch.zeros_like(delayed)]
        for k in range(self.order):
            # The sample k + 1 steps earlier.
            contexts.append(contexts[-1] + padded[:, reach - k : reach - k + time] * self.classes**k)
        return contexts, ContextState(padded[:, time:], after(fresh, delayed))
