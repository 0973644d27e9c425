"""The kernels of the gated GELU and of the causal convolution."""

import math

import triton
import triton.language as tl

from harmonicrnn.ops.triton.arithmetic import LOG2_E, logistic, program_place

CUBIC = tl.constexpr(0.044715)
SLOPE = tl.constexpr(2 * math.sqrt(2 / math.pi))


@triton.jit
def gelu_parts(v):
    """GELU(v) = v s(v), as s and ds/dv: s = (1 + tanh u)/2 = sigmoid(2u), 2u = 2 sqrt(2/pi) (v + 0.044715 v^3)."""
    square = v * v
    share = logistic(v * (square * (-LOG2_E * SLOPE * CUBIC) - LOG2_E * SLOPE))
    return share, (share - share * share) * (square * (3 * SLOPE * CUBIC) + SLOPE)


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
def row_of(tensor, row, n, mask, CHANNELS: tl.constexpr, ACC: tl.constexpr):
    return tl.load(tensor + row * CHANNELS + n, mask=mask, other=0.0).to(ACC)


@triton.jit
def rows_before(x, before, b, start, time, n, mask, TAPS: tl.constexpr, CHANNELS: tl.constexpr, ACC: tl.constexpr):
    """The TAPS - 1 rows before `start`, of x or of what precedes it."""
    window = ()
    for k in tl.static_range(TAPS - 1):
        t = start + k - (TAPS - 1)
        of_x = row_of(x, b * time + t, n, mask & (t >= 0), CHANNELS, ACC)
        window = window + (of_x + row_of(before, b * (TAPS - 1) + start + k, n, mask & (t < 0), CHANNELS, ACC),)
    return window


@triton.jit
def weights_of(kernel, n, mask, TAPS: tl.constexpr, CHANNELS: tl.constexpr, ACC: tl.constexpr):
    weights = ()
    for k in tl.static_range(TAPS):
        weights = weights + (row_of(kernel, k, n, mask, CHANNELS, ACC),)
    return weights


@triton.jit
def convolution_rows(
    x,
    y,
    row,
    n,
    mask,
    weights,
    constant,
    window,
    TAPS: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
):
    """ROWS rows of y; the rows of x before them become those before the next."""
    rows = window
    for k in tl.static_range(ROWS):
        rows = rows + (row_of(x, row + k, n, mask, CHANNELS, ACC),)
    for k in tl.static_range(ROWS):
        value = constant
        for j in tl.static_range(TAPS):
            value += weights[j] * rows[k + j]
        tl.store(y + (row + k) * CHANNELS + n, value.to(y.dtype.element_ty), mask=mask)
    window = ()
    for j in tl.static_range(TAPS - 1):
        window = window + (rows[ROWS + j],)
    return window


