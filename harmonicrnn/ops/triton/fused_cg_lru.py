"""The fused CG-LRU: from the input, the two gates' pre-activations and the two parameters straight to y.

a and the input's factor exist in registers alone and are computed again in the backward pass. Bytes needed, in units of one (B, T, D)
tensor: forward 3 (x, gates, y), forward + backward 9. The three phases move 5, and 5 + 7.5: x and the gates are read
once more for the summaries, and so are the recurrence gate and the gradient of y.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harmonicrnn.ops.slices import Slices, gradient_after, state_before
from harmonicrnn.ops.triton.chunks import Steps, adjoint_summaries, carries_into_chunks, gated_backward, scan, summaries, whole
from harmonicrnn.ops.triton.plain_scan import state_planes


@torch.compiler.disable  # its kernels are compiled by Triton itself
def fused_cg_lru(
    x: Tensor,
    gates: Tensor,
    rates: Tensor,
    phases: Tensor | None,
    h0: Tensor,
    fresh: Tensor,
    max_sqrt_derivative: float,
    slices: Slices | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`harmonicrnn.ops.cg_lru` from log|a| at an open gate, rates (N,), and phases, in the dtype of h0; steps of a chunk may be set."""
    y, last = _FusedCGLRU.apply(x, gates, rates, phases, h0, fresh, max_sqrt_derivative, slices, chunk)
    return y, last


def fused_cg_lru_summary(
    x: Tensor,
    gates: Tensor,
    rates: Tensor,
    phases: Tensor | None,
    h0: Tensor,
    fresh: Tensor,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """`harmonicrnn.ops.cg_lru_summary`, likewise."""
    steps = _gated_steps(x, gates, rates, phases, fresh, chunk)
    return tuple(state_planes(t) for t in _summary(steps, *summaries(steps), _values(h0, steps)))  # type: ignore[return-value]


class _FusedCGLRU(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gates: Tensor,
        rates: Tensor,
        phases: Tensor | None,
        h0: Tensor,
        fresh: Tensor,
        max_sqrt_derivative: float,
        slices: Slices | None,
        chunk: int | None,
    ) -> tuple[Tensor, Tensor]:
        steps = _gated_steps(x, gates, rates, phases, fresh, chunk)
        product, h0 = None, h0.contiguous()
        if slices is None:
            y, last = scan(steps, h0)
        else:
            by_chunk = summaries(steps)
            start = _values(h0, steps)
            product, after = _summary(steps, *by_chunk, start if slices.rank == 0 else torch.zeros_like(start))
            h0 = state_planes(state_before(slices, product, after, start))
            y, last = scan(steps, h0, by_chunk)
        ctx.max_sqrt_derivative, ctx.slices, ctx.chunk = max_sqrt_derivative, slices, chunk
        ctx.save_for_backward(steps.x, steps.a, steps.rates, steps.phases, fresh, y, h0, product)
        return y, last.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
        x, gates, rates, phases, fresh, y, h0, product = ctx.saved_tensors
        slices: Slices | None = ctx.slices
        steps = _gated_steps(x, gates, rates, phases, fresh, ctx.chunk)
        grad_y, grad_last = grad_y.contiguous(), grad_last.contiguous()
        by_chunk = None
        if slices is not None:
            by_chunk = adjoint_summaries(steps, grad_y)
            end = _values(grad_last, steps)
            _, carry = _summary(steps, *by_chunk, end)
            grad_last = state_planes(gradient_after(slices, product, carry, end))
        carries = carries_into_chunks(steps, grad_y, grad_last, by_chunk)
        *grads, grad_h0 = gated_backward(steps, y, h0, grad_y, carries, ctx.max_sqrt_derivative)
        if not x.shape[1]:
            grad_h0 = grad_last
        if slices is not None and slices.rank > 0:
            grad_h0 = torch.zeros_like(grad_h0)
        grad_gates, grad_x, grad_rates, grad_phases = grads
        return grad_x, grad_gates, grad_rates, grad_phases, grad_h0, None, None, None, None


def _gated_steps(x: Tensor, gates: Tensor, rates: Tensor, phases: Tensor | None, fresh: Tensor, chunk: int | None) -> Steps:
    x, gates, rates = (t.detach().contiguous() for t in (x, gates, rates))
    phases = None if phases is None else phases.detach().contiguous()
    return Steps(gates, x, 1 if phases is None else 2, rates=rates, phases=phases, fresh=fresh.contiguous(), chunk=chunk)


def _summary(steps: Steps, products: Tensor, lasts: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """The product and the state after all chunks, from their summaries and the state before them; complex for complex units."""
    if not steps.chunks:
        return torch.ones_like(start), start
    product, last = (_values(t, steps) for t in whole(products, lasts, steps.parts, steps.chunk))
    return product, last + product * start


def _values(planes: Tensor, steps: Steps) -> Tensor:
    return planes if steps.parts == 1 else torch.complex(*(half.contiguous() for half in planes.chunk(2, dim=-1)))
