"""The linear recurrence on the CPU, the `Kernels` compiled by numba with one pass over memory each way, and dropout's masks."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.machine_code import jit, kept
from harmonicrnn.ops.dropout_mask import FIRST, GOLDEN, HALF_WORD, SECOND

word = np.uint32
_FIRST, _SECOND, _GOLDEN, _SIXTEEN, _THIRTEEN, _LOW_HALF = map(word, (FIRST, SECOND, GOLDEN, 16, 13, HALF_WORD - 1))


@kept
def _forward_kernel(a: Any, x: Any, h0: Any, h: Any) -> None:
    batch, time, units = x.shape
    for b in range(batch):
        state = h0[b].copy()
        for t in range(time):
            for n in range(units):
                value = a[b, t, n] * state[n] + x[b, t, n]
                state[n] = value
                h[b, t, n] = value


@kept
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


@kept
def _summary_kernel(a: Any, x: Any, product: Any, last: Any) -> None:
    batch, time, units = x.shape
    for b in range(batch):
        for t in range(time):
            for n in range(units):
                product[b, n] = a[b, t, n] * product[b, n]
                last[b, n] = a[b, t, n] * last[b, n] + x[b, t, n]


@kept
def _adjoint_summary_kernel(a: Any, grad_h: Any, carry: Any) -> None:
    batch, time, units = a.shape
    for b in range(batch):
        for t in range(time - 1, -1, -1):
            for n in range(units):
                carry[b, n] = np.conj(a[b, t, n]) * (grad_h[b, t, n] + carry[b, n])


def forward(a: Tensor, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
    h = torch.empty_like(x)
    _forward_kernel(a.numpy(), x.numpy(), h0.numpy(), h.numpy())
    return h, h[:, -1].clone()


def backward(a: Tensor, h: Tensor, h0: Tensor, grad_h: Tensor, grad_last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    grads = torch.empty_like(a), torch.empty_like(h), torch.empty_like(h0)
    _backward_kernel(*(t.numpy() for t in (a, h, h0, grad_h, grad_last, *grads)))
    return grads


def summary(a: Tensor, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
    product, last = torch.ones_like(h0), h0.clone()
    _summary_kernel(a.numpy(), x.numpy(), product.numpy(), last.numpy())
    return product, last


def adjoint_summary(a: Tensor, grad_h: Tensor, grad_last: Tensor) -> Tensor:
    carry = grad_last.clone()
    _adjoint_summary_kernel(a.numpy(), grad_h.numpy(), carry.numpy())
    return carry


@jit
def _mixed(h: Any) -> Any:
    h ^= h >> _SIXTEEN
    h = word(h * _FIRST)
    h ^= h >> _THIRTEEN
    h = word(h * _SECOND)
    return h ^ (h >> _SIXTEEN)


@kept
def masked(x: Any, high: Any, low: Any, lanes: Any, positions: Any, dropped: Any, scale: Any, y: Any) -> None:
    """Writes x with dropout to y, as `dropout_mask._masked`; `high`, `low` and `dropped` are uint32."""
    batch, time, channels = x.shape
    half = (channels + 1) // 2
    factor, zero = x.dtype.type(scale), x.dtype.type(0)
    words = np.empty(half, np.uint32)
    for b in range(batch):
        lane = _mixed(word(_mixed(word(lanes[b]) ^ high) ^ word(lanes[b] >> 32)))
        for t in range(time):
            step = positions[b] + t
            row = _mixed(word(_mixed(word(step) ^ low) ^ _mixed(word(step >> 32) ^ lane)))
            for d in range(half):
                words[d] = _mixed(word(row + word(d) * _GOLDEN))
            for d in range(half):
                y[b, t, d] = x[b, t, d] * factor if (words[d] & _LOW_HALF) >= dropped else zero
            for d in range(half, channels):
                y[b, t, d] = x[b, t, d] * factor if (words[d - half] >> _SIXTEEN) >= dropped else zero