@triton.jit
def convolution_kernel(
    x,
    before,
    kernel,
    bias,
    y,
    time,
    parts,
    TAPS: tl.constexpr,
    STEPS: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A program walks through STEPS rows of some channels, the last TAPS - 1 of which it keeps."""
    b, part, n, mask = program_place(parts, CHANNELS, BLOCK)
    weights, constant = weights_of(kernel, n, mask, TAPS, CHANNELS, ACC), row_of(bias, 0, n, mask, CHANNELS, ACC)
    start = part * STEPS
    steps = tl.minimum(STEPS, time - start).to(tl.int32)
    window = rows_before(x, before, b, start, time, n, mask, TAPS, CHANNELS, ACC)
    row = b * time + start
    for block in range(steps // ROWS):
        window = convolution_rows(x, y, row + block * ROWS, n, mask, weights, constant, window, TAPS, ROWS, CHANNELS, ACC)
    for t in range(steps // ROWS * ROWS, steps):
        window = convolution_rows(x, y, row + t, n, mask, weights, constant, window, TAPS, 1, CHANNELS, ACC)


@triton.jit
def convolution_backward_rows(
    x,
    grad,
    grad_x,
    grad_before,
    b,
    t,
    start,
    end,
    time,
    n,
    mask,
    weights,
    state,
    INSIDE: tl.constexpr,
    TAPS: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
):
    """ROWS steps t of the gradient of y, which complete the gradient of x for the steps TAPS - 1 before them.

    state: the TAPS - 1 rows of x and of the gradient before t, and the sums of each tap's gradient and of the bias's. INSIDE: all of
    these steps, and those that they complete, are the program's own; otherwise there is one step, which may lie after the end.
    """
    rows, grads, sums = state
    for k in tl.static_range(ROWS):
        row = b * time + t + k
        if INSIDE:
            rows = rows + (row_of(x, row, n, mask, CHANNELS, ACC),)
            grads = grads + (row_of(grad, row, n, mask, CHANNELS, ACC),)
        else:
            rows = rows + (row_of(x, row, n, mask & (t < end), CHANNELS, ACC),)
            grads = grads + (row_of(grad, row, n, mask & (t < time), CHANNELS, ACC),)
    for k in tl.static_range(ROWS):
        value = tl.zeros_like(weights[0])
        for j in tl.static_range(TAPS):
            value += weights[j] * grads[k + TAPS - 1 - j]
        place, rounded = (b * time + t + k - (TAPS - 1)) * CHANNELS + n, value.to(grad_x.dtype.element_ty)
        if INSIDE:
            tl.store(grad_x + place, rounded, mask=mask)
        else:
            late = t - (TAPS - 1)
            tl.store(grad_x + place, rounded, mask=mask & (late >= start) & (late < end))
            tl.store(grad_before + (b * (TAPS - 1) + t) * CHANNELS + n, rounded, mask=mask & (start == 0) & (late < 0))
        own = grads[TAPS - 1 + k]
        if not INSIDE:
            own = tl.where(t < end, own, 0.0)
        added = ()
        for j in tl.static_range(TAPS):
            added = added + (sums[j] + own * rows[k + j],)
        sums = added + (sums[TAPS] + own,)
    rows_after, grads_after = (), ()
    for j in tl.static_range(TAPS - 1):
        rows_after = rows_after + (rows[ROWS + j],)
        grads_after = grads_after + (grads[ROWS + j],)
    return rows_after, grads_after, sums


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
    TAPS: tl.constexpr,
    STEPS: tl.constexpr,
    ROWS: tl.constexpr,
    CHANNELS: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """As forward. grad_weights (B, parts, TAPS + 1, D): a program's sum for each tap and the bias."""
    b, part, n, mask = program_place(parts, CHANNELS, BLOCK)
    weights = weights_of(kernel, n, mask, TAPS, CHANNELS, ACC)
    start = part * STEPS
    end = tl.minimum(start + STEPS, time)
    zero = tl.zeros([BLOCK], ACC)
    grads, sums = (), (zero,)
    for _k in tl.static_range(TAPS - 1):
        grads = grads + (zero,)
    for _k in tl.static_range(TAPS):
        sums = sums + (zero,)
    state = (rows_before(x, before, b, start, time, n, mask, TAPS, CHANNELS, ACC), grads, sums)
    # Steps that complete none of the program's own; whole blocks; the rest, and what the steps after the end complete.
    first = start + TAPS - 1
    blocks = (tl.maximum(end - first, 0) // ROWS).to(tl.int32)
    for t in range(start, first):
        state = convolution_backward_rows(
            x, grad, grad_x, grad_before, b, t, start, end, time, n, mask, weights, state, False, TAPS, 1, CHANNELS, ACC
        )
    for block in range(blocks):
        t = first + block * ROWS
        state = convolution_backward_rows(
            x, grad, grad_x, grad_before, b, t, start, end, time, n, mask, weights, state, True, TAPS, ROWS, CHANNELS, ACC
        )
    for t in range(first + blocks * ROWS, end + TAPS - 1):
        state = convolution_backward_rows(
            x, grad, grad_x, grad_before, b, t, start, end, time, n, mask, weights, state, False, TAPS, 1, CHANNELS, ACC
        )
    for k in tl.static_range(TAPS + 1):
        tl.store(grad_weights + ((b * parts + part) * (TAPS + 1) + k) * CHANNELS + n, state[2][k], mask=mask)
