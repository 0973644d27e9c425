"""The mixture's distribution by tensor operations, for devices without a kernel of their own."""

from collections.abc import Iterator

import torch
from torch import Tensor

LEAST_SCALE = 1e-5  # as in mixture.py


def forward(p: Tensor, s: Tensor, log_width: Tensor, log_weights: Tensor, limits: Tensor, share: float) -> Tensor:
    """log P(j) (B, T, q); arguments as for `mixture.mixture_log_probabilities`."""
    found = torch.zeros(*p.shape[:-1], len(limits) - 1, dtype=log_weights.dtype, device=p.device)
    for k, (z, _) in enumerate(_standardised(p, s, log_width, limits, found.dtype)):
        found += log_weights[..., k, None].exp() * _cells(z.sigmoid(), (-z).sigmoid())
    return torch.log((1 - share) * found + share / found.shape[-1])


def backward(
    p: Tensor, s: Tensor, log_width: Tensor, log_weights: Tensor, limits: Tensor, share: float, found: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradients of log_width (P, W) and log_weights (B, T, K) from that of `found` (B, T, q)."""
    grad_width, grad_weights = torch.zeros_like(log_width), torch.zeros_like(log_weights)
    q, ratio = found.shape[-1], grad * (-found).exp()
    for k, (z, fixed) in enumerate(_standardised(p, s, log_width, limits, found.dtype)):
        below, above, weight = z.sigmoid(), (-z).sigmoid(), log_weights[..., k].exp()
        inside = (1 - share) * _cells(below, above) + share / q
        grad_weights[..., k] = weight * (ratio * inside).sum(dim=-1)
        slope = torch.where(fixed, 0, -z * below * above).diff(dim=-1)
        grad_width.view(-1)[k] = ((1 - share) * weight[..., None] * ratio * slope).sum()
    return grad_width, grad_weights


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
