"""The forward kernels of the recurrence: a program runs through one chunk of one lane, for a block of units.

A step's a and input v are either given (FUSED false: in `a` and `x`) or computed from the gates and parameters of the CG-LRU (FUSED true:
`a` holds the pre-activations of the recurrence gates and then of the input gates). Rows of x, y, a and their gradients hold both parts of
UNITS units, real parts first or INTERLEAVED; states and summaries, one row per lane and chunk, hold real parts first. ROWS rows are read
together to use the memory bandwidth; the remainder of a chunk is read row by row.
"""

import triton
import triton.language as tl

from harmonicrnn.ops.triton.arithmetic import LOG2_E, advance, decay_of, input_power, program_place, read, sigmoid, times, write


@triton.jit
def read_decay(
    a,
    row,
    n,
    mask,
    UNITS: tl.constexpr,
    FUSED: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
):
    """Reads the source of one step's a: a itself, or both gates."""
    return read(a, row, n, mask, UNITS, INTERLEAVED, COMPLEX or FUSED, ACC)


@triton.jit
def read_steps(
    a,
    x,
    row,
    n,
    mask,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    FUSED: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
):
    """Reads the inputs of ROWS steps from `row` on, for `step_from`."""
    steps = ()
    for k in tl.static_range(ROWS):
        decay = read_decay(a, row + k, n, mask, UNITS, FUSED, INTERLEAVED, COMPLEX, ACC)
        steps = steps + ((decay, read(x, row + k, n, mask, UNITS, INTERLEAVED, COMPLEX, ACC)),)
    return steps


@triton.jit
def decay_from(decay, rate, phase, FUSED: tl.constexpr, COMPLEX: tl.constexpr, ACC: tl.constexpr):
    """Returns a of one step."""
    ar, ai = decay
    if FUSED:
        ar, ai, w, squared = decay_of(sigmoid(ar), rate, phase, COMPLEX, ACC)
    return ar, ai


@triton.jit
def step_from(
    step,
    rate,
    phase,
    begins,
    FIRST: tl.constexpr,
    FUSED: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
):
    """Returns a and the input of one step; FIRST if it can be a lane's first step, and `begins` if it is."""
    ar, ai = step[0]
    vr, vi = step[1]
    if FUSED:
        open_input = ai
        ar, ai, w, squared = decay_of(sigmoid(ar), rate, phase, COMPLEX, ACC)
        root = tl.sqrt(input_power(w, squared, ACC))
        if FIRST:
            root = tl.where(begins, 1.0, root)
        factor = root * sigmoid(open_input)
        vr = factor * vr
        vi = factor * vi
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
    """Returns -c softplus(decay), the phase, and whether the lane is fresh; zeros if they do not apply."""
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
def summary_rows(
    a,
    x,
    row,
    n,
    mask,
    rate,
    phase,
    begins,
    summary,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    FUSED: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
):
    """Advances the product of a and the last state by ROWS steps."""
    pr, pi, hr, hi = summary
    steps = read_steps(a, x, row, n, mask, ROWS, UNITS, FUSED, INTERLEAVED, COMPLEX, ACC)
    for k in tl.static_range(ROWS):
        ar, ai, vr, vi = step_from(steps[k], rate, phase, begins, k == 0, FUSED, COMPLEX, ACC)
        pr, pi = times(ar, ai, pr, pi, COMPLEX)
        hr, hi = advance(ar, ai, hr, hi, vr, vi, COMPLEX)
    return pr, pi, hr, hi


