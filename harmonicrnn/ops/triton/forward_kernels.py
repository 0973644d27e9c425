"""The forward kernels of the recurrence: a program runs through one chunk of one lane, for a block of units.

A step's a and input v are either given (F.FUSED false: in `a` and `x`) or computed from the gates and parameters of the CG-LRU (F.FUSED
true: `a` holds the pre-activations of the recurrence gates and then of the input gates). Rows of x, y, a and their gradients hold both
parts of the units, as the `Form` F says; states and summaries, one row per lane and chunk, hold real parts first. ROWS rows are read
together to use the memory bandwidth; the remainder of a chunk is read row by row.
"""

import triton
import triton.language as tl

from harmonicrnn.ops.triton.arithmetic import LOG2_E, advance, decay_of, input_power, program_place, read, sigmoid, times, write


@triton.jit
def read_steps(a, x, row, n, mask, ROWS: tl.constexpr, F: tl.constexpr):
    """Reads the inputs of ROWS steps from `row` on, for `step_from`: the source of a, which is a itself or both gates, and x."""
    source: tl.constexpr = F.decays
    steps = ()
    for k in tl.static_range(ROWS):
        steps = steps + ((read(a, row + k, n, mask, source), read(x, row + k, n, mask, F)),)
    return steps


@triton.jit
def step_from(step, rate, phase, begins, FIRST: tl.constexpr, F: tl.constexpr):
    """Returns a and the input of one step; FIRST if it can be a lane's first step, and `begins` if it is."""
    ar, ai = step[0]
    vr, vi = step[1]
    if F.FUSED:
        open_input = ai
        ar, ai, w, squared = decay_of(sigmoid(ar), rate, phase, F.COMPLEX, F.ACC)
        root = tl.sqrt(input_power(w, squared, F.ACC))
        if FIRST:
            root = tl.where(begins, 1.0, root)
        factor = root * sigmoid(open_input)
        vr = factor * vr
        vi = factor * vi
    return ar, ai, vr, vi


@triton.jit
def parameters(rates, phases, fresh, b, n, mask, F: tl.constexpr):
    """Returns -c softplus(decay), the phase, and whether the lane is fresh; zeros if they do not apply."""
    rate = tl.zeros_like(n).to(F.ACC)
    phase = rate
    begins = b < 0
    if F.FUSED:
        rate = tl.load(rates + n, mask=mask, other=0.0).to(F.ACC)
        begins = tl.load(fresh + b) != 0
        if F.COMPLEX:
            phase = tl.load(phases + n, mask=mask, other=0.0).to(F.ACC)
    return rate, phase, begins


@triton.jit
def summary_rows(a, x, row, n, mask, rate, phase, begins, summary, ROWS: tl.constexpr, F: tl.constexpr):
    """Advances the product of a and the last state by ROWS steps."""
    pr, pi, hr, hi = summary
    steps = read_steps(a, x, row, n, mask, ROWS, F)
    for k in tl.static_range(ROWS):
        ar, ai, vr, vi = step_from(steps[k], rate, phase, begins, k == 0, F)
        pr, pi = times(ar, ai, pr, pi, F.COMPLEX)
        hr, hi = advance(ar, ai, hr, hi, vr, vi, F.COMPLEX)
    return pr, pi, hr, hi


