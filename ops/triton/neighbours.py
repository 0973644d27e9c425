"""The gated GELU and the causal convolution, one pass over memory each way.

Bytes needed, in units of one (B, T, D) tensor: gated GELU forward 3, backward 5, with nothing kept for it but the two inputs; convolution
forward 2, backward 3. Deterministic: sums over time have one order.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from ops.triton.arithmetic import program_place, sigmoid
from ops.triton.chunks import ACCUMULATORS

# To tune on a GPU: numbers of a program of the first; of the second steps of a program, and steps and channels that it takes at a time.
GELU_BLOCK, STEPS, ROWS, MAX_CHANNELS = 1024, 512, 16, 64


@triton.jit
def gelu_parts(v):
    """GELU(v) = v s(v), as s and ds/dv: s = (1 + tanh u)/2 = sigmoid(2u), 2u = 2 sqrt(2/pi) (v + 0.044715 v^3)."""
    share = sigmoid(1.5957691216057308 * v * (1 + 0.044715 * v * v))
    return share, share * (1 - share) * 1.5957691216057308 * (1 + 3 * 0.044715 * v * v)


@triton.jit
def gated_gelu_kernel(gate, x, y, count, ACC: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(gate + i, mask=i < count, other=0.0).to(ACC)
    share, slope = gelu_parts(v)
    value = v * share * tl.load(x + i, mask=i < count, other=0.0).to(ACC)
    tl.store(y + i, value.to(y.dtype.element_ty), mask=i < count)


@triton.jit
def gated_gelu_backward_kernel(gate, x, grad, grad_gate, grad_x, count, ACC: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(gate + i, mask=i < count, other=0.0).to(ACC)
    g = tl.load(grad + i, mask=i < count, other=0.0).to(ACC)
    share, slope = gelu_parts(v)
    for_gate = g * tl.load(x + i, mask=i < count, other=0.0).to(ACC) * (share + v * slope)
    tl.store(grad_gate + i, for_gate.to(grad_gate.dtype.element_ty), mask=i < count)
    tl.store(grad_x + i, (g * v * share).to(grad_x.dtype.element_ty), mask=i < count)


@triton.jit
def rows_of(tensor, b, t, n, time, channels, ACC: tl.constexpr):
    """Rows t of one lane, zeros where there are none."""
    there = ((t >= 0) & (t < time))[:, None] & (n < channels)[None, :]
    return tl.load(tensor + (b * time + t)[:, None] * channels + n[None, :], mask=there, other=0.0).to(ACC)


@triton.jit
def convolution_kernel(
    x,
    before,
    kernel,
    bias,
    y,
    time,
    parts,
    channels,
    TAPS: tl.constexpr,
    ACC: tl.constexpr,
    STEPS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    b, part, n, mask = program_place(parts, channels, BLOCK)
    constant = tl.load(bias + n, mask=mask, other=0.0).to(ACC)[None, :]
    for start in range(part * STEPS, tl.minimum(part * STEPS + STEPS, time), ROWS):
        t = start + tl.arange(0, ROWS)
        value = tl.zeros([ROWS, BLOCK], ACC) + constant
        for k in tl.static_range(TAPS):
            rows = rows_of(x, b, t + k - (TAPS - 1), n, time, channels, ACC)
            if TAPS > 1:
                rows += rows_of(before, b, t + k, n, TAPS - 1, channels, ACC)
            value += rows * tl.load(kernel + k * channels + n, mask=mask, other=0.0).to(ACC)[None, :]
        there = (t < time)[:, None] & mask[None, :]
        tl.store(y + (b * time + t)[:, None] * channels + n[None, :], value.to(y.dtype.element_ty), mask=there)


@triton.jit
def convolution_backward_kernel(
    x,
    before,
    kernel,
    grad,
    grad_x,
    grad_before,
    grad_weights,
    time,
    parts,
    channels,
    TAPS: tl.constexpr,
    SUMS: tl.constexpr,
    ACC: tl.constexpr,
    STEPS: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Steps count from the first of `before` here. grad_weights (B, parts, SUMS, D): a sum of each tap and one of the bias, SUMS > TAPS."""
    b, part, n, mask = program_place(parts, channels, BLOCK)
    which = tl.arange(0, SUMS)
    sums = tl.zeros([SUMS, BLOCK], ACC)
    for start in range(part * STEPS, tl.minimum(part * STEPS + STEPS, time + TAPS - 1), ROWS):
        t = start + tl.arange(0, ROWS)
        source = rows_of(x, b, t - (TAPS - 1), n, time, channels, ACC)
        if TAPS > 1:
            source += rows_of(before, b, t, n, TAPS - 1, channels, ACC)
        value = tl.zeros([ROWS, BLOCK], ACC)
        for k in tl.static_range(TAPS):
            g = rows_of(grad, b, t - k, n, time, channels, ACC)
            value += g * tl.load(kernel + k * channels + n, mask=mask, other=0.0).to(ACC)[None, :]
            sums += tl.where(which[:, None] == k, tl.sum(g * source, axis=0)[None, :], 0.0)
            if k == 0:
                sums += tl.where(which[:, None] == TAPS, tl.sum(g, axis=0)[None, :], 0.0)
        late = t - (TAPS - 1)
        there = ((late >= 0) & (late < time))[:, None] & mask[None, :]
        tl.store(grad_x + (b * time + late)[:, None] * channels + n[None, :], value.to(grad_x.dtype.element_ty), mask=there)
        if TAPS > 1:
            early = (t < TAPS - 1)[:, None] & mask[None, :]
            place = grad_before + (b * (TAPS - 1) + t)[:, None] * channels + n[None, :]
            tl.store(place, value.to(grad_before.dtype.element_ty), mask=early)
    place = grad_weights + ((b * parts + part) * SUMS + which)[:, None] * channels + n[None, :]
    tl.store(place, sums, mask=(which <= TAPS)[:, None] & mask[None, :])


