"""The linear recurrence in ceil(log2 T) passes of ordinary tensor operations, for devices that have no kernel of their own.

Steps t and t - k compose to a_t a_{t-k}, a_t x_{t-k} + x_t; doubling k joins ever longer stretches (Hillis and Steele, 1986). Nothing
divides by a, so a = 0 is exact. The backward pass is the adjoint recurrence of `ops/cpu.py`, over time reversed.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def _scan(a: Tensor, x: Tensor, h0: Tensor) -> Tensor:
    h = torch.cat([x[:, :1] + a[:, :1] * h0[:, None], x[:, 1:]], dim=1)
    k = 1
    while k < x.shape[1]:
        h = torch.cat([h[:, :k], h[:, k:] + a[:, k:] * h[:, :-k]], dim=1)
        a = torch.cat([a[:, :k], a[:, k:] * a[:, :-k]], dim=1)
        k *= 2
    return h


class _LinearScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        h = _scan(a, x, h0)
        ctx.save_for_backward(a, h, h0)
        return h, (h[:, -1] if x.shape[1] else h0).clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: Tensor, grad_last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, h, h0 = ctx.saved_tensors
        if not h.shape[1]:
            return torch.zeros_like(a), torch.zeros_like(h), grad_last
        # Seen from the end, the factor of step t is conj(a_{t+1}); the first one there meets the gradient of the last state.
        factors = torch.cat([torch.ones_like(a[:, :1]), a.conj().flip(1)[:, :-1]], dim=1)
        d = _scan(factors, grad_h.flip(1), grad_last).flip(1)
        previous = torch.cat([h0[:, None], h[:, :-1]], dim=1)
        return d * previous.conj(), d, a[:, 0].conj() * d[:, 0]


def linear_scan_doubling(a: Tensor, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence of `linear_scan` on any device; shapes as there."""
    h, last = _LinearScan.apply(a, x, h0)
    return h, last
