"""RMSNorm at the head of a residual branch, joined with the sum before it, one pass over memory each way.

Bytes needed, in units of one (B, T, D) tensor: forward 4 with the sum, 2 without, where two kernels need 5; backward 4, where the norm and
the sum of both gradients need 6. Kept in between: the sum alone. Deterministic: sums over steps have one order.
"""

from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from harmonicrnn.ops.triton.chunks import ACCUMULATORS
from harmonicrnn.ops.triton.norm_kernels import residual_norm_backward_kernel, residual_norm_kernel

# To tune on a GPU: numbers that a program takes at a time, how often it does so backward, and its warps.
NUMBERS, TURNS, WARPS = 2048, 16, 4


@torch.compiler.disable  # its kernels are compiled by Triton itself
def fused_residual_norm(x: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """`harmonicrnn.ops.residual_norm`, of tensors of one dtype."""
    total, y = _ResidualNorm.apply(x, delta, weight, epsilon)
    return total, y


class _ResidualNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, delta: Tensor | None, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
        x, weight = x.contiguous(), weight.contiguous()
        total = x.view_as(x) if delta is None else torch.empty_like(x)
        y, added = torch.empty_like(x), x if delta is None else delta.contiguous()
        _over_steps(residual_norm_kernel, x, 1, (x, added, weight, total, y), EPSILON=epsilon, ADDS=delta is not None)
        ctx.epsilon, ctx.adds = epsilon, delta is not None
        ctx.save_for_backward(total, weight)
        return total, y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor, grad_y: Tensor) -> tuple[Tensor | None, ...]:
        total, weight = ctx.saved_tensors
        grad_x, programs = torch.empty_like(total), triton.cdiv(total.numel() // len(weight), rows_of(len(weight)) * TURNS)
        grad_weights = total.new_empty((programs, len(weight)), dtype=torch.promote_types(total.dtype, torch.float32))
        tensors = (total, weight, grad_total.contiguous(), grad_y.contiguous(), grad_x, grad_weights)
        _over_steps(residual_norm_backward_kernel, total, TURNS, tensors, EPSILON=ctx.epsilon, TURNS=TURNS)
        return grad_x, grad_x if ctx.adds else None, grad_weights.sum(dim=0).to(weight.dtype), None


def rows_of(width: int) -> int:
    """Steps that a program takes at a time."""
    return max(1, NUMBERS // triton.next_power_of_2(width))


def _over_steps(kernel: Any, x: Tensor, turns: int, tensors: tuple[Tensor, ...], **constants: Any) -> None:
    width = x.shape[-1]
    count = x.numel() // width
    if count:
        with torch.cuda.device_of(x):
            kernel[(triton.cdiv(count, rows_of(width) * turns),)](
                *tensors,
                count,
                width,
                ACC=ACCUMULATORS[torch.promote_types(x.dtype, torch.float32)],
                ROWS=rows_of(width),
                WIDTH=triton.next_power_of_2(width),
                num_warps=WARPS,
                **constants,
            )
