"""The kernels of the recurrence. A program walks through one chunk of one lane, for a block of units, step by step.

A step's a and input v are either given (FUSED false: `a` and `x` hold them) or computed from the gates and parameters of the CG-LRU (FUSED
true: `a` and `gate` hold the pre-activations of the recurrence gate and the input gate). Rows of a, x, y and their gradients are
`width` wide, with layout (UNIT, part); those of gates `units` wide; states and summaries, one row a lane and chunk, hold real parts first.
"""

import triton
import triton.language as tl

from ops.triton.arithmetic import decay_of, input_root, program_place, read, sigmoid, times, write


@triton.jit
def read_decay(
    a,
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
    """What a of one step comes from, for `decay_from`."""
    if FUSED:
        first, second = read(a, row, n, mask, units, part, 1, False, ACC)
    else:
        first, second = read(a, row, n, mask, width, part, UNIT, COMPLEX, ACC)
    return first, second


@triton.jit
def decay_from(first, second, rate, phase, FUSED: tl.constexpr, COMPLEX: tl.constexpr):
    """a of one step, and for the fused form how far the recurrence gate is open."""
    r = first
    if FUSED:
        r = sigmoid(first)
        ar, ai = decay_of(r, rate, phase, COMPLEX)
    else:
        ar = first
        ai = second
    return ar, ai, r


@triton.jit
def read_step(
    a,
    gate,
    x,
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
    """All that one step is given, for `step_from`."""
    first, second = read_decay(a, row, n, mask, units, width, part, FUSED, UNIT, COMPLEX, ACC)
    zr, zi = read(x, row, n, mask, width, part, UNIT, COMPLEX, ACC)
    open_input = zr
    if FUSED:
        open_input, unused = read(gate, row, n, mask, units, part, 1, False, ACC)
    return first, second, open_input, zr, zi


@triton.jit
def step_from(
    first,
    second,
    open_input,
    zr,
    zi,
    rate,
    phase,
    begins,
    FUSED: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
):
    """a of one step, and what it adds to the state."""
    ar, ai, r = decay_from(first, second, rate, phase, FUSED, COMPLEX)
    vr = zr
    vi = zi
    if FUSED:
        factor = input_root(r, rate, begins, ACC) * sigmoid(open_input)
        vr = factor * zr
        vi = factor * zi
    return ar, ai, vr, vi


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
    end = tl.minimum(k * chunk + chunk, time)
    first, second, open_input, zr, zi = read_step(a, gate, x, b * time + k * chunk, n, mask, units, width, part, FUSED, UNIT, COMPLEX, ACC)
    for t in range(k * chunk, end):
        # What the next step is given is on its way while this one computes; the last step reads its own again.
        following = b * time + tl.minimum(t + 1, end - 1)
        next_first, next_second, next_open, next_zr, next_zi = read_step(
            a, gate, x, following, n, mask, units, width, part, FUSED, UNIT, COMPLEX, ACC
        )
        ar, ai, vr, vi = step_from(first, second, open_input, zr, zi, rate, phase, begins & (t == 0), FUSED, COMPLEX, ACC)
        pr, pi = times(ar, ai, pr, pi, COMPLEX)
        hr, hi = times(ar, ai, hr, hi, COMPLEX)
        hr += vr
        hi += vi
        first, second, open_input, zr, zi = next_first, next_second, next_open, next_zr, next_zi
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
    end = tl.minimum(k * chunk + chunk, time)
    first, second, open_input, zr, zi = read_step(a, gate, x, b * time + k * chunk, n, mask, units, width, part, FUSED, UNIT, COMPLEX, ACC)
    for t in range(k * chunk, end):
        # What the next step is given is on its way while this one computes; the last step reads its own again.
        following = b * time + tl.minimum(t + 1, end - 1)
        next_first, next_second, next_open, next_zr, next_zi = read_step(
            a, gate, x, following, n, mask, units, width, part, FUSED, UNIT, COMPLEX, ACC
        )
        ar, ai, vr, vi = step_from(first, second, open_input, zr, zi, rate, phase, begins & (t == 0), FUSED, COMPLEX, ACC)
        hr, hi = times(ar, ai, hr, hi, COMPLEX)
        hr += vr
        hi += vi
        write(y, b * time + t, n, mask, width, part, hr, hi, UNIT, COMPLEX)
        first, second, open_input, zr, zi = next_first, next_second, next_open, next_zr, next_zi
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
    first, second = read_decay(a, b * time + end - 1, n, mask, units, width, part, FUSED, UNIT, COMPLEX, ACC)
    gr, gi = read(grad, b * time + end - 1, n, mask, width, part, UNIT, COMPLEX, ACC)
    for back in range(end - k * chunk):
        following = b * time + tl.maximum(end - 2 - back, k * chunk)
        next_first, next_second = read_decay(a, following, n, mask, units, width, part, FUSED, UNIT, COMPLEX, ACC)
        next_gr, next_gi = read(grad, following, n, mask, width, part, UNIT, COMPLEX, ACC)
        ar, ai, r = decay_from(first, second, rate, phase, FUSED, COMPLEX)
        pr, pi = times(ar, -ai, pr, pi, COMPLEX)
        cr, ci = times(ar, -ai, gr + cr, gi + ci, COMPLEX)
        first, second, gr, gi = next_first, next_second, next_gr, next_gi
    write(products, b * chunks + k, n, mask, width, units, pr, pi, 1, COMPLEX)
    write(carries, b * chunks + k, n, mask, width, units, cr, ci, 1, COMPLEX)
