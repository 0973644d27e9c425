"""Branch-free elementary functions in compiled code, which LLVM vectorises, unlike those of a library.

Accurate to a few roundings in float32 and float64, which have separate series.
"""

from math import factorial, floor, log, log2, pi, sqrt
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import overload

from harmonicrnn.machine_code import OPTIONS, intrinsic, jit_sum

INT32 = ir.IntType(32)


def number_type(kind: Any) -> ir.Type:
    """Returns LLVM's type for a numba float type."""
    if isinstance(kind, types.Integer):
        return ir.IntType(kind.bitwidth)
    return ir.DoubleType() if kind == types.float64 else ir.FloatType()


@intrinsic
def power_of_two(typing: Any, shifted: Any) -> Any:
    """Returns 2^n for the integer n in `shifted` = n + 1.5 * 2^m, with m mantissa bits: n is in the last bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = number_type(shifted)
        wide = shifted == types.float64
        bits = ir.IntType(64 if wide else 32)
        moved = builder.shl(builder.bitcast(arguments[0], bits), bits(52 if wide else 23))
        return builder.bitcast(builder.add(moved, bits(1023 << 52 if wide else 127 << 23)), number)

    return shifted(shifted), generate


@intrinsic
def last_bits(typing: Any, shifted: Any) -> Any:
    """Returns the integer n in `shifted` (see `power_of_two`), modulo 4."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = ir.IntType(64 if shifted == types.float64 else 32)
        kept = builder.and_(builder.bitcast(arguments[0], bits), bits(3))
        return kept if bits.width == 32 else builder.trunc(kept, INT32)

    return types.int32(shifted), generate


def _split(value: float, kind: Any) -> tuple[Any, Any, Any]:
    """Splits a constant into three terms; the first two have so few bits that their small integer multiples are exact."""
    bits, parts = (11 if kind is np.float32 else 33), []
    for _ in range(2):
        scale = 2.0 ** (bits - floor(log2(abs(value))))
        parts.append(kind(round(value * scale) / scale))
        value -= float(parts[-1])
    return parts[0], parts[1], kind(value)


def _shift(kind: Any) -> Any:
    """Returns the constant that rounds to an integer when added and subtracted; the integer is in the sum's last bits."""
    return kind(1.5 * 2.0 ** np.finfo(kind).nmant)


@intrinsic
def polynomial(typing: Any, x: Any, coefficients: Any) -> Any:
    """Returns sum_n coefficients[n] x^n by Horner's rule, for a tuple of numbers of the type of x."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        *others, total = cgutils.unpack_tuple(builder, arguments[1])
        for coefficient in reversed(others):
            total = builder.fadd(coefficient, builder.fmul(arguments[0], total, flags=("contract",)), flags=("contract",))
        return total

    return x(x, coefficients), generate


def _functions(kind: Any) -> tuple[Any, ...]:
    single = kind is np.float32
    exponential = tuple(kind(1 / factorial(n)) for n in range(2, 8 if single else 15))
    sines, cosines = (tuple(kind((-1) ** (n // 2) / factorial(n)) for n in range(first, 11 if single else 19, 2)) for first in (3, 2))
    shift, limit, zero, one = _shift(kind), kind(87 if single else 708), kind(0), kind(1)
    # 0.5 (1 + tanh z) is sigmoid(2 z), with z = sqrt(2 / pi) (x + 0.044715 x^3).
    inner, cubic = kind(2 * sqrt(2 / pi)), kind(2 * sqrt(2 / pi) * 0.044715)
    twos, (high, middle, low) = kind(1 / log(2)), _split(log(2), kind)
    quarters, (high_turn, middle_turn, low_turn) = kind(2 / pi), _split(pi / 2, kind)

    def own_exp_expm1(x: Any) -> Any:
        x = min(max(x, -limit), limit)
        shifted = x * twos + shift
        n = shifted - shift
        r = ((x - n * high) - n * middle) - n * low
        less_one = r + r * r * polynomial(r, exponential)
        power = power_of_two(shifted)
        return power + power * less_one, (power - one) + power * less_one

    def own_sine_cosine(x: Any) -> Any:
        shifted = x * quarters + shift
        n, quadrant = shifted - shift, last_bits(shifted)
        r = ((x - n * high_turn) - n * middle_turn) - n * low_turn
        square = r * r
        s, c = r + r * square * polynomial(square, sines), one + square * polynomial(square, cosines)
        odd = quadrant & 1 != 0
        s, c = (c if odd else s), (s if odd else c)
        return (zero - s if quadrant & 2 != 0 else s), (zero - c if (quadrant + 1) & 2 != 0 else c)

    def own_sigmoid(x: Any) -> Any:
        return one / (one + exp_expm1(-x)[0])

    def own_gelu(x: Any) -> Any:
        return x * sigmoid(x * (inner + cubic * (x * x)))

    return own_exp_expm1, own_sine_cosine, own_sigmoid, own_gelu


_BY_TYPE = {types.float32: _functions(np.float32), types.float64: _functions(np.float64)}


def exp_expm1(x: Any) -> Any:
    """Returns e^x and e^x - 1 in compiled code; x is clamped to the range of the type."""
    raise NotImplementedError


def sine_cosine(x: Any) -> Any:
    """Returns sin x and cos x in compiled code, for angles up to a few hundred turns."""
    raise NotImplementedError


def sigmoid(x: Any) -> Any:
    """Returns 1 / (1 + e^-x) in compiled code."""
    raise NotImplementedError


def gelu(x: Any) -> Any:
    """Returns the tanh approximation of GELU in compiled code."""
    raise NotImplementedError


@jit_sum
def dot(a: Any, b: Any) -> Any:
    """Returns the sum of products of two arrays (n,)."""
    total = a.dtype.type(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


def _declare(function: Any, index: int) -> None:
    @overload(function, jit_options=OPTIONS)
    def choose(x: Any) -> Any:
        return _BY_TYPE[x][index]


for _index, _function in enumerate((exp_expm1, sine_cosine, sigmoid, gelu)):
    _declare(_function, _index)


@intrinsic
def like(typing: Any, value: Any, tag: Any) -> Any:
    """Casts a number to the type of `tag` in compiled code."""
    number = types.unliteral(value)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.cast(builder, arguments[0], number, tag)

    return tag(number, tag), generate
