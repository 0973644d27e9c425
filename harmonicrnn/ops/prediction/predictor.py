"""Linear prediction of a sequence from its past, without trained parameters.

The predictor of order n is the least-squares filter of the past samples under a decaying window (the autocorrelation
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
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from harmonicrnn.ops.implementation import installed
from harmonicrnn.ops.slices import Slices

EARLY = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)
"""Numbers of samples seen at which the filter is solved for, below `every`."""


@dataclass(frozen=True)
class Predictor:
    """An adaptive linear predictor.

    Args:
        order: n, number of past samples used.
        decay: a of the window, in (0, 1): the window's mean age is 2 a / (1 - a) samples.
        every: Samples between solutions of the filter, once as many were seen; before, at those of `EARLY`.
        white: Fraction of the power added to r_0, as of white noise: bounds the filter's gain.
        floor: Power added to r_0, for samples in [-1, 1]: keeps the filter of silence at zero.

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
        """Returns whether the filter is solved for after `heard` samples."""
        return heard > 0 and (heard % self.every == 0 or (heard < self.every and heard in EARLY))


class PredictorState(NamedTuple):
    """The state of a predictor of order n for B lanes, in float64.

    sums: (B, 3, n + 1), s1, s2 and s3 of each lag.
    filter: (B, n), w.
    failed: (B,) int64, number of failed solutions, after which the previous filter was kept.
    """

    sums: Tensor
    filter: Tensor
    failed: Tensor

    @classmethod
    def start(cls, predictor: Predictor, lanes: int, device: torch.device | str = "cpu") -> "PredictorState":
        """Returns the state of lanes that have seen nothing."""
        n = predictor.order
        sums = torch.zeros(lanes, 3, n + 1, dtype=torch.float64, device=device)
        return cls(sums, sums.new_zeros(lanes, n), torch.zeros(lanes, dtype=torch.int64, device=device))


def predict(
    predictor: Predictor, x: Tensor, history: Tensor, heard: Tensor, state: PredictorState, slices: Slices | None = None
) -> tuple[Tensor, PredictorState]:
    """Computes the predictions of one predictor, without gradients: they depend on the samples only.

    Args:
        predictor: the predictor.
        x: (B, T) float64, samples in [-1, 1].
        history: (B, N) float64, the samples before them, newest first, padded with zeros; N >= n.
        heard: (B,) int64, number of samples before x; -1 for a new lane, where x[:, 0] is no sample (it must be 0).
        state: after the samples before x.
        slices: if x is one rank's slice of a longer sequence: `history` and `heard` precede this slice, `state` is used on rank 0. Makes
            one exchange. The returned `failed` then counts this slice only.

    Returns:
        p (B, T + 1) float64: p[:, t] predicts x[:, t] from what precedes it, p[:, T] the sample after x; and the state after x.
    """
    with torch.no_grad():
        if slices is not None:
            state = _state_before(predictor, x, history, heard, state, slices)
        p, state = kernels_for(x.device).predict(predictor, x, history, heard, state)
        return p, state


def kernels_for(device: torch.device) -> ModuleType:
    """Returns the module whose `predict` is for a device: compiled by numba on the CPU, if it is installed, else in batched tensor
    operations."""
    if device.type == "cpu" and installed("numba"):
        from harmonicrnn.ops.prediction import compiled  # here, so that numba is imported only when used

        return compiled
    from harmonicrnn.ops.prediction import batched

    return batched


def autocorrelation(predictor: Predictor, sums: Tensor) -> Tensor:
    """Returns r (..., n + 1) from the sums (..., 3, n + 1)."""
    k = torch.arange(predictor.order + 1, dtype=sums.dtype, device=sums.device)
    _, s2, s3 = sums.unbind(-2)
    return predictor.decay**k * ((2 * s3 - s2) + k * s2)


def after_silence(predictor: Predictor, sums: Tensor, steps: Tensor) -> Tensor:
    """Returns the sums (B, 3, n + 1) decayed by steps (B,) with z = 0."""
    steps = steps.to(sums.dtype)[:, None]
    left = predictor.decay ** (2 * steps)
    s1, s2, s3 = sums.unbind(1)
    return torch.stack([left * s1, left * (s2 + steps * s1), left * (s3 + steps * s2 + steps * (steps + 1) / 2 * s1)], dim=1)


def steps_to_last_solution(predictor: Predictor, heard: Tensor, steps: int) -> Tensor:
    """Returns the step (B,), from 1, of the last solution of the filter within the next `steps`; 0 if there is none."""
    end = heard + steps
    last = end - end % predictor.every
    for early in EARLY:
        if early < predictor.every:
            last = torch.where((last < predictor.every) & (early <= end) & (early > last), early, last)
    return torch.where(last > heard.clamp(min=0), last - heard, 0)


def _state_before(predictor: Predictor, x: Tensor, history: Tensor, heard: Tensor, state: PredictorState, slices: Slices) -> PredictorState:
    """Returns the state at the beginning of this rank's slice.

    Makes one exchange: of rank 0's state, and of each slice's contribution to the sums by its end and by its last solution. From those of
    the earlier slices follow the sums, and the filter by solving for it again.
    """
    from harmonicrnn.ops.prediction.batched import accumulate, solve_all  # here, as that module imports this one

    (lanes, steps), size = x.shape, state.sums[0].numel()
    whole, last = torch.full_like(heard, steps), steps_to_last_solution(predictor, heard, steps)
    added = (accumulate(predictor, x, history, count) for count in (whole, last))
    told = slices.gather(torch.cat([t.flatten(1) for t in (*added, state.sums, state.filter)], dim=1))
    if slices.rank == 0:
        return state
    _, _, sums, filters = told[0].split([size, size, size, predictor.order], dim=1)
    sums = sums.view_as(state.sums)
    for rank in range(slices.rank):
        at_end, at_last = told[rank, :, : 2 * size].view(lanes, 2, *sums.shape[1:]).unbind(1)
        last = steps_to_last_solution(predictor, heard + (rank - slices.rank) * steps, steps)
        found, _ = solve_all(predictor, after_silence(predictor, sums, last) + at_last, filters)
        filters = torch.where((last > 0)[:, None], found, filters)
        sums = after_silence(predictor, sums, whole) + at_end
    return PredictorState(sums, filters, torch.zeros_like(state.failed))
