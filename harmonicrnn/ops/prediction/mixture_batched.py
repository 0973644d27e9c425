"""The mixture's distribution by tensor operations, for devices without compiled kernels."""

import torch
from torch import Tensor

LEAST_SCALE = 1e-5  # as in mixture.py
ROWS = 1 << 12
"""Samples computed at a time, which bounds memory."""


def forward(p: Tensor, s: Tensor, log_width: Tensor, log_weights: Tensor, limits: Tensor, share: float) -> Tensor:
    """Returns log P(j), (B, T, q); arguments as for `mixture.mixture_log_probabilities`."""
    found = log_width.new_empty(*p.shape[:-1], len(limits) - 1)
    pieces = zip(*(t.flatten(0, -2).split(ROWS) for t in (found, p, s, log_weights)), strict=True)
    for found_rows, p_rows, s_rows, weights in pieces:
        found_rows.copy_(_forward(p_rows, s_rows, weights, log_width, limits, share))
    return found


def _forward(p: Tensor, s: Tensor, log_weights: Tensor, log_width: Tensor, limits: Tensor, share: float) -> Tensor:
    found = torch.zeros(len(p), len(limits) - 1, dtype=log_width.dtype, device=p.device)
    for k in range(log_width.numel()):
        below, above, inside, _ = _component(k, p, s, log_width, limits)
        found += log_weights[:, k, None].exp().to(found.dtype) * (below[:, 1:] * above[:, :-1] * inside)
    return torch.log((1 - share) * found + share / found.shape[-1])


def backward(
    p: Tensor, s: Tensor, log_width: Tensor, log_weights: Tensor, limits: Tensor, share: float, found: Tensor, grad: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the gradients of p, s (B, T, P), log_width (P, W) and log_weights (B, T, K) from that of `found` (B, T, q)."""
    grad_p, grad_s, grad_width, grad_weights = (torch.zeros_like(t) for t in (p, s, log_width, log_weights))
    rows = (t.reshape(-1, t.shape[-1]).split(ROWS) for t in (p, s, log_weights, found, grad))
    made = [_backward(*piece, log_width, limits, share) for piece in zip(*rows, strict=True)]  # type: ignore[call-arg]
    if made:
        parts = list(zip(*made, strict=True))
        grad_p, grad_s, grad_weights = (torch.cat(part).view_as(t) for part, t in zip(parts[:3], (p, s, log_weights), strict=True))
        grad_width = torch.stack(parts[3]).sum(dim=0).view_as(log_width)
    return grad_p, grad_s, grad_width, grad_weights


def _backward(
    p: Tensor, s: Tensor, log_weights: Tensor, found: Tensor, grad: Tensor, log_width: Tensor, limits: Tensor, share: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `backward`, for some rows: returns the gradients of p, s, log_weights and, flat, of log_width."""
    grad_p, grad_s, grad_weights, grad_width = (torch.zeros_like(t) for t in (p, s, log_weights, log_width.flatten()))
    q, ratio = found.shape[-1], grad * (-found).exp()
    for k in range(log_width.numel()):
        below, above, inside, scale = _component(k, p, s, log_width, limits)
        i, weight = k // log_width.shape[1], log_weights[:, k].exp().to(found.dtype)
        grad_weights[:, k] = weight * (ratio * ((1 - share) * below[:, 1:] * above[:, :-1] * inside + share / q)).sum(dim=-1)
        # d sigmoid(z) / dz, with z = (e - p) / (m s).
        steepness, weight, z = below * above, (1 - share) * weight, _standardised(p[:, i], scale, limits, found.dtype)
        grad_p[:, i] -= weight * (ratio * steepness.diff(dim=-1)).sum(dim=-1) / scale.clamp(min=LEAST_SCALE)
        wider = torch.where(scale < LEAST_SCALE, 0, weight * (ratio * (-z * steepness).diff(dim=-1)).sum(dim=-1))
        grad_width[k] = wider.sum()
        grad_s[:, i] += wider / s[:, i]
    return grad_p, grad_s, grad_weights, grad_width


def _component(k: int, p: Tensor, s: Tensor, log_width: Tensor, limits: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns for component k: the mass below and above each limit (N, q + 1); 1 - e^(a - b) of each cell (N, q), whose product with
    sigmoid(b) sigmoid(-a) is its probability without cancellation; and m s (N,)."""
    i, dtype = k // log_width.shape[1], log_width.dtype
    scale = s[:, i] * log_width.flatten()[k].double().exp()
    z = _standardised(p[:, i], scale, limits, dtype)
    inside = -torch.expm1((-limits.diff() / scale.clamp(min=LEAST_SCALE)[:, None]).to(dtype))
    return z.sigmoid(), (-z).sigmoid(), inside, scale


def _standardised(p: Tensor, scale: Tensor, limits: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns z = (e - p) / (m s) of each limit, (N, q + 1)."""
    return ((limits - p[:, None]) / scale.clamp(min=LEAST_SCALE)[:, None]).to(dtype)
