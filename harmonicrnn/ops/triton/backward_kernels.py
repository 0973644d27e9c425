"""The backward kernels: a program runs from the end of its chunk to the start, beginning with the gradient of its last state.

All inputs of a step are read or recomputed; of the forward pass only y, the states, is kept. Terms as in
`harmonicrnn/ops/triton/forward_kernels.py`; ROWS rows are read at a time from the end.
"""

import triton
import triton.language as tl

from harmonicrnn.ops.triton.arithmetic import LOG2_E, decay_of, input_power, program_place, read, sigmoid, times, write
from harmonicrnn.ops.triton.forward_kernels import parameters


@triton.jit
def state_before(y, h0, b, row, begins, n, mask, FIRST: tl.constexpr, F: tl.constexpr):
    """Returns h_{t-1}: the previous row of y, or h0, laid out as y, if the step can be (FIRST) and is (`begins`) a lane's first."""
    if FIRST:
        hr, hi = read(y, row - 1, n, mask & (begins == 0), F)
        sr, si = read(h0, b, n, mask & begins, F)
        hr += sr
        hi += si
    else:
        hr, hi = read(y, row - 1, n, mask, F)
    return hr, hi


@triton.jit
def scan_backward_rows(a, y, h0, grad_y, grad_a, grad_x, b, row, begins, n, mask, carry, ROWS: tl.constexpr, F: tl.constexpr):
    """Propagates the state's gradient through ROWS steps from `row` down; `begins` if the last of them is a lane's first."""
    cr, ci = carry
    given = ()
    for k in tl.static_range(ROWS):
        of_step = (
            read(grad_y, row - k, n, mask, F),
            state_before(y, h0, b, row - k, begins, n, mask, k == ROWS - 1, F),
            read(a, row - k, n, mask, F),
        )
        given = given + (of_step,)
    for k in tl.static_range(ROWS):
        grad, before, decay = given[k]
        dr = grad[0] + cr
        di = grad[1] + ci
        write(grad_x, row - k, n, mask, dr, di, F)
        er, ei = times(before[0], -before[1], dr, di, F.COMPLEX)
        write(grad_a, row - k, n, mask, er, ei, F)
        cr, ci = times(decay[0], -decay[1], dr, di, F.COMPLEX)
    return cr, ci


