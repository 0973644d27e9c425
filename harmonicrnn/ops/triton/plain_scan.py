"""The linear recurrence by Triton kernels, as `Kernels`, for float32, float64, complex64, complex128 and 16-bit numbers."""

import torch
from torch import Tensor

from harmonicrnn.ops.triton.chunks import Steps, adjoint_summaries, carries_into_chunks, scan, scan_backward, summaries, whole


def forward(a: Tensor, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
    h, last = scan(_steps(a, x), planes(h0))
    return _values(h, x), values(last, h0.is_complex())


def backward(a: Tensor, h: Tensor, h0: Tensor, grad_h: Tensor, grad_last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    steps, grad = _steps(a, h), _rows(grad_h)
    carries = carries_into_chunks(steps, grad, planes(grad_last))
    grad_a, grad_x, grad_h0 = scan_backward(steps, steps.x, _rows(h0), grad, carries)
    return _values(grad_a, a), _values(grad_x, h), values(grad_h0, h0.is_complex())


def summary(a: Tensor, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
    steps = _steps(a, x)
    return from_state(summaries(steps), h0, steps.parts)


def adjoint_summary(a: Tensor, grad_h: Tensor, grad_last: Tensor) -> Tensor:
    steps = _steps(a, grad_h)
    return from_state(adjoint_summaries(steps, steps.x), grad_last, steps.parts)[1]


def from_state(known: Tensor, start: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """Returns the product of a and the last state from `start`, (B, N), by the chunks' summaries."""
    product, last = (values(t, parts == 2) for t in whole(known, parts))
    return product, last + product * start


def planes(state: Tensor) -> Tensor:
    """Converts a state (B, N) to real numbers (B, W), real parts first."""
    return torch.cat([state.real, state.imag], dim=-1) if state.is_complex() else state


def values(planes: Tensor, complex_: bool) -> Tensor:
    """Inverse of `planes`, as a new tensor."""
    return torch.complex(*(half.contiguous() for half in planes.chunk(2, dim=-1))) if complex_ else planes.clone()


def _steps(a: Tensor, x: Tensor) -> Steps:
    complex_ = x.is_complex() or x.dim() == 4
    return Steps(_rows(a), _rows(x), 2 if complex_ else 1, interleaved=complex_)


def _rows(numbers: Tensor) -> Tensor:
    """Converts numbers (..., N), 16-bit complex ones (B, T, N, 2), to real ones (..., W), complex ones interleaved."""
    if numbers.is_complex():
        return torch.view_as_real(numbers).flatten(-2)
    return numbers.flatten(2) if numbers.dim() == 4 else numbers


def _values(rows: Tensor, like: Tensor) -> Tensor:
    """Inverse of `_rows`."""
    return torch.view_as_complex(rows.unflatten(-1, (-1, 2))) if like.is_complex() else rows.view(like.shape)
