"""The linear recurrence h_t = a_t h_{t-1} + x_t, over whole sequences or slices of them, with gradients.

Forward:   h_t = a_t h_{t-1} + x_t,                     t = 1..T, h_0 given.
Backward:  d_t = g_t + conj(a_{t+1}) d_{t+1}            the adjoint scan, from the end to the start; its boundary value, in the
                                                        place of conj(a_{T+1}) d_{T+1}, is the gradient of the last state,
           dx_t = d_t,   da_t = d_t conj(h_{t-1}),   dh_0 = conj(a_1) d_1.

Conjugates follow autograd's convention for complex numbers. Nothing divides by a, so a = 0 is exact. The operators' `implementation` is
"cpu", "triton" or "reference".
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harmonicrnn.ops.implementation import Implementation, choose, kernels_of
from harmonicrnn.ops.operators import differentiable, new, operator
from harmonicrnn.ops.slices import Slices, gradient_after, state_before


def _plainly(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(t.detach().contiguous() for t in tensors)


@operator(fake=lambda a, x, h0, implementation: new(x, h0))
def scan(a: Tensor, x: Tensor, h0: Tensor, implementation: str) -> tuple[Tensor, Tensor]:
    """Returns h (B, T, N) and the last state (B, N)."""
    if not x.numel():
        return x.new_empty(x.shape), h0.clone()
    return kernels_of(implementation).forward(*_plainly(a, x, h0))


@operator(fake=lambda a, h, h0, grad_h, grad_last, implementation: new(a, h, h0))
def scan_backward(
    a: Tensor, h: Tensor, h0: Tensor, grad_h: Tensor, grad_last: Tensor, implementation: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of a, x and h0."""
    if not h.numel():
        return a.new_empty(a.shape), h.new_empty(h.shape), grad_last.clone()
    return kernels_of(implementation).backward(*_plainly(a, h, h0, grad_h, grad_last))


@operator(fake=lambda a, x, h0, implementation: new(h0, h0))
def scan_summary(a: Tensor, x: Tensor, h0: Tensor, implementation: str) -> tuple[Tensor, Tensor]:
    """Returns prod_t a_t, and the last state from h0."""
    if not x.numel():
        return torch.ones_like(h0), h0.clone()
    return kernels_of(implementation).summary(*_plainly(a, x, h0))


@operator(fake=lambda a, grad_h, grad_last, implementation: new(grad_last)[0])
def scan_adjoint_summary(a: Tensor, grad_h: Tensor, grad_last: Tensor, implementation: str) -> Tensor:
    """Returns the gradient of h0."""
    if not grad_h.numel():
        return grad_last.clone()
    return kernels_of(implementation).adjoint_summary(*_plainly(a, grad_h, grad_last))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    a, _, h0, ctx.implementation = inputs
    ctx.save_for_backward(a, output[0], h0)


@once_differentiable
def _backward(ctx: Any, grad_h: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
    return *scan_backward(*ctx.saved_tensors, grad_h, grad_last, ctx.implementation), None


differentiable(scan, _keep, _backward)


class _SlicedScan(torch.autograd.Function):
    """`scan` of a slice, with an exchange each way, which operators cannot do."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, x: Tensor, h0: Tensor, implementation: str, slices: Slices) -> tuple[Tensor, Tensor]:
        ctx.product, last = scan_summary(a, x, h0 if slices.rank == 0 else torch.zeros_like(h0), implementation)
        ctx.slices, h0 = slices, state_before(slices, ctx.product, last, h0)
        output: tuple[Tensor, Tensor] = scan(a, x, h0, implementation)
        _keep(ctx, (a, x, h0, implementation), output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_h: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
        a, h, h0 = ctx.saved_tensors  # read once: with recomputation saved tensors can be read only once
        carry = scan_adjoint_summary(a, grad_h, grad_last, ctx.implementation)
        grad_last = gradient_after(ctx.slices, ctx.product, carry, grad_last)
        grad_a, grad_x, grad_h0 = scan_backward(a, h, h0, grad_h, grad_last, ctx.implementation)
        return grad_a, grad_x, grad_h0 if ctx.slices.rank == 0 else torch.zeros_like(grad_h0), None, None


def linear_scan(
    a: Tensor, x: Tensor, h0: Tensor | None = None, slices: Slices | None = None, implementation: Implementation = "auto"
) -> tuple[Tensor, Tensor]:
    """Computes h_t = a_t h_{t-1} + x_t along time, with gradients for a, x, h0 and through the last state.

    States are float32 for 16-bit a, x and h. 16-bit complex numbers, for which torch has no dtype, are (B, T, N, 2), as in
    torch.view_as_real; their states are complex64.

    Args:
        a: (B, T, N), float32, float64, complex64, complex128, bfloat16 or float16.
        x: (B, T, N), same dtype and device.
        h0: (B, N), the state before the first step; None is zero.
        slices: if a and x are one rank's slice of a longer sequence, which begins with rank 0's h0: one exchange of (2, B, N) each way.
        implementation: see `harmonicrnn/ops/implementation.py`.

    Returns:
        h in the shape and dtype of x, and the last state (B, N), which is h0 if T = 0; both of this slice.

    Raises:
        ValueError: shapes or dtypes do not fit together, or the implementation is not available.
    """
    h0, dtype = _checked(a, x, h0), x.dtype
    name = choose(implementation, x.device).name
    if _is_narrow(dtype) and name != "triton":  # whose kernels alone take 16 bits
        a, x = (torch.view_as_complex(t.float().contiguous()) if t.dim() == 4 else t.float() for t in (a, x))
    h, last = scan(a, x, h0, name) if slices is None else _SlicedScan.apply(a, x, h0, name, slices)
    if dtype != h.dtype and _is_narrow(dtype):
        h = (torch.view_as_real(h) if h.is_complex() else h).to(dtype)
    return h, last


def _is_narrow(dtype: torch.dtype) -> bool:
    return dtype in (torch.bfloat16, torch.float16)


def _checked(a: Tensor, x: Tensor, h0: Tensor | None) -> Tensor:
    """Checks the arguments; returns h0, zeros for None."""
    pairs = x.dim() == 4 and x.shape[3] == 2 and _is_narrow(x.dtype)
    if a.shape != x.shape or not (x.dim() == 3 or pairs):
        forms = "(batch, time, units), or in 16 bits (batch, time, units, 2)"
        raise ValueError(f"a and x must share one shape {forms}; got {tuple(a.shape)} and {tuple(x.shape)}")
    if a.dtype != x.dtype:
        raise ValueError(f"a and x must share one dtype; got {a.dtype} and {x.dtype}")
    dtype = x.dtype if not _is_narrow(x.dtype) else torch.complex64 if pairs else torch.float32
    if h0 is None:
        h0 = x.new_zeros(x.shape[0], x.shape[2], dtype=dtype)
    if h0.shape != (x.shape[0], x.shape[2]):
        raise ValueError(f"h0 must have shape {(x.shape[0], x.shape[2])} (batch, units); got {tuple(h0.shape)}")
    if h0.dtype != dtype:
        raise ValueError(f"h0 must be {dtype} for a and x of {x.dtype}; got {h0.dtype}")
    return h0
