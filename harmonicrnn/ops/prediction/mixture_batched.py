"""The mixture's distribution by tensor operations, for devices without a kernel of their own."""

from collections.abc import Iterator

import torch
from torch import Tensor

LEAST_SCALE = 1e-5  # as in mixture.py


def forward(p: Tensor, s: Tensor, log_width: Tensor, log_weights: Tensor, limits: Tensor, share: float) -> Tensor:
    """log P(j) (B, T, q); arguments as for `mixture.mixture_log_probabilities`."""
    found = torch.zeros(*p.shape[:-1], len(limits) - 1, dtype=log_width.dtype, device=p.device)
    for k, (z, _) in enumerate(_standardised(p, s, log_width, limits, found.dtype)):
        found += log_weights[..., k, None].exp().to(found.dtype) * _cells(z.sigmoid(), (-z).sigmoid())
    return torch.log((1 - share) * found + share / found.shape[-1])


def backward(
    p: Tensor, s: Tensor, log_width: Tensor, log_weights: Tensor, limits: Tensor, share: float, found: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of p, s (B, T, P), log_width (P, W) and log_weights (B, T, K) from that of `found` (B, T, q)."""
    grad_p, grad_s, grad_width, grad_weights = grads = tuple(torch.zeros_like(t) for t in (p, s, log_width, log_weights))
    q, ratio = found.shape[-1], grad * (-found).exp()
    for k, (z, scale) in enumerate(_standardised(p, s, log_width, limits, found.dtype)):
        i, weight = k * p.shape[-1] // log_width.numel(), log_weights[..., k].exp().to(found.dtype)
        below, above = z.sigmoid(), (-z).sigmoid()
        grad_weights[..., k] = weight * (ratio * ((1 - share) * _cells(below, above) + share / q)).sum(dim=-1)
        # d sigmoid(z) / dz, of z = (e - p) / (m s).
        steepness, weight = below * above, (1 - share) * weight
        grad_p[..., i] -= weight * (ratio * steepness.diff(dim=-1)).sum(dim=-1) / scale.clamp(min=LEAST_SCALE)
        wider = torch.where(scale < LEAST_SCALE, 0, weight * (ratio * (-z * steepness).diff(dim=-1)).sum(dim=-1))
        grad_width.view(-1)[k] = wider.sum()
        grad_s[..., i] += wider / s[..., i]
    return grads  # type: ignore[return-value]


def _standardised(p: Tensor, s: Tensor, log_width: Tensor, limits: Tensor, dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each component z = (e - p) / (m s), (B, T, q + 1), and m s, (B, T)."""
    for predictor, widths in enumerate(log_width):
        away = (limits - p[..., predictor, None]).to(dtype)
        for width in widths:
            scale = s[..., predictor] * width.exp()
            yield away / scale.to(dtype).clamp(min=LEAST_SCALE)[..., None], scale


def _cells(below: Tensor, above: Tensor) -> Tensor:
    """The probabilities of cells (..., q) from those to be below and above their limits (..., q + 1), without cancellation."""
    return torch.where(below[..., 1:] < 0.5, below.diff(dim=-1), -above.diff(dim=-1))
