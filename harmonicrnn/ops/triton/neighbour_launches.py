"""The gated GELU and the causal convolution, one pass over memory each way.

Bytes needed, in units of one (B, T, D) tensor: gated GELU forward 3, backward 5, with nothing kept for it but the two inputs; convolution
forward 2, backward 3. Deterministic: sums over time have one order.
"""

from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from harmonicrnn.ops.triton.chunks import ACCUMULATORS
from harmonicrnn.ops.triton.neighbour_kernels import (
    convolution_backward_kernel,
    convolution_kernel,
    gated_gelu_backward_kernel,
    gated_gelu_kernel,
)

# To tune on a GPU: numbers of a program of the first; of the second steps and channels of a program, and rows that it reads together.
GELU_BLOCK, STEPS, MAX_CHANNELS, ROWS = 1024, 128, 64, 8


@torch.compiler.disable  # its kernels are compiled by Triton itself
def fused_gated_gelu(gate: Tensor, x: Tensor) -> Tensor:
    """`harmonicrnn.ops.gated_gelu`."""
    dtype = torch.promote_types(gate.dtype, x.dtype)
    y: Tensor = _GatedGELU.apply(gate.to(dtype), x.to(dtype))
    return y


@torch.compiler.disable
def fused_causal_convolution(x: Tensor, before: Tensor, kernel: Tensor, bias: Tensor, steps: int | None = None) -> Tensor:
    """`harmonicrnn.ops.causal_convolution`; the steps of a program may be set."""
    y: Tensor = _CausalConvolution.apply(x, before, kernel, bias, steps or STEPS)
    return y


class _GatedGELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, x: Tensor) -> Tensor:
        gate, x = gate.contiguous(), x.contiguous()
        ctx.save_for_backward(gate, x)
        y = torch.empty_like(x)
        _elementwise(gated_gelu_kernel, gate, x, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        gate, x = ctx.saved_tensors
        grad_gate, grad_x = torch.empty_like(gate), torch.empty_like(x)
        _elementwise(gated_gelu_backward_kernel, gate, x, grad.contiguous(), grad_gate, grad_x)
        return grad_gate, grad_x


def _elementwise(kernel: Any, *tensors: Tensor) -> None:
    count = tensors[0].numel()
    if count:
        with torch.cuda.device_of(tensors[0]):
            accumulator = ACCUMULATORS[torch.promote_types(tensors[0].dtype, torch.float32)]
            kernel[(triton.cdiv(count, GELU_BLOCK),)](*tensors, count, ACC=accumulator, BLOCK=GELU_BLOCK)


class _CausalConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, before: Tensor, kernel: Tensor, bias: Tensor, steps: int) -> Tensor:
        x, before, kernel, bias = (t.contiguous() for t in (x, before, kernel, bias))
        ctx.steps = steps
        ctx.save_for_backward(x, before, kernel)
        y = torch.empty_like(x)
        _over_parts(convolution_kernel, x, (x, before, kernel, bias, y), kernel.shape[0], steps)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, before, kernel = ctx.saved_tensors
        batch, time, channels = x.shape
        if not x.numel():
            return grad, *(torch.zeros_like(t) for t in (before, kernel)), kernel.new_zeros(channels), None
        grad_x, grad_before, taps = torch.empty_like(x), torch.empty_like(before), kernel.shape[0]
        shape = (batch, triton.cdiv(time, ctx.steps), taps + 1, channels)
        sums = x.new_empty(shape, dtype=torch.promote_types(x.dtype, torch.float32))
        tensors = (x, before, kernel, grad.contiguous(), grad_x, grad_before, sums)
        _over_parts(convolution_backward_kernel, x, tensors, taps, ctx.steps)
        grad_weights = sums.sum(dim=(0, 1)).to(kernel.dtype)
        return grad_x, grad_before, grad_weights[:taps], grad_weights[taps], None


def _over_parts(kernel: Any, x: Tensor, tensors: tuple[Tensor, ...], taps: int, steps: int) -> None:
    """Runs a kernel for all lanes, `steps` steps and some channels at a time; where there are no numbers, nothing."""
    batch, time, channels = x.shape
    block, parts = min(triton.next_power_of_2(channels), MAX_CHANNELS), triton.cdiv(time, steps)
    if not x.numel():
        return
    with torch.cuda.device_of(x):
        kernel[(batch * parts * triton.cdiv(channels, block),)](
            *tensors,
            time,
            parts,
            TAPS=taps,
            STEPS=steps,
            ROWS=ROWS,
            CHANNELS=channels,
            ACC=ACCUMULATORS[torch.promote_types(x.dtype, torch.float32)],
            BLOCK=block,
            num_warps=1,
        )
