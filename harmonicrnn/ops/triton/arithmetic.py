"""Layout and arithmetic of the kernels: complex numbers as pairs of floats (Triton has none), gate functions, and access to rows.

Real numbers take the same path, with an unused copy as imaginary part. All is computed in ACC, float32 or float64. At a few dozen
instructions per step the kernels are near both the compute and the memory limit (a test counts the instructions): functions use one
instruction of the special function unit, accurate to about the last bit of float32, and no division, which takes ten.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1 / math.log(2))
PI, INVERSE_PI = tl.constexpr(math.pi), tl.constexpr(1 / math.pi)
WHOLE = tl.constexpr(1.5 * 2.0**23)  # a float32 this large has no fraction
SMALL = tl.constexpr(0.18)


@dataclass(frozen=True)
class Form:
    """Compile-time settings of a kernel, one argument of it and of the functions that it calls.

    Args:
        UNITS: N, of the recurrence.
        COMPLEX: whether they are complex.
        FUSED: whether a and the input are computed from gates instead of given.
        INTERLEAVED: whether complex units are (N, 2) in a row of x, y, a and their gradients; otherwise real parts come first.
        ACC: Triton's dtype of computation, float32 or float64.
        BLOCK: units of a program.
    """

    UNITS: int
    COMPLEX: bool
    FUSED: bool
    INTERLEAVED: bool
    ACC: Any
    BLOCK: int

    @property
    def states(self) -> "Form":
        """The form of states and summaries."""
        return replace(self, INTERLEAVED=False)

    @property
    def gates(self) -> "Form":
        """The form of a pair of numbers for each unit."""
        return replace(self, COMPLEX=True, INTERLEAVED=False)

    @property
    def parameters(self) -> "Form":
        """The form with one real number per unit."""
        return replace(self, COMPLEX=False, INTERLEAVED=False)

    @property
    def decays(self) -> "Form":
        """The form of the tensors that determine a: a itself, or its gates."""
        return self.gates if self.FUSED else self


@triton.jit
def times(ar, ai, hr, hi, COMPLEX: tl.constexpr):
    """Returns a h."""
    if COMPLEX:
        real = ar * hr - ai * hi
        imaginary = ar * hi + ai * hr
    else:
        real = ar * hr
        imaginary = real
    return real, imaginary


@triton.jit
def advance(ar, ai, hr, hi, vr, vi, COMPLEX: tl.constexpr):
    """Returns a h + v, in fused multiply-adds only."""
    if COMPLEX:
        real = ar * hr + (vr - ai * hi)
        imaginary = ar * hi + (vi + ai * hr)
    else:
        real = ar * hr + vr
        imaginary = real
    return real, imaginary


@triton.jit
def logistic(power):
    """Returns 1 / (1 + 2^power); the squared inverse square root is a reciprocal in two instructions."""
    root = tl.rsqrt(1.0 + tl.exp2(power))
    return root * root


@triton.jit
def sigmoid(x):
    """Returns 1 / (1 + exp(-x))."""
    return logistic(x * -LOG2_E)


@triton.jit
def decay_of(r, rate, phase, COMPLEX: tl.constexpr, ACC: tl.constexpr):
    """Returns a = 2^w exp(i r phase), w = r rate and |a|^2, for the recurrence gate r in (0, 1). Phases are below 1e7."""
    w = r * rate
    ar = tl.exp2(w)
    ai = ar
    squared = ar * ar
    if COMPLEX:
        angle = r * phase
        if tl.float32 == ACC:
            # The angle modulo half turns; their number is in the last bits of `turned`, and a is negated if it is odd.
            turned = tl.fma(angle, INVERSE_PI, WHOLE)
            half_turns = turned - WHOLE
            u = tl.fma(half_turns, -PI, angle)
            signed = (ar.to(tl.int32, bitcast=True) ^ (turned.to(tl.int32, bitcast=True) << 31)).to(tl.float32, bitcast=True)
            # Minimax polynomials for |u| <= pi/2; errors in float32: 6e-9 and 4e-8.
            v = u * u
            cosine = ((((-2.607681608e-7 * v + 2.476187001e-5) * v - 0.001388840373) * v + 0.04166664183) * v - 0.5) * v + 1.0
            sine = ((2.608903969e-6 * v - 0.0001981110108) * v + 0.008333087899) * v - 0.1666665971
            ar = signed * cosine
            ai = signed * (u + u * v * sine)
        else:
            ai = ar * tl.sin(angle)
            ar = ar * tl.cos(angle)
    return ar, ai, w, squared


@triton.jit
def input_power(w, squared, ACC: tl.constexpr):
    """Returns 1 - |a|^2 from w and |a|^2 of `decay_of`; near |a| = 1, where it cancels, -expm1(2 w ln 2) as a polynomial."""
    if tl.float32 == ACC:
        # Minimax polynomial for -SMALL < w <= 0; relative error in float32: 8e-9.
        series = (((-0.03845198452 * w - 0.1532333046) * w - 0.4439905882) * w - 0.9609050751) * w - 1.386294365
        near = w * series
    else:
        # Taylor series.
        u = w * (2 / LOG2_E)
        series = u * 0 + 1
        for k in tl.static_range(12):
            series = 1 + series * u * (1.0 / (13 - k))
        near = -u * series
    return tl.where(w > -SMALL, near, 1 - squared)


@triton.jit
def read(pointer, row, n, mask, F: tl.constexpr):
    """Reads both parts of the units n in one row of a tensor of the form F."""
    if F.COMPLEX and F.INTERLEAVED:
        pairs = pointer + row * (2 * F.UNITS) + n[:, None] * 2 + tl.arange(0, 2)[None, :]
        real, imaginary = tl.split(tl.load(pairs, mask=mask[:, None], other=0.0).to(F.ACC))
    elif F.COMPLEX:
        place = pointer + row * (2 * F.UNITS) + n
        real = tl.load(place, mask=mask, other=0.0).to(F.ACC)
        imaginary = tl.load(place + F.UNITS, mask=mask, other=0.0).to(F.ACC)
    else:
        real = tl.load(pointer + row * F.UNITS + n, mask=mask, other=0.0).to(F.ACC)
        imaginary = real
    return real, imaginary


@triton.jit
def write(pointer, row, n, mask, real, imaginary, F: tl.constexpr):
    """Inverse of `read`, rounded to the tensor's dtype."""
    dtype: tl.constexpr = pointer.dtype.element_ty
    if F.COMPLEX and F.INTERLEAVED:
        pairs = pointer + row * (2 * F.UNITS) + n[:, None] * 2 + tl.arange(0, 2)[None, :]
        tl.store(pairs, tl.join(real, imaginary).to(dtype), mask=mask[:, None])
    elif F.COMPLEX:
        place = pointer + row * (2 * F.UNITS) + n
        tl.store(place, real.to(dtype), mask=mask)
        tl.store(place + F.UNITS, imaginary.to(dtype), mask=mask)
    else:
        tl.store(pointer + row * F.UNITS + n, real.to(dtype), mask=mask)


@triton.jit
def program_place(chunks, F: tl.constexpr, FROM_END: tl.constexpr = False):
    """Returns this program's lane and chunk, as 64-bit integers, its units, and the mask of existing units.

    FROM_END: the first program takes the last chunk, which a preceding kernel left in the cache.
    """
    program = tl.program_id(0).to(tl.int64)
    if FROM_END:
        program = tl.num_programs(0) - 1 - program
    block: tl.constexpr = F.BLOCK
    blocks: tl.constexpr = (F.UNITS + block - 1) // block
    n = (program % blocks).to(tl.int32) * block + tl.arange(0, block)
    if F.UNITS % block == 0:
        mask = tl.full([block], True, tl.int1)
    else:
        mask = n < F.UNITS
    program = program // blocks
    return program // chunks, program % chunks, n, mask
