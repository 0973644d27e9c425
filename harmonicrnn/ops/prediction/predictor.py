"""Linear prediction from the sequence's own past, with nothing to be trained.

The predictor of order n is the least-squares filter of the samples heard so far, seen through a window that forgets (the autocorrelation
method with Barnwell's recursive window, IEEE TASSP 29(5), 1981). At age m the window is w_m = (m + 1) a^m; with q = a^2 and
z_k(t) = x_t x_{t-k}, for the lags k = 0..n,

    s1 = q s1 + z_k;  s2 = q s2 + s1;  s3 = q s3 + s2              three linear recurrences in turn, with a constant decay
    r_k = a^k ((2 s3 - s2) + k s2)                                 the autocorrelation of the windowed past, exactly
    w = Toeplitz(r_0 (1 + white) + floor, r_1 .. r_{n-1})^-1 (r_1 .. r_n)            Levinson-Durbin, at some samples
    p_{t+1} = w . (x_t .. x_{t-n+1}), clamped to [-1, 1]

The matrix is positive definite and Toeplitz, so that all poles of the filter 1 / (1 - sum_k w_k z^-k) lie inside the unit circle.
"""

from dataclasses import dataclass
from math import inf
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from harmonicrnn.ops.implementation import installed
from harmonicrnn.ops.slices import Slices

EARLY = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
"""Samples heard at which the filter is solved for, where they are fewer than `every`."""


@dataclass(frozen=True)
class Predictor:
    """A linear predictor that adapts to what it hears.

    Args:
        order: n, samples that it predicts from.
        decay: a of the window, in (0, 1): the window has its mean age at 2 a / (1 - a) samples.
        every: Samples from one solution of the filter to the next, once as many were heard; before, at those of `EARLY`.
        white: Share of the power that is added to r_0 as if white noise had been heard: it bounds the filter's gain.
        floor: Power that is added to r_0, of samples in [-1, 1]: it keeps the filter of silence at zero.

    Raises:
        ValueError: a number is out of range.
    """

    order: int
    decay: float
    every: int
    white: float = 1e-4
    floor: float = 1e-6

    def __post_init__(self) -> None:
        for wrong, name, bounds in (
            (self.order < 1, "order", "at least 1"),
            (not 0 < self.decay < 1, "decay", "above 0 and below 1"),
            (self.every < 1, "every", "at least 1"),
            (not 0 <= self.white < inf, "white", "0 or more and finite"),
            (not 0 <= self.floor < inf, "floor", "0 or more and finite"),
        ):
            if wrong:
                raise ValueError(f"{name} of a predictor must be {bounds}, got {getattr(self, name)}")

    def is_due(self, heard: int) -> bool:
        """Whether the filter is solved for when so many samples were heard."""
        return heard > 0 and (heard % self.every == 0 or (heard < self.every and heard in EARLY))


class PredictorState(NamedTuple):
    """What a predictor of order n knows of B lanes, in float64.

    sums: (B, 3, n + 1), s1, s2 and s3 of each lag.
    filter: (B, n), w.
    failed: (B,) int64, how often no filter could be solved for, and the one before was kept.
    """

    sums: Tensor
    filter: Tensor
    failed: Tensor

    @classmethod
    def start(cls, predictor: Predictor, lanes: int, device: torch.device | str = "cpu") -> "PredictorState":
        """That of lanes which have heard nothing."""
        n = predictor.order
        sums = torch.zeros(lanes, 3, n + 1, dtype=torch.float64, device=device)
        return cls(sums, sums.new_zeros(lanes, n), torch.zeros(lanes, dtype=torch.int64, device=device))


def predict(
    predictor: Predictor, x: Tensor, history: Tensor, heard: Tensor, state: PredictorState, slices: Slices | None = None
) -> tuple[Tensor, PredictorState]:
    """The predictions of one predictor, without gradients: they depend on the samples alone.

    Args:
        predictor: which.
        x: (B, T) float64, samples in [-1, 1].
        history: (B, N) float64, the samples before them, newest first, zeros where there are none; N >= n.
        heard: (B,) int64, how many were heard before x; -1 where a lane begins, of which x[:, 0] is no sample (it must be 0).
        state: after those.
        slices: where x is one rank's slice of a longer sequence: `history` and `heard` precede this slice, `state` counts on rank 0. One
            exchange. What is returned as `failed` then counts this slice alone.

    Returns:
        p (B, T + 1) float64: p[:, t] predicts x[:, t] from what precedes it, p[:, T] the sample after them; and the state after x.
    """
    with torch.no_grad():
        if slices is not None:
            state = _state_before(predictor, x, history, heard, state, slices)
        return kernels_for(x.device).predict(predictor, x, history, heard, state)


