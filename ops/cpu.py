r"""The linear recurrence on the CPU: one pass over memory each way, compiled by numba (no C compiler needed).

Forward:   h_t = a_t h_{t-1} + x_t,                     t = 1..T, h_0 given.
Backward:  d_t = g_t + conj(a_{t+1}) d_{t+1}            the adjoint scan, from the end to the start; its boundary value, in the
                                                        place of conj(a_{T+1}) d_{T+1}, is the gradient of the last state,
           dx_t = d_t,   da_t = d_t conj(h_{t-1}),   dh_0 = conj(a_1) d_1.

Conjugates follow autograd's convention for complex numbers. Nothing divides by a, so a = 0 is exact.
"""

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# "contract" allows fused multiply-adds and nothing else: NaN, infinity and the order of operations stay as written.
_jit: Any = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"})


@_jit
def _forward_kernel(a: Any, x: Any, h0: Any, h: Any) -> None:
    batch, time, units = x.shape
    for b in range(batch):
        state = h0[b].copy()
        for t in range(time):
            for n in range(units):
                value = a[b, t, n] * state[n] + x[b, t, n]
                state[n] = value
                h[b, t, n] = value


@_jit
def _backward_kernel(a: Any, h: Any, h0: Any, grad_h: Any, grad_last: Any, grad_a: Any, grad_x: Any, grad_h0: Any) -> None:
    batch, time, units = a.shape
    for b in range(batch):
        carry = grad_last[b].copy()
        for t in range(time - 1, -1, -1):
            previous = h[b, t - 1] if t > 0 else h0[b]
            for n in range(units):
                d = grad_h[b, t, n] + carry[n]
                grad_x[b, t, n] = d
                grad_a[b, t, n] = d * np.conj(previous[n])
                carry[n] = np.conj(a[b, t, n]) * d
        grad_h0[b] = carry


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().resolve_conj().resolve_neg().contiguous().numpy()


class _LinearScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.empty_like(x, memory_format=torch.contiguous_format)
        _forward_kernel(_array(a), _array(x), _array(h0), h.numpy())
        ctx.save_for_backward(a, h, h0)
        last = h[:, -1] if x.shape[1] else h0
        return h, last.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: Tensor, grad_last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, h, h0 = ctx.saved_tensors
        grad_a, grad_x, grad_h0 = (torch.empty_like(t, memory_format=torch.contiguous_format) for t in (a, h, h0))
        inputs = (_array(t) for t in (a, h, h0, grad_h, grad_last))
        _backward_kernel(*inputs, grad_a.numpy(), grad_x.numpy(), grad_h0.numpy())
        return grad_a, grad_x, grad_h0


def linear_scan_cpu(a: Tensor, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence of `linear_scan` for tensors on the CPU; shapes as there."""
    h, last = _LinearScan.apply(a, x, h0)
    return h, last