@triton.jit
def summary_kernel(
    a,
    x,
    rates,
    phases,
    fresh,
    products,
    lasts,
    time,
    chunk,
    chunks,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    FUSED: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Computes each chunk's summary: the product of its a, and its last state from zero."""
    b, k, n, mask = program_place(chunks, UNITS, BLOCK)
    rate, phase, fresh_lane = parameters(rates, phases, fresh, b, n, mask, FUSED, COMPLEX, ACC)
    rate *= LOG2_E
    zero = tl.zeros([BLOCK], ACC)
    summary = (zero + 1, zero, zero, zero)
    row, begins = b * time + k * chunk, fresh_lane & (k == 0)
    steps = tl.minimum(chunk, time - k * chunk).to(tl.int32)
    for block in range(steps // ROWS):
        first = begins & (block == 0)
        summary = summary_rows(
            a, x, row + block * ROWS, n, mask, rate, phase, first, summary, ROWS, UNITS, FUSED, INTERLEAVED, COMPLEX, ACC
        )
    for t in range(steps // ROWS * ROWS, steps):
        first = begins & (t == 0)
        summary = summary_rows(a, x, row + t, n, mask, rate, phase, first, summary, 1, UNITS, FUSED, INTERLEAVED, COMPLEX, ACC)
    write(products, b * chunks + k, n, mask, summary[0], summary[1], UNITS, False, COMPLEX)
    write(lasts, b * chunks + k, n, mask, summary[2], summary[3], UNITS, False, COMPLEX)


@triton.jit
def forward_rows(
    a,
    x,
    y,
    row,
    n,
    mask,
    rate,
    phase,
    begins,
    state,
    EXCLUSIVE: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    FUSED: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
):
    """Advances the state by ROWS steps and writes it."""
    hr, hi = state
    steps = read_steps(a, x, row, n, mask, ROWS, UNITS, FUSED, INTERLEAVED, COMPLEX, ACC)
    for k in tl.static_range(ROWS):
        if EXCLUSIVE:
            write(y, row + k, n, mask, hr, hi, UNITS, INTERLEAVED, COMPLEX)
        ar, ai, vr, vi = step_from(steps[k], rate, phase, begins, k == 0, FUSED, COMPLEX, ACC)
        hr, hi = advance(ar, ai, hr, hi, vr, vi, COMPLEX)
        if not EXCLUSIVE:
            write(y, row + k, n, mask, hr, hi, UNITS, INTERLEAVED, COMPLEX)
    return hr, hi


@triton.jit
def forward_kernel(
    a,
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
    EXCLUSIVE: tl.constexpr,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    FUSED: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Computes the states after each step, or before it (EXCLUSIVE), from the state before each chunk; also the last, unrounded."""
    b, k, n, mask = program_place(chunks, UNITS, BLOCK, FROM_END=True)
    rate, phase, fresh_lane = parameters(rates, phases, fresh, b, n, mask, FUSED, COMPLEX, ACC)
    rate *= LOG2_E
    state = read(starts, b * chunks + k, n, mask, UNITS, False, COMPLEX, ACC)
    row, begins = b * time + k * chunk, fresh_lane & (k == 0)
    steps = tl.minimum(chunk, time - k * chunk).to(tl.int32)
    for block in range(steps // ROWS):
        at, first = row + block * ROWS, begins & (block == 0)
        state = forward_rows(a, x, y, at, n, mask, rate, phase, first, state, EXCLUSIVE, ROWS, UNITS, FUSED, INTERLEAVED, COMPLEX, ACC)
    for t in range(steps // ROWS * ROWS, steps):
        first = begins & (t == 0)
        state = forward_rows(a, x, y, row + t, n, mask, rate, phase, first, state, EXCLUSIVE, 1, UNITS, FUSED, INTERLEAVED, COMPLEX, ACC)
    if k == chunks - 1:
        write(last, b, n, mask, state[0], state[1], UNITS, False, COMPLEX)


@triton.jit
def adjoint_rows(
    a,
    grad,
    row,
    n,
    mask,
    rate,
    phase,
    summary,
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    FUSED: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
):
    """Advances the adjoint's summary by ROWS steps, from `row` backwards in time."""
    pr, pi, cr, ci = summary
    decays, grads = (), ()
    for k in tl.static_range(ROWS):
        decays = decays + (read_decay(a, row - k, n, mask, UNITS, FUSED, INTERLEAVED, COMPLEX, ACC),)
        grads = grads + (read(grad, row - k, n, mask, UNITS, INTERLEAVED, COMPLEX, ACC),)
    for k in tl.static_range(ROWS):
        ar, ai = decay_from(decays[k], rate, phase, FUSED, COMPLEX, ACC)
        gr, gi = grads[k]
        pr, pi = times(ar, -ai, pr, pi, COMPLEX)
        cr, ci = times(ar, -ai, gr + cr, gi + ci, COMPLEX)
    return pr, pi, cr, ci


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
    ROWS: tl.constexpr,
    UNITS: tl.constexpr,
    FUSED: tl.constexpr,
    INTERLEAVED: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Computes the summaries of the adjoint recurrence, from the end of each chunk to its start: the product of its conj(a), and the
    gradient of the state before the chunk with a zero gradient of its last one. They begin with the last chunk's."""
    b, k, n, mask = program_place(chunks, UNITS, BLOCK)
    rate, phase, fresh_lane = parameters(rates, phases, fresh, b, n, mask, FUSED, COMPLEX, ACC)
    rate *= LOG2_E
    zero = tl.zeros([BLOCK], ACC)
    summary = (zero + 1, zero, zero, zero)
    end = tl.minimum(k * chunk + chunk, time)
    row, steps = b * time + end - 1, (end - k * chunk).to(tl.int32)
    for block in range(steps // ROWS):
        summary = adjoint_rows(a, grad, row - block * ROWS, n, mask, rate, phase, summary, ROWS, UNITS, FUSED, INTERLEAVED, COMPLEX, ACC)
    for t in range(steps // ROWS * ROWS, steps):
        summary = adjoint_rows(a, grad, row - t, n, mask, rate, phase, summary, 1, UNITS, FUSED, INTERLEAVED, COMPLEX, ACC)
    to = b * chunks + chunks - 1 - k
    write(products, to, n, mask, summary[0], summary[1], UNITS, False, COMPLEX)
    write(carries, to, n, mask, summary[2], summary[3], UNITS, False, COMPLEX)