@triton.jit
def summary_kernel(a, x, rates, phases, fresh, products, lasts, time, chunk, chunks, ROWS: tl.constexpr, F: tl.constexpr):
    """Computes each chunk's summary: the product of its a, and its last state from zero."""
    states: tl.constexpr = F.states
    b, k, n, mask = program_place(chunks, F)
    rate, phase, fresh_lane = parameters(rates, phases, fresh, b, n, mask, F)
    rate *= LOG2_E
    zero = tl.zeros_like(rate)
    summary = (zero + 1, zero, zero, zero)
    row, begins = b * time + k * chunk, fresh_lane & (k == 0)
    steps = tl.minimum(chunk, time - k * chunk).to(tl.int32)
    for block in range(steps // ROWS):
        first = begins & (block == 0)
        summary = summary_rows(a, x, row + block * ROWS, n, mask, rate, phase, first, summary, ROWS, F)
    for t in range(steps // ROWS * ROWS, steps):
        first = begins & (t == 0)
        summary = summary_rows(a, x, row + t, n, mask, rate, phase, first, summary, 1, F)
    write(products, b * chunks + k, n, mask, summary[0], summary[1], states)
    write(lasts, b * chunks + k, n, mask, summary[2], summary[3], states)


@triton.jit
def forward_rows(a, x, y, row, n, mask, rate, phase, begins, state, EXCLUSIVE: tl.constexpr, ROWS: tl.constexpr, F: tl.constexpr):
    """Advances the state by ROWS steps and writes it."""
    hr, hi = state
    steps = read_steps(a, x, row, n, mask, ROWS, F)
    for k in tl.static_range(ROWS):
        if EXCLUSIVE:
            write(y, row + k, n, mask, hr, hi, F)
        ar, ai, vr, vi = step_from(steps[k], rate, phase, begins, k == 0, F)
        hr, hi = advance(ar, ai, hr, hi, vr, vi, F.COMPLEX)
        if not EXCLUSIVE:
            write(y, row + k, n, mask, hr, hi, F)
    return hr, hi


@triton.jit
def forward_kernel(
    a, x, rates, phases, fresh, starts, y, last, time, chunk, chunks, EXCLUSIVE: tl.constexpr, ROWS: tl.constexpr, F: tl.constexpr
):
    """Computes the states after each step, or before it (EXCLUSIVE), from the state before each chunk; also the last, unrounded."""
    states: tl.constexpr = F.states
    b, k, n, mask = program_place(chunks, F, FROM_END=True)
    rate, phase, fresh_lane = parameters(rates, phases, fresh, b, n, mask, F)
    rate *= LOG2_E
    state = read(starts, b * chunks + k, n, mask, states)
    row, begins = b * time + k * chunk, fresh_lane & (k == 0)
    steps = tl.minimum(chunk, time - k * chunk).to(tl.int32)
    for block in range(steps // ROWS):
        at, first = row + block * ROWS, begins & (block == 0)
        state = forward_rows(a, x, y, at, n, mask, rate, phase, first, state, EXCLUSIVE, ROWS, F)
    for t in range(steps // ROWS * ROWS, steps):
        first = begins & (t == 0)
        state = forward_rows(a, x, y, row + t, n, mask, rate, phase, first, state, EXCLUSIVE, 1, F)
    if k == chunks - 1:
        write(last, b, n, mask, state[0], state[1], states)


@triton.jit
def adjoint_rows(a, grad, row, n, mask, rate, phase, summary, ROWS: tl.constexpr, F: tl.constexpr):
    """Advances the adjoint's summary by ROWS steps, from `row` backwards in time."""
    source: tl.constexpr = F.decays
    pr, pi, cr, ci = summary
    decays, grads = (), ()
    for k in tl.static_range(ROWS):
        decays = decays + (read(a, row - k, n, mask, source),)
        grads = grads + (read(grad, row - k, n, mask, F),)
    for k in tl.static_range(ROWS):
        ar, ai = decays[k]
        if F.FUSED:
            ar, ai, w, squared = decay_of(sigmoid(ar), rate, phase, F.COMPLEX, F.ACC)
        gr, gi = grads[k]
        pr, pi = times(ar, -ai, pr, pi, F.COMPLEX)
        cr, ci = times(ar, -ai, gr + cr, gi + ci, F.COMPLEX)
    return pr, pi, cr, ci


@triton.jit
def adjoint_kernel(a, rates, phases, fresh, grad, products, carries, time, chunk, chunks, ROWS: tl.constexpr, F: tl.constexpr):
    """Computes the summaries of the adjoint recurrence, from the end of each chunk to its start: the product of its conj(a), and the
    gradient of the state before the chunk with a zero gradient of its last one. They begin with the last chunk's."""
    states: tl.constexpr = F.states
    b, k, n, mask = program_place(chunks, F)
    rate, phase, fresh_lane = parameters(rates, phases, fresh, b, n, mask, F)
    rate *= LOG2_E
    zero = tl.zeros_like(rate)
    summary = (zero + 1, zero, zero, zero)
    end = tl.minimum(k * chunk + chunk, time)
    row, steps = b * time + end - 1, (end - k * chunk).to(tl.int32)
    for block in range(steps // ROWS):
        summary = adjoint_rows(a, grad, row - block * ROWS, n, mask, rate, phase, summary, ROWS, F)
    for t in range(steps // ROWS * ROWS, steps):
        summary = adjoint_rows(a, grad, row - t, n, mask, rate, phase, summary, 1, F)
    to = b * chunks + chunks - 1 - k
    write(products, to, n, mask, summary[0], summary[1], states)
    write(carries, to, n, mask, summary[2], summary[3], states)
