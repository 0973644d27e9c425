"""The linear recurrence by Triton kernels, as `Kernels`."""

import torch
from torch import Tensor

from ops.kernels import Kernels
from ops.triton.chunks import Steps, adjoint_summaries, carries_into_chunks, scan, scan_backward, summaries, whole


def triton_kernels(chunk: int | None = None) -> Kernels:
    """The recurrence for float32, float64, complex64 and complex128 tensors on a GPU.

    Args:
        chunk: steps that one program walks through; None chooses by the size of the work.
    """

    def steps_of(a: Tensor, x: Tensor) -> Steps:
        return Steps(_planes(a), _planes(x), 2 if x.is_complex() else 1, interleaved=x.is_complex(), chunk=chunk)

    def forward(a: Tensor, x: Tensor, h0: Tensor) -> Tensor:
        return _values(scan(steps_of(a, x), state_planes(h0))[0], x)

    def backward(a: Tensor, h: Tensor, h0: Tensor, grad_h: Tensor, grad_last: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if not h.numel():
            return torch.empty_like(a), torch.empty_like(h), grad_last
        steps, grad = steps_of(a, h), _planes(grad_h)
        carries = carries_into_chunks(steps, grad, state_planes(grad_last))
        grads = scan_backward(steps, steps.x, state_planes(h0), grad, carries)
        return _values(grads[0], a), _values(grads[1], h), state_values(grads[2], h0)

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

    return Kernels(forward, backward, summary, adjoint_summary)


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
    values = values.detach().resolve_conj().resolve_neg().contiguous()
    return torch.view_as_real(values).flatten(-2) if values.is_complex() else values


def _values(planes: Tensor, like: Tensor) -> Tensor:
    return torch.view_as_complex(planes.unflatten(-1, (-1, 2))) if like.is_complex() else planes


TRITON = triton_kernels()
"""For tensors on a CUDA device."""
