"""The linear recurrence in ceil(log2 T) passes of tensor operations: the `Kernels` for devices without compiled ones.

Steps t and t - k compose to a_t a_{t-k}, a_t x_{t-k} + x_t; doubling k joins longer and longer stretches (Hillis and Steele, 1986). The
backward pass is the adjoint recurrence, over reversed time.
"""

import torch
from torch import Tensor


def forward(a: Tensor, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
    h = _scanned(a, x, h0)
    return h, h[:, -1].clone()


def _scanned(a: Tensor, x: Tensor, h0: Tensor) -> Tensor:
    h = torch.cat([x[:, :1] + a[:, :1] * h0[:, None], x[:, 1:]], dim=1)
    k = 1
    while k < x.shape[1]:
        h = torch.cat([h[:, :k], h[:, k:] + a[:, k:] * h[:, :-k]], dim=1)
        a = torch.cat([a[:, :k], a[:, k:] * a[:, :-k]], dim=1)
        k *= 2
    return h


def _adjoint(a: Tensor, grad_h: Tensor, grad_last: Tensor) -> Tensor:
    # In reversed time the factor of step t is conj(a_{t+1}), and 1 for the gradient of the last state.
    factors = torch.cat([torch.ones_like(a[:, :1]), a.conj_physical().flip(1)[:, :-1]], dim=1)
    return _scanned(factors, grad_h.flip(1), grad_last).flip(1)


def backward(a: Tensor, h: Tensor, h0: Tensor, grad_h: Tensor, grad_last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    d = _adjoint(a, grad_h, grad_last)
    previous = torch.cat([h0[:, None], h[:, :-1]], dim=1)
    return d * previous.conj_physical(), d, a[:, 0].conj_physical() * d[:, 0]


def summary(a: Tensor, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
    return a.prod(dim=1), forward(a, x, h0)[1]


def adjoint_summary(a: Tensor, grad_h: Tensor, grad_last: Tensor) -> Tensor:
    return a[:, 0].conj_physical() * _adjoint(a, grad_h, grad_last)[:, 0]
