"""The distribution of a sample under a mixture of discretised logistics around linear predictions.

Component k of a sample is a logistic around the prediction p of its predictor, with scale max(m s, 1e-5): s is the predictor's running
error, m the component's width. It is integrated over the quantiser's cells; the outer two are open:

    C_k(j) = sigmoid((e_{j+1} - p) / (m s)) - sigmoid((e_j - p) / (m s)),        P(j) = sum_k pi_k ((1 - u) C_k(j) + u / q)

with e_0 = -inf, e_q = inf, and u the uniform distribution's weight. P predictors with W widths each give K = P W components, those of a
predictor one after another. The limits e (q + 1,) are float64, with FAR for infinity.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harmonicrnn.ops.implementation import compiles_for

LEAST_SCALE = 1e-5
"""Least scale of a logistic, for samples in [-1, 1]: below it rounding errors dominate in cells near zero."""

FAR = 1e6
"""Limit of the outer cells in place of infinity, for scales up to 1e4: differences and products stay finite."""


def component_log_probabilities(classes: Tensor, p: Tensor, s: Tensor, log_width: Tensor, limits: Tensor, share: float) -> Tensor:
    """Returns log((1 - u) C_k(x) + u / q) of each sample x under each component.

    Args:
        classes: (B, T) of the samples.
        p, s: (B, T, P) float64, each predictor's prediction of the sample and running error.
        log_width: (P, W), log m; receives gradients.
        limits: (q + 1,), e.
        share: u, above 0.

    Returns:
        (B, T, K) float64.
    """
    ends = limits[classes], limits[classes + 1]
    lower, upper = ((end[..., None] - p)[..., None] for end in ends)
    width = (ends[1] - ends[0])[..., None, None]  # of the cell, possibly below the rounding of its limits
    scale = (s[..., None] * log_width.double().exp()).clamp(min=LEAST_SCALE)
    # sigmoid(upper) - sigmoid(lower) without cancellation.
    inside = torch.sigmoid(upper / scale) * torch.sigmoid(-lower / scale) * -torch.expm1(-width / scale)
    return torch.log((1 - share) * inside + share / (len(limits) - 1)).flatten(2)


def mixture_kernels(device: torch.device) -> ModuleType:
    """Returns the module of `forward` and `backward`: compiled by numba (`compiles_for`), else batched tensor operations."""
    if compiles_for(device):
        from harmonicrnn.ops.prediction import mixture_compiled  # here, so that numba is imported only when used

        return mixture_compiled
    from harmonicrnn.ops.prediction import mixture_batched

    return mixture_batched


class _MixtureLogProbabilities(torch.autograd.Function):
    """Keeps the result and its inputs for the backward pass, and recomputes the components."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, s: Tensor, log_width: Tensor, log_weights: Tensor, limits: Tensor, share: float) -> Tensor:
        found: Tensor = mixture_kernels(p.device).forward(p, s, log_width, log_weights, limits, share)
        ctx.save_for_backward(p, s, log_width, log_weights, limits, found)
        ctx.share = share
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        p, s, log_width, log_weights, limits, found = ctx.saved_tensors
        grads = mixture_kernels(p.device).backward(p, s, log_width, log_weights, limits, ctx.share, found, grad)
        return *grads, None, None


def mixture_log_probabilities(p: Tensor, s: Tensor, log_width: Tensor, log_weights: Tensor, limits: Tensor, share: float) -> Tensor:
    """Returns log P(j) of each class j.

    Args:
        p, s: (B, T, P) float64.
        log_width: (P, W), log m, float32 or float64.
        log_weights: (B, T, K), log pi, float64; the pi sum to 1. These four receive gradients.
        limits: (q + 1,), e.
        share: u, above 0.

    Returns:
        (B, T, q) in the dtype of log_width.
    """
    found: Tensor = _MixtureLogProbabilities.apply(p, s, log_width, log_weights, limits, share)
    return found