class PredictionKernels(Protocol):
    """One way to compute it: a module with these functions. Lanes come first; all numbers are float64."""

    def predict(
        self, predictor: Predictor, x: Tensor, history: Tensor, heard: Tensor, state: PredictorState
    ) -> tuple[Tensor, PredictorState]:
        """As `predict` of a whole sequence."""

    def accumulate(self, predictor: Predictor, x: Tensor, history: Tensor, steps: Tensor) -> Tensor:
        """What the first steps (B,) of x add to the sums: (B, 3, n + 1)."""

    def solve_all(self, predictor: Predictor, sums: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """The filters (B, n) of sums (B, 3, n + 1), those of `before` where none can be solved for; and which are new (B,)."""


def kernels_for(device: torch.device) -> PredictionKernels:
    """Compiled by numba on the CPU, where it is installed, batched tensor operations elsewhere."""
    if device.type == "cpu" and installed("numba"):
        from harmonicrnn.ops.prediction import compiled  # here, so that numba is loaded only where it computes

        return compiled
    from harmonicrnn.ops.prediction import batched

    return batched


def autocorrelation(predictor: Predictor, sums: Tensor) -> Tensor:
    """r (..., n + 1) from the sums (..., 3, n + 1)."""
    k = torch.arange(predictor.order + 1, dtype=sums.dtype, device=sums.device)
    _, s2, s3 = sums.unbind(-2)
    return predictor.decay**k * ((2 * s3 - s2) + k * s2)


def after_silence(predictor: Predictor, sums: Tensor, steps: Tensor) -> Tensor:
    """The sums (B, 3, n + 1) after so many steps (B,) in which z is 0: what is left of them."""
    steps = steps.to(sums.dtype)[:, None]
    left = predictor.decay ** (2 * steps)
    s1, s2, s3 = sums.unbind(1)
    return torch.stack([left * s1, left * (s2 + steps * s1), left * (s3 + steps * s2 + steps * (steps + 1) / 2 * s1)], dim=1)


def steps_to_last_solution(predictor: Predictor, heard: Tensor, steps: int) -> Tensor:
    """After which of the next steps (B,) the filter is last solved for, counted from 1; 0 where it is not."""
    end = heard + steps
    last = end - end % predictor.every
    for early in EARLY:
        if early < predictor.every:
            last = torch.where((last < predictor.every) & (early <= end) & (early > last), early, last)
    return torch.where(last > heard.clamp(min=0), last - heard, 0)


def _state_before(predictor: Predictor, x: Tensor, history: Tensor, heard: Tensor, state: PredictorState, slices: Slices) -> PredictorState:
    """The state that this rank's slice begins with.

    One exchange: of the state on rank 0, and of what each slice adds to the sums by its end and by its last solution. Those of the slices
    before this one give the sums, and the filter by solving for it again.
    """
    kernels, (lanes, steps), size = kernels_for(x.device), x.shape, state.sums[0].numel()
    whole, last = torch.full_like(heard, steps), steps_to_last_solution(predictor, heard, steps)
    added = (kernels.accumulate(predictor, x, history, count) for count in (whole, last))
    told = slices.gather(torch.cat([t.flatten(1) for t in (*added, state.sums, state.filter)], dim=1))
    if slices.rank == 0:
        return state
    _, _, sums, filters = told[0].split([size, size, size, predictor.order], dim=1)
    sums = sums.view_as(state.sums)
    for rank in range(slices.rank):
        at_end, at_last = told[rank, :, : 2 * size].view(lanes, 2, *sums.shape[1:]).unbind(1)
        last = steps_to_last_solution(predictor, heard + (rank - slices.rank) * steps, steps)
        found, _ = kernels.solve_all(predictor, after_silence(predictor, sums, last) + at_last, filters)
        filters = torch.where((last > 0)[:, None], found, filters)
        sums = after_silence(predictor, sums, whole) + at_end
    return PredictorState(sums, filters, torch.zeros_like(state.failed))
