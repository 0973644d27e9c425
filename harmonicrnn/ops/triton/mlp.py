"""The gated MLP as one kernel each way: its hidden channels are never written by the forward pass, and computed again by the backward pass.

Bytes needed, in units of one (B, T, D) tensor, with E hidden channels for each of D: forward 2, 3 with the residual, against 3 + 6 E of
three products and a gated GELU, 6 + 6 E with the sum; backward 3 + 3 E and, for the gradients of the weights, which are torch's products,
3 E + 2. Operations: 6 E D^2 a step forward, 16 E D^2 backward, where torch's products make 12 E D^2; at D = 128 and E = 3 they need longer
than the bytes on an H100. Kept in between: x alone.
"""

from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from harmonicrnn.ops.triton.chunks import ACCUMULATORS
from harmonicrnn.ops.triton.mlp_kernels import gated_mlp_backward_kernel, gated_mlp_kernel

# To tune on a GPU: steps of a program, hidden channels that it takes at a time forward and backward, and its warps. Each program reads all
# weights, so that longer ones read them less often in all; backward the registers do not suffice for more channels.
ROWS, HIDDEN, BACKWARD_HIDDEN, WARPS = 128, 64, 32, 8
SMALL, SHARED_MEMORY = (64, 32, 32, 4), 184_320
"""What stands for them where a program has less shared memory than these bytes, which they need; it needs half of that."""
MIN_BLOCK = 16
"""The least that a GPU's matrix units multiply."""
MAX_WIDTH = 128
"""A program holds all channels of its steps, which are not to be more than this."""


@torch.compiler.disable  # its kernels are compiled by Triton itself
def fused_gated_mlp(
    x: Tensor,
    gate_weight: Tensor,
    gate_bias: Tensor,
    input_weight: Tensor,
    input_bias: Tensor,
    output_weight: Tensor,
    output_bias: Tensor,
    residual: Tensor | None = None,
) -> Tensor:
    """`harmonicrnn.ops.gated_mlp`, of tensors of one dtype.

    Raises:
        ValueError: more than MAX_WIDTH channels.
    """
    if x.shape[-1] > MAX_WIDTH:
        raise ValueError(f"the kernel of the gated MLP takes at most {MAX_WIDTH} channels, got {x.shape[-1]}")
    y: Tensor = _GatedMLP.apply(x, residual, gate_weight, gate_bias, input_weight, input_bias, output_weight, output_bias)
    return y


class _GatedMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor | None, *weights: Tensor) -> Tensor:
        x, weights = x.contiguous(), tuple(w.contiguous() for w in weights)
        ctx.adds = residual is not None
        ctx.save_for_backward(x, *weights)
        y = torch.empty_like(x)
        added = x if residual is None else residual.contiguous()
        _over_steps(gated_mlp_kernel, x, weights, (added, y), ADDS=ctx.adds)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        grad, width, hidden = grad.contiguous(), x.shape[-1], len(weights[0])
        count = x.numel() // width
        grad_x = torch.empty_like(x)
        grad_hidden, product = x.new_empty((count, 2 * hidden)), x.new_empty((count, hidden))
        shape = (triton.cdiv(count, sizes_for(x)[0]), 2 * hidden + width)
        grad_biases = x.new_empty(shape, dtype=torch.promote_types(x.dtype, torch.float32))
        _over_steps(gated_mlp_backward_kernel, x, tuple(weights[:5]), (grad, grad_x, grad_hidden, product, grad_biases))
        gate_bias, input_bias, output_bias = grad_biases.sum(dim=0).to(x.dtype).split((hidden, hidden, width))
        gate_weight, input_weight = (grad_hidden.T @ x.view(-1, width)).split(hidden)
        output_weight = grad.view(-1, width).T @ product
        return grad_x, grad if ctx.adds else None, gate_weight, gate_bias, input_weight, input_bias, output_weight, output_bias


def sizes_for(x: Tensor) -> tuple[int, int, int, int]:
    """Steps, hidden channels forward and backward, and warps, for the memory that a program has on the tensor's device."""
    if x.is_cuda:
        properties = torch.cuda.get_device_properties(x.device)
        if properties.shared_memory_per_block_optin < SHARED_MEMORY:  # type: ignore[attr-defined]
            return SMALL
    return ROWS, HIDDEN, BACKWARD_HIDDEN, WARPS


def _over_steps(kernel: Any, x: Tensor, weights: tuple[Tensor, ...], others: tuple[Tensor, ...], **constants: bool) -> None:
    width, hidden = x.shape[-1], len(weights[0])
    count = x.numel() // width
    rows, forward, backward, warps = sizes_for(x)
    if count:
        with torch.cuda.device_of(x):
            kernel[(triton.cdiv(count, rows),)](
                x,
                *weights,
                *others,
                count,
                width,
                hidden,
                ACC=ACCUMULATORS[torch.promote_types(x.dtype, torch.float32)],
                ROWS=rows,
                WIDTH=max(MIN_BLOCK, triton.next_power_of_2(width)),
                HIDDEN=backward if kernel is gated_mlp_backward_kernel else forward,
                num_warps=warps,
                **constants,
            )
