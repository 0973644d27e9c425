"""The distribution of a sample under a mixture of discretised logistics around what predictors say of it.

Component k of a sample is a logistic around the prediction p of its predictor, of the scale max(m s, 1e-5): s is the predictor's running
error, m the component's width. It is integrated over the cells of the quantiser, the outer two of which are open:

    C_k(j) = sigmoid((e_{j+1} - p) / (m s)) - sigmoid((e_j - p) / (m s)),        P(j) = sum_k pi_k ((1 - u) C_k(j) + u / q)

with e_0 = -inf, e_q = inf, and u the uniform's share. There are P predictors with W widths each, and K = P W components, those of a
predictor one after another. The limits e (q + 1,) are float64, with FAR for infinity.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LEAST_SCALE = 1e-5
"""Of a logistic, in samples of [-1, 1]: below it cells near zero would be told apart by rounding errors."""

FAR = 1e3
"""Stands for infinity as the limit of an outer cell: differences and products with it are finite."""


def component_log_probabilities(classes: Tensor, p: Tensor, s: Tensor, log_width: Tensor, limits: Tensor, share: float) -> Tensor:
    """log((1 - u) C_k(x) + u / q) of each sample x under each component alone.

    Args:
        classes: (B, T) of the samples.
        p, s: (B, T, P) float64, what each predictor says of the sample.
        log_width: (P, W), log m; receives gradients.
        limits: (q + 1,), e.
        share: u, above 0.

    Returns:
        (B, T, K) float64.
    """
    lower, upper = ((limits[classes + i][..., None] - p)[..., None] for i in (0, 1))
    scale = (s[..., None] * log_width.double().exp()).clamp(min=LEAST_SCALE)
    a, b = lower / scale, upper / scale
    # sigmoid(b) - sigmoid(a) without cancellation.
    inside = torch.sigmoid(b) * torch.sigmoid(-a) * -torch.expm1((lower - upper) / scale)
    return torch.log((1 - share) * inside + share / (len(limits) - 1)).flatten(2)


class _MixtureLogProbabilities(torch.autograd.Function):
    """Kept for the backward pass are the result and what it was made of; components are computed again."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, s: Tensor, log_width: Tensor, log_weights: Tensor, limits: Tensor, share: float) -> Tensor:
        dtype = torch.promote_types(log_width.dtype, torch.float32)
        found = torch.zeros(*p.shape[:-1], len(limits) - 1, dtype=dtype, device=p.device)
        if p.device.type == "cpu":
            from harmonicrnn.ops.prediction import mixture_compiled

            mixture_compiled.forward(p, s, log_width, log_weights, limits, share, found)
        else:
            for k, (z, _) in enumerate(_standardised(p, s, log_width, limits, found.dtype)):
                found += log_weights[..., k, None].exp().to(dtype) * _cells(z.sigmoid(), (-z).sigmoid())
            found = torch.log((1 - share) * found + share / found.shape[-1])
        ctx.save_for_backward(p, s, log_width, log_weights, limits, found)
        ctx.share = share
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        p, s, log_width, log_weights, limits, found = ctx.saved_tensors
        grads = grad_p, grad_s, grad_width, grad_weights = tuple(torch.zeros_like(t) for t in (p, s, log_width, log_weights))
        if p.device.type == "cpu":
            from harmonicrnn.ops.prediction import mixture_compiled

            mixture_compiled.backward(p, s, log_width, log_weights, limits, ctx.share, found, grad, *grads)
            return *grads, None, None
        q, ratio = found.shape[-1], grad * (-found).exp()
        for k, (z, fixed) in enumerate(_standardised(p, s, log_width, limits, found.dtype)):
            i = k * p.shape[-1] // log_width.numel()
            below, above, weight = z.sigmoid(), (-z).sigmoid(), log_weights[..., k].exp().to(found.dtype)
            inside = (1 - ctx.share) * _cells(below, above) + ctx.share / q
            grad_weights[..., k] = weight * (ratio * inside).sum(dim=-1)
            steepness, weight = below * above, (1 - ctx.share) * weight
            wider = torch.where(fixed[..., 0], 0, weight * (ratio * (-z * steepness).diff(dim=-1)).sum(dim=-1))
            grad_width.view(-1)[k] = wider.sum()
            grad_s[..., i] += wider / s[..., i]
            scale = (s[..., i] * log_width.view(-1)[k].double().exp()).clamp(min=LEAST_SCALE)
            grad_p[..., i] -= weight * (ratio * steepness.diff(dim=-1)).sum(dim=-1) / scale
        return *grads, None, None


def _standardised(p: Tensor, s: Tensor, log_width: Tensor, limits: Tensor, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each component (e - p) / (m s), (B, T, q + 1), and where m s is the least scale, (B, T, 1)."""
    for predictor, widths in enumerate(log_width):
        away = (limits - p[..., predictor, None]).to(dtype)
        for width in widths:
            scale = s[..., predictor, None].to(dtype) * width.exp()
            yield away / scale.clamp(min=LEAST_SCALE), scale < LEAST_SCALE


def _cells(below: Tensor, above: Tensor) -> Tensor:
    """The probabilities of cells (..., q) from those to be below and above their limits (..., q + 1), without cancellation."""
    return torch.where(below[..., 1:] < 0.5, below.diff(dim=-1), -above.diff(dim=-1))


def mixture_log_probabilities(p: Tensor, s: Tensor, log_width: Tensor, log_weights: Tensor, limits: Tensor, share: float) -> Tensor:
    """log P(j) of each class j.

    Args:
        p, s: (B, T, P) float64.
        log_width: (P, W), log m.
        log_weights: (B, T, K), log pi, float64; the pi sum to 1. These four receive gradients.
        limits: (q + 1,), e.
        share: u, above 0.

    Returns:
        (B, T, q) in the dtype of log_width, float32 at least.
    """
    found: Tensor = _MixtureLogProbabilities.apply(p, s, log_width, log_weights, limits, share)
    return found
