"""What the kernels compute with: pairs of floats for complex numbers (Triton has none), the gates' functions, and rows of tensors.

Real numbers take the same way, their imaginary part an unused copy. All is computed in ACC, float32 or float64.
"""

import triton
import triton.language as tl


@triton.jit
def times(ar, ai, hr, hi, COMPLEX: tl.constexpr):
    """a h."""
    if COMPLEX:
        real = ar * hr - ai * hi
        imaginary = ar * hi + ai * hr
    else:
        real = ar * hr
        imaginary = real
    return real, imaginary


@triton.jit
def sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
def one_minus_exp(u, ACC: tl.constexpr):
    """1 - exp(u) for u <= 0, to rounding near 0 too, where the difference would cancel: -u (1 + u/2 (1 + u/3 (...)))."""
    terms: tl.constexpr = 9 if ACC == tl.float32 else 17
    series = u * 0 + 1
    for k in tl.static_range(terms - 1):
        series = 1 + series * u * (1.0 / (terms - k))
    return tl.where(u > -0.5, -u * series, 1 - tl.exp(u))


@triton.jit
def decay_of(r, rate, phase, COMPLEX: tl.constexpr):
    """a = exp(r rate + i r phase), for the open share r of the recurrence gate."""
    modulus = tl.exp(r * rate)
    if COMPLEX:
        ar = modulus * tl.cos(r * phase)
        ai = modulus * tl.sin(r * phase)
    else:
        ar = modulus
        ai = modulus
    return ar, ai


@triton.jit
def input_root(r, rate, first, ACC: tl.constexpr):
    """sqrt(1 - |a|^2), which is 1 at the first step of a fresh lane."""
    return tl.where(first, 1.0, tl.sqrt(one_minus_exp(2 * r * rate, ACC)))


@triton.jit
def read(
    pointer,
    row,
    n,
    mask,
    width,
    part,
    UNIT: tl.constexpr,
    COMPLEX: tl.constexpr,
    ACC: tl.constexpr,
):
    """Both parts of the units n in one row: they lie `part` apart, neighbouring units UNIT apart."""
    place = pointer + row * width + n * UNIT
    real = tl.load(place, mask=mask, other=0.0).to(ACC)
    imaginary = real
    if COMPLEX:
        imaginary = tl.load(place + part, mask=mask, other=0.0).to(ACC)
    return real, imaginary


@triton.jit
def write(
    pointer,
    row,
    n,
    mask,
    width,
    part,
    real,
    imaginary,
    UNIT: tl.constexpr,
    COMPLEX: tl.constexpr,
):
    """The reverse of `read`, rounded to the tensor's own dtype."""
    place = pointer + row * width + n * UNIT
    tl.store(place, real.to(pointer.dtype.element_ty), mask=mask)
    if COMPLEX:
        tl.store(place + part, imaginary.to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def program_place(chunks, units, BLOCK: tl.constexpr):
    """This program's lane and chunk, as 64-bit integers, its units, and which of these there are."""
    program = tl.program_id(0).to(tl.int64)
    blocks = (units + BLOCK - 1) // BLOCK
    n = (program % blocks) * BLOCK + tl.arange(0, BLOCK)
    program = program // blocks
    return program // chunks, program % chunks, n, n < units
