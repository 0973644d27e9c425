"""The kernels of the recurrence. A program walks through one chunk of one lane, for a block of units, step by step.

A step's a and input v are either given (FUSED false: `a` and `x` hold them) or computed from the gates and parameters of the CG-LRU (FUSED
true: `a` and `gate` hold the pre-activations of the recurrence gate and the input gate). Rows of a, x, y and their gradients are
`width` wide, with layout (UNIT, part); those of gates `units` wide; states and summaries, one row a lane and chunk, hold real parts first.
"""

import triton
import triton.language as tl

from ops.triton.arithmetic import decay_of, input_root, program_place, read, sigmoid, times, write


@triton.jit
def step_decay(
    a,
    rate,
    phase,
    row,
    n,
    mask,
    units,
    width,
    part,
    FUSED: tl.constexpr,
    UNIT: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
):
    """a of one step, and for the fused form how far the recurrence gate is open."""
    if FUSED:
        pre, unused = read(a, row, n, mask, units, part, 1, False, ACC)
        r = sigmoid(pre)
        ar, ai = decay_of(r, rate, phase, COMPLEX)
    else:
        ar, ai = read(a, row, n, mask, width, part, UNIT, COMPLEX, ACC)
        r = ar
    return ar, ai, r


@triton.jit
def step_input(
    gate,
    x,
    r,
    rate,
    first,
    row,
    n,
    mask,
    units,
    width,
    part,
    FUSED: tl.constexpr,
    UNIT: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
):
    """What one step adds to the state."""
    vr, vi = read(x, row, n, mask, width, part, UNIT, COMPLEX, ACC)
    if FUSED:
        pre, unused = read(gate, row, n, mask, units, part, 1, False, ACC)
        factor = input_root(r, rate, first, ACC) * sigmoid(pre)
        vr = factor * vr
        vi = factor * vi
    return vr, vi


@triton.jit
def parameters(
    rates,
    phases,
    fresh,
    b,
    n,
    mask,
    FUSED: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
):
    """c softplus(decay) with its sign, the phase, and whether the lane is fresh; zeros where they do not apply."""
    rate = tl.zeros_like(n).to(ACC)
    phase = rate
    begins = b < 0
    if FUSED:
        rate = tl.load(rates + n, mask=mask, other=0.0).to(ACC)
        begins = tl.load(fresh + b) != 0
        if COMPLEX:
            phase = tl.load(phases + n, mask=mask, other=0.0).to(ACC)
    return rate, phase, begins


@triton.jit
def summary_kernel(
    a,
    gate,
    x,
    rates,
    phases,
    fresh,
    products,
    lasts,
    time,
    chunk,
    chunks,
    units,
    part,
    FUSED: tl.constexpr,
    UNIT: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """What each chunk does to a state: the product of its a, and its last state from zero."""
    b, k, n, mask = program_place(chunks, units, BLOCK)
    rate, phase, begins = parameters(rates, phases, fresh, b, n, mask, FUSED, COMPLEX, ACC)
    width = 2 * units if COMPLEX else units
    pr = tl.full([BLOCK], 1.0, ACC)
    pi = tl.zeros([BLOCK], ACC)
    hr = tl.zeros([BLOCK], ACC)
    hi = tl.zeros([BLOCK], ACC)
    for t in range(k * chunk, tl.minimum(k * chunk + chunk, time)):
        row = b * time + t
        ar, ai, r = step_decay(a, rate, phase, row, n, mask, units, width, part, FUSED, UNIT, COMPLEX, ACC)
        vr, vi = step_input(gate, x, r, rate, begins & (t == 0), row, n, mask, units, width, part, FUSED, UNIT, COMPLEX, ACC)
        pr, pi = times(ar, ai, pr, pi, COMPLEX)
        hr, hi = times(ar, ai, hr, hi, COMPLEX)
        hr += vr
        hi += vi
    write(products, b * chunks + k, n, mask, width, units, pr, pi, 1, COMPLEX)
    write(lasts, b * chunks + k, n, mask, width, units, hr, hi, 1, COMPLEX)


@triton.jit
def forward_kernel(
    a,
    gate,
    x,
    rates,
    phases,
    fresh,
    starts,
    y,
    last,
    time,
    chunk,
    chunks,
    units,
    part,
    FUSED: tl.constexpr,
    UNIT: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """All states, from the state before each chunk; the last one also unrounded."""
    b, k, n, mask = program_place(chunks, units, BLOCK)
    rate, phase, begins = parameters(rates, phases, fresh, b, n, mask, FUSED, COMPLEX, ACC)
    width = 2 * units if COMPLEX else units
    hr, hi = read(starts, b * chunks + k, n, mask, width, units, 1, COMPLEX, ACC)
    for t in range(k * chunk, tl.minimum(k * chunk + chunk, time)):
        row = b * time + t
        ar, ai, r = step_decay(a, rate, phase, row, n, mask, units, width, part, FUSED, UNIT, COMPLEX, ACC)
        vr, vi = step_input(gate, x, r, rate, begins & (t == 0), row, n, mask, units, width, part, FUSED, UNIT, COMPLEX, ACC)
        hr, hi = times(ar, ai, hr, hi, COMPLEX)
        hr += vr
        hi += vi
        write(y, row, n, mask, width, part, hr, hi, UNIT, COMPLEX)
    if k == chunks - 1:
        write(last, b, n, mask, width, units, hr, hi, 1, COMPLEX)


@triton.jit
def adjoint_kernel(
    a,
    rates,
    phases,
    fresh,
    grad,
    products,
    carries,
    time,
    chunk,
    chunks,
    units,
    part,
    FUSED: tl.constexpr,
    UNIT: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The summary of the adjoint recurrence, from the end of each chunk to its start: the product of its conj(a), and what is sent to the
    state before the chunk with nothing coming back to its last one."""
    b, k, n, mask = program_place(chunks, units, BLOCK)
    rate, phase, begins = parameters(rates, phases, fresh, b, n, mask, FUSED, COMPLEX, ACC)
    width = 2 * units if COMPLEX else units
    end = tl.minimum(k * chunk + chunk, time)
    pr = tl.full([BLOCK], 1.0, ACC)
    pi = tl.zeros([BLOCK], ACC)
    cr = tl.zeros([BLOCK], ACC)
    ci = tl.zeros([BLOCK], ACC)
    for back in range(end - k * chunk):
        row = b * time + end - 1 - back
        ar, ai, r = step_decay(a, rate, phase, row, n, mask, units, width, part, FUSED, UNIT, COMPLEX, ACC)
        gr, gi = read(grad, row, n, mask, width, part, UNIT, COMPLEX, ACC)
        pr, pi = times(ar, -ai, pr, pi, COMPLEX)
        cr, ci = times(ar, -ai, gr + cr, gi + ci, COMPLEX)
    write(products, b * chunks + k, n, mask, width, units, pr, pi, 1, COMPLEX)
    write(carries, b * chunks + k, n, mask, width, units, cr, ci, 1, COMPLEX)
