"""The backward kernels: a program walks from the end of its chunk to the start, from the gradient that comes back to its last state.

Everything the step needs is read or computed again; of the forward pass only y, the states themselves, is kept.
"""

import triton
import triton.language as tl

from ops.triton.arithmetic import decay_of, input_root, program_place, read, sigmoid, times, write
from ops.triton.kernels import parameters


@triton.jit
def state_before(
    y,
    h0,
    b,
    t,
    time,
    n,
    mask,
    width,
    part,
    units,
    UNIT: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
):
    """h_{t-1}: the row before in y, or h0."""
    hr, hi = read(y, b * time + t - 1, n, mask & (t > 0), width, part, UNIT, COMPLEX, ACC)
    sr, si = read(h0, b, n, mask & (t == 0), width, units, 1, COMPLEX, ACC)
    return hr + sr, hi + si


@triton.jit
def scan_backward_kernel(
    a,
    y,
    h0,
    grad_y,
    carries,
    grad_a,
    grad_x,
    grad_h0,
    time,
    chunk,
    chunks,
    units,
    part,
    UNIT: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of a, x and h0 where a and x are given."""
    b, k, n, mask = program_place(chunks, units, BLOCK)
    width = 2 * units if COMPLEX else units
    cr, ci = read(carries, b * chunks + k, n, mask, width, units, 1, COMPLEX, ACC)
    end = tl.minimum(k * chunk + chunk, time)
    for back in range(end - k * chunk):
        t = end - 1 - back
        row = b * time + t
        gr, gi = read(grad_y, row, n, mask, width, part, UNIT, COMPLEX, ACC)
        dr = gr + cr
        di = gi + ci
        write(grad_x, row, n, mask, width, part, dr, di, UNIT, COMPLEX)
        hr, hi = state_before(y, h0, b, t, time, n, mask, width, part, units, UNIT, COMPLEX, ACC)
        er, ei = times(hr, -hi, dr, di, COMPLEX)
        write(grad_a, row, n, mask, width, part, er, ei, UNIT, COMPLEX)
        ar, ai = read(a, row, n, mask, width, part, UNIT, COMPLEX, ACC)
        cr, ci = times(ar, -ai, dr, di, COMPLEX)
    if k == 0:
        write(grad_h0, b, n, mask, width, units, cr, ci, 1, COMPLEX)


@triton.jit
def gated_backward_kernel(
    recurrence_gate,
    input_gate,
    x,
    rates,
    phases,
    fresh,
    y,
    h0,
    grad_y,
    carries,
    grad_recurrence_gate,
    grad_input_gate,
    grad_x,
    grad_rates,
    grad_phases,
    grad_h0,
    time,
    chunk,
    chunks,
    units,
    MAX_SQRT_DERIVATIVE: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Gradients of everything the CG-LRU is given; those of the parameters as one sum a chunk."""
    b, k, n, mask = program_place(chunks, units, BLOCK)
    rate, phase, begins = parameters(rates, phases, fresh, b, n, mask, True, COMPLEX, ACC)
    width = 2 * units if COMPLEX else units
    cr, ci = read(carries, b * chunks + k, n, mask, width, units, 1, COMPLEX, ACC)
    rate_sum = tl.zeros([BLOCK], ACC)
    phase_sum = tl.zeros([BLOCK], ACC)
    end = tl.minimum(k * chunk + chunk, time)
    for back in range(end - k * chunk):
        t = end - 1 - back
        row = b * time + t
        gr, gi = read(grad_y, row, n, mask, width, units, 1, COMPLEX, ACC)
        zr, zi = read(x, row, n, mask, width, units, 1, COMPLEX, ACC)
        hr, hi = state_before(y, h0, b, t, time, n, mask, width, units, units, 1, COMPLEX, ACC)
        pre_r, unused = read(recurrence_gate, row, n, mask, units, units, 1, False, ACC)
        pre_i, unused = read(input_gate, row, n, mask, units, units, 1, False, ACC)
        r = sigmoid(pre_r)
        i = sigmoid(pre_i)
        ar, ai = decay_of(r, rate, phase, COMPLEX)
        first = begins & (t == 0)
        root = input_root(r, rate, first, ACC)

        dr = gr + cr
        di = gi + ci
        write(grad_x, row, n, mask, width, units, root * i * dr, root * i * di, 1, COMPLEX)
        # Through the input: d(root i z).
        grad_factor = zr * dr
        if COMPLEX:
            grad_factor += zi * di
        slope = tl.minimum(0.5 / root, MAX_SQRT_DERIVATIVE)
        modulus_squared = tl.exp(2 * r * rate)
        grad_log_modulus = tl.where(first, 0.0, grad_factor * i * slope * -2 * modulus_squared)
        # Through a: d conj(h_{t-1}), of which d/dlog|a| is the part along a, and d/darg a the part across.
        cr, ci = times(ar, -ai, dr, di, COMPLEX)
        grad_log_modulus += hr * cr
        grad_r = grad_log_modulus * rate
        if COMPLEX:
            grad_log_modulus += hi * ci
            grad_angle = hr * ci - hi * cr
            grad_r = grad_log_modulus * rate + grad_angle * phase
            phase_sum += grad_angle * r
        rate_sum += grad_log_modulus * r
        write(grad_recurrence_gate, row, n, mask, units, units, grad_r * r * (1 - r), grad_r, 1, False)
        write(grad_input_gate, row, n, mask, units, units, grad_factor * root * i * (1 - i), grad_r, 1, False)
    tl.store(grad_rates + (b * chunks + k) * units + n, rate_sum, mask=mask)
    if COMPLEX:
        tl.store(grad_phases + (b * chunks + k) * units + n, phase_sum, mask=mask)
    if k == 0:
        write(grad_h0, b, n, mask, width, units, cr, ci, 1, COMPLEX)
