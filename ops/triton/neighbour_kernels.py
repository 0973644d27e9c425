"""The kernels of the gated GELU and of the causal convolution."""

import triton
import triton.language as tl

from ops.triton.arithmetic import program_place, sigmoid


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
