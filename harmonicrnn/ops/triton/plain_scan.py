"""The linear recurrence by Triton kernels, as `Kernels`."""

import torch
from torch import Tensor

from harmonicrnn.ops.scan_functions import Kernels
from harmonicrnn.ops.triton.chunks import Steps, adjoint_summaries, carries_into_chunks, scan, scan_backward, summaries, whole


def triton_kernels(chunk: int | None = None) -> Kernels:
    """The recurrence for tensors on a GPU: float32, float64, complex64, complex128 and numbers of 16 bits.

    Args:
        chunk: steps that one program walks through; None chooses by the size of the work.
    """

    def steps_of(a: Tensor, x: Tensor) -> Steps:
        complex_ = x.is_complex() or x.dim() == 4
        return Steps(_planes(a), _planes(x), 2 if complex_ else 1, interleaved=complex_, chunk=chunk)

    def forward(a: Tensor, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        h, last = scan(steps_of(a, x), state_planes(h0))
        return _values(h, x), state_values(last, h0).clone()

    def backward(a: Tensor, h: Tensor, h0: Tensor, grad_h: Tensor, grad_last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not h.numel():
            return torch.empty_like(a), torch.empty_like(h), grad_last
        steps, grad = steps_of(a, h), _planes(grad_h)
        carries = carries_into_chunks(steps, grad, state_planes(grad_last))
        grad_a, grad_x, grad_h0 = scan_backward(steps, steps.x, _planes(h0), grad, carries)
        return _values(grad_a, a), _values(grad_x, h), state_values(grad_h0, h0)

    def summary(a: Tensor, x: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        if not x.numel():
            return torch.ones_like(h0), h0
        steps = steps_of(a, x)
        product, last = (state_values(t, h0) for t in whole(*summaries(steps), steps.parts, chunk))
        return product, last + product * h0

    def adjoint_summary(a: Tensor, grad_h: Tensor, grad_last: Tensor) -> Tensor:
        if not grad_h.numel():
            return grad_last
        steps = steps_of(a, grad_h)
        product, last = (state_values(t, grad_last) for t in whole(*adjoint_summaries(steps, steps.x), steps.parts, chunk))
        return last + product * grad_last

    return Kernels(forward, backward, summary, adjoint_summary, narrow=True)


def state_planes(state: Tensor) -> Tensor:
    """A state (B, N) as real numbers (B, W), real parts first."""
    if not state.is_complex():
        return state.detach().contiguous()
    state = state.detach().resolve_conj()
    return torch.cat([state.real, state.imag], dim=-1)


def state_values(planes: Tensor, like: Tensor) -> Tensor:
    """The reverse of `state_planes`."""
    return torch.complex(*(half.contiguous() for half in planes.chunk(2, dim=-1))) if like.is_complex() else planes


def _planes(values: Tensor) -> Tensor:
    """Numbers (..., N) as real ones (..., W), complex ones interleaved; those of 16 bits are (B, T, N, 2) before."""
    values = values.detach().resolve_conj().resolve_neg().contiguous()
    return torch.view_as_real(values).flatten(-2) if values.is_complex() else values.flatten(2) if values.dim() == 4 else values


def _values(planes: Tensor, like: Tensor) -> Tensor:
    """The reverse of `_planes`."""
    if like.is_complex():
        return torch.view_as_complex(planes.unflatten(-1, (-1, 2)))
    return planes.view(like.shape)


TRITON = triton_kernels()
"""For tensors on a CUDA device."""