@torch.compiler.disable  # its kernels are compiled by Triton itself
def fused_gated_gelu(gate: Tensor, x: Tensor) -> Tensor:
    """`ops.gated_gelu`."""
    dtype = torch.promote_types(gate.dtype, x.dtype)
    y: Tensor = _GatedGELU.apply(gate.to(dtype), x.to(dtype))
    return y


@torch.compiler.disable
def fused_causal_convolution(x: Tensor, before: Tensor, kernel: Tensor, bias: Tensor, steps: int = STEPS) -> Tensor:
    """`ops.causal_convolution`; the steps of a program, in ROWS, may be set."""
    y: Tensor = _CausalConvolution.apply(x, before, kernel, bias, steps)
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
        _over_parts(convolution_kernel, x, (x, before, kernel, bias, y), x.shape[1], kernel.shape[0], steps)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, before, kernel = ctx.saved_tensors
        rows, taps = x.shape[1] + before.shape[1], kernel.shape[0]
        grad_x, grad_before = torch.empty_like(x), torch.empty_like(before)
        shape = (x.shape[0], triton.cdiv(rows, ctx.steps), triton.next_power_of_2(taps + 1), x.shape[2])
        sums = x.new_empty(shape, dtype=torch.promote_types(x.dtype, torch.float32))
        tensors = (x, before, kernel, grad.contiguous(), grad_x, grad_before, sums)
        _over_parts(convolution_backward_kernel, x, tensors, rows, taps, ctx.steps, SUMS=shape[2])
        grad_weights = sums.sum(dim=(0, 1)).to(kernel.dtype)
        return grad_x, grad_before, grad_weights[:taps], grad_weights[taps], None


def _over_parts(kernel: Any, x: Tensor, tensors: tuple[Tensor, ...], rows: int, taps: int, steps: int, **constants: int) -> None:
    """Runs a kernel for all lanes, `steps` of so many rows and some channels at a time; where there are no rows, nothing."""
    batch, time, channels = x.shape
    block, parts = min(triton.next_power_of_2(channels), MAX_CHANNELS), triton.cdiv(rows, steps)
    if batch * parts * channels == 0:
        return
    with torch.cuda.device_of(x):
        kernel[(batch * parts * triton.cdiv(channels, block),)](
            *tensors,
            time,
            parts,
            channels,
            TAPS=taps,
            ACC=ACCUMULATORS[torch.promote_types(x.dtype, torch.float32)],
            STEPS=steps,
            ROWS=min(ROWS, steps),
            BLOCK=block,
            **constants,
        )
