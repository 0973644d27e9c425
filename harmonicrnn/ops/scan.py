"""The linear recurrence h_t = a_t h_{t-1} + x_t, whole or as one slice of many, with gradients."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harmonicrnn.ops.implementation import Implementation, choose, kernels_of
from harmonicrnn.ops.scan_functions import Kernels
from harmonicrnn.ops.slices import Slices, gradient_after, state_before


class _LinearScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, x: Tensor, h0: Tensor, kernels: Kernels, slices: Slices | None) -> tuple[Tensor, Tensor]:
        product = None
        if slices is not None:
            product, last = kernels.summary(a, x, h0 if slices.rank == 0 else torch.zeros_like(h0))
            h0 = state_before(slices, product, last, h0)
        h, last = kernels.forward(a, x, h0)
        ctx.kernels, ctx.slices = kernels, slices
        ctx.save_for_backward(a, h, h0, product)
        return h, last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
        a, h, h0, product = ctx.saved_tensors
        kernels, slices = ctx.kernels, ctx.slices
        if slices is not None:
            grad_last = gradient_after(slices, product, kernels.adjoint_summary(a, grad_h, grad_last), grad_last)
        grad_a, grad_x, grad_h0 = kernels.backward(a, h, h0, grad_h, grad_last)
        if slices is not None and slices.rank > 0:
            grad_h0 = torch.zeros_like(grad_h0)
        return grad_a, grad_x, grad_h0, None, None


def linear_scan(
    a: Tensor, x: Tensor, h0: Tensor | None = None, slices: Slices | None = None, implementation: Implementation = "auto"
) -> tuple[Tensor, Tensor]:
    """h_t = a_t h_{t-1} + x_t along time, with gradients for a, x, h0 and through the last state.

    The state is float32 where a, x and h have 16 bits. Complex numbers of 16 bits, for which torch has no dtype, are (B, T, N, 2), as
    torch.view_as_real gives them; their states are complex64.

    Args:
        a: (B, T, N), float32, float64, complex64, complex128, bfloat16 or float16.
        x: (B, T, N), same dtype and device.
        h0: (B, N), the state before the first step; None is zero.
        slices: where a and x are one rank's slice of a longer sequence: one exchange of (2, B, N) each way. The
            sequence begins with rank 0's h0.
        implementation: how to compute it; see `harmonicrnn/ops/implementation.py`.

    Returns:
        h in the shape and dtype of x, and the last state (B, N), which is h0 where T = 0; both of this slice.

    Raises:
        ValueError: shapes or dtypes do not fit together, or the implementation is not available.
    """
    h0 = _checked(a, x, h0)
    return scan_with(kernels_for(x, implementation), a, x, h0, slices)


def linear_scan_summary(a: Tensor, x: Tensor, h0: Tensor | None = None, implementation: Implementation = "auto") -> tuple[Tensor, Tensor]:
    """What the steps do to a state, without gradients: the product of a over time and the last state from h0, each (B, N)."""
    h0, kernels = _checked(a, x, h0), kernels_for(x, implementation)
    if _is_narrow(x) and not kernels.narrow:
        a, x = _widened(a), _widened(x)
    return kernels.summary(a, x, h0)


def scan_with(kernels: Kernels, a: Tensor, x: Tensor, h0: Tensor, slices: Slices | None = None) -> tuple[Tensor, Tensor]:
    """`linear_scan` by the implementation named."""
    if _is_narrow(x) and not kernels.narrow:
        h, last = _LinearScan.apply(_widened(a), _widened(x), h0, kernels, slices)
        return (torch.view_as_real(h) if h.is_complex() else h).to(x.dtype), last
    h, last = _LinearScan.apply(a, x, h0, kernels, slices)
    return h, last


def kernels_for(x: Tensor, implementation: Implementation = "auto") -> Kernels:
    """The implementation for a tensor's device."""
    return kernels_of(choose(implementation, x.device).name)


def _is_narrow(x: Tensor) -> bool:
    return x.dtype in (torch.bfloat16, torch.float16)


def _widened(x: Tensor) -> Tensor:
    return torch.view_as_complex(x.float().contiguous()) if x.dim() == 4 else x.float()


def _checked(a: Tensor, x: Tensor, h0: Tensor | None) -> Tensor:
    """h0, or what stands for it."""
    pairs = x.dim() == 4 and x.shape[3] == 2 and _is_narrow(x)
    if a.shape != x.shape or not (x.dim() == 3 or pairs):
        forms = "(batch, time, units), or in 16 bits (batch, time, units, 2)"
        raise ValueError(f"a and x must share one shape {forms}; got {tuple(a.shape)} and {tuple(x.shape)}")
    if a.dtype != x.dtype:
        raise ValueError(f"a and x must share one dtype; got {a.dtype} and {x.dtype}")
    dtype = x.dtype if not _is_narrow(x) else torch.complex64 if pairs else torch.float32
    if h0 is None:
        h0 = x.new_zeros(x.shape[0], x.shape[2], dtype=dtype)
    if h0.shape != (x.shape[0], x.shape[2]):
        raise ValueError(f"h0 must have shape {(x.shape[0], x.shape[2])} (batch, units); got {tuple(h0.shape)}")
    if h0.dtype != dtype:
        raise ValueError(f"h0 must be {dtype} for a and x of {x.dtype}; got {h0.dtype}")
    return h0