@triton.jit
def scan_backward_kernel(a, y, h0, grad_y, carries, grad_a, grad_x, grad_h0, time, chunk, chunks, ROWS: tl.constexpr, F: tl.constexpr):
    """Computes the gradients of a, x and h0 for given a and x. `carries` begin with the last chunk's."""
    states: tl.constexpr = F.states
    b, k, n, mask = program_place(chunks, F, FROM_END=True)
    carry = read(carries, b * chunks + chunks - 1 - k, n, mask, states)
    end = tl.minimum(k * chunk + chunk, time)
    row, steps = b * time + end - 1, (end - k * chunk).to(tl.int32)
    for block in range(steps // ROWS):
        begins = end == (block + 1) * ROWS
        carry = scan_backward_rows(a, y, h0, grad_y, grad_a, grad_x, b, row - block * ROWS, begins, n, mask, carry, ROWS, F)
    for t in range(steps // ROWS * ROWS, steps):
        begins = end == t + 1
        carry = scan_backward_rows(a, y, h0, grad_y, grad_a, grad_x, b, row - t, begins, n, mask, carry, 1, F)
    if k == 0:
        write(grad_h0, b, n, mask, carry[0], carry[1], states)


@triton.jit
def gated_backward_rows(
    tensors, b, row, begins, fresh_lane, n, mask, rate, phase, carry, MAX_SQRT_DERIVATIVE: tl.constexpr, ROWS: tl.constexpr, F: tl.constexpr
):
    """Propagates the state's gradient and the sums of both parameters' gradients through ROWS steps from `row` down; `begins` if the last
    of them is a lane's first."""
    pairs: tl.constexpr = F.gates
    gates, x, y, h0, grad_y, grad_gates, grad_x = tensors
    cr, ci, rate_sum, phase_sum = carry
    given = ()
    for k in tl.static_range(ROWS):
        of_step = (
            read(grad_y, row - k, n, mask, F),
            state_before(y, h0, b, row - k, begins, n, mask, k == ROWS - 1, F),
            read(x, row - k, n, mask, F),
            read(gates, row - k, n, mask, pairs),
        )
        given = given + (of_step,)
    for k in tl.static_range(ROWS):
        grad, before, z, gate = given[k]
        r = sigmoid(gate[0])
        i = sigmoid(gate[1])
        ar, ai, w, squared = decay_of(r, rate * LOG2_E, phase, F.COMPLEX, F.ACC)
        power = input_power(w, squared, F.ACC)
        root = tl.sqrt(power)
        # d root / d log|a|
        slope = -squared * tl.minimum(tl.rsqrt(power), 2 * MAX_SQRT_DERIVATIVE)
        if k == ROWS - 1:
            slope = tl.where(begins & fresh_lane, 0.0, slope)
            root = tl.where(begins & fresh_lane, 1.0, root)

        dr = grad[0] + cr
        di = grad[1] + ci
        factor = root * i
        write(grad_x, row - k, n, mask, factor * dr, factor * di, F)
        # Through the input: d(root i z).
        grad_input = z[0] * dr
        if F.COMPLEX:
            grad_input += z[1] * di
        grad_input *= i
        # Through a: d conj(h_{t-1}), with d/dlog|a| its part parallel to a, and d/darg a its part perpendicular to a.
        cr, ci = times(ar, -ai, dr, di, F.COMPLEX)
        grad_log_modulus = grad_input * slope + before[0] * cr
        if F.COMPLEX:
            grad_log_modulus += before[1] * ci
            grad_angle = before[0] * ci - before[1] * cr
            grad_r = grad_log_modulus * rate + grad_angle * phase
            phase_sum += grad_angle * r
        else:
            grad_r = grad_log_modulus * rate
        rate_sum += grad_log_modulus * r
        write(grad_gates, row - k, n, mask, grad_r * (r - r * r), grad_input * (root - factor), pairs)
    return cr, ci, rate_sum, phase_sum


@triton.jit
def gated_backward_kernel(
    gates,
    x,
    rates,
    phases,
    fresh,
    y,
    h0,
    grad_y,
    carries,
    grad_gates,
    grad_x,
    grad_rates,
    grad_phases,
    grad_h0,
    time,
    chunk,
    chunks,
    MAX_SQRT_DERIVATIVE: tl.constexpr,
    ROWS: tl.constexpr,
    F: tl.constexpr,
):
    """Computes the gradients of all inputs of the CG-LRU; of parameters one sum per chunk. `carries` begin with the last chunk's."""
    states: tl.constexpr = F.states
    reals: tl.constexpr = F.parameters
    b, k, n, mask = program_place(chunks, F, FROM_END=True)
    rate, phase, fresh_lane = parameters(rates, phases, fresh, b, n, mask, F)
    cr, ci = read(carries, b * chunks + chunks - 1 - k, n, mask, states)
    carry = (cr, ci, tl.zeros_like(rate), tl.zeros_like(rate))
    end = tl.minimum(k * chunk + chunk, time)
    row, steps = b * time + end - 1, (end - k * chunk).to(tl.int32)
    tensors = (gates, x, y, h0, grad_y, grad_gates, grad_x)
    for block in range(steps // ROWS):
        at, begins = row - block * ROWS, end == (block + 1) * ROWS
        carry = gated_backward_rows(tensors, b, at, begins, fresh_lane, n, mask, rate, phase, carry, MAX_SQRT_DERIVATIVE, ROWS, F)
    for t in range(steps // ROWS * ROWS, steps):
        at, begins = row - t, end == t + 1
        carry = gated_backward_rows(tensors, b, at, begins, fresh_lane, n, mask, rate, phase, carry, MAX_SQRT_DERIVATIVE, 1, F)
    write(grad_rates, b * chunks + k, n, mask, carry[2], carry[2], reals)
    if F.COMPLEX:
        write(grad_phases, b * chunks + k, n, mask, carry[3], carry[3], reals)
    if k == 0:
        write(grad_h0, b, n, mask, carry[0], carry[1], states)
