"""The kernels of RMSNorm at the head of a residual branch: a program takes some steps with all their channels."""

import triton
import triton.language as tl

from harmonicrnn.ops.triton.mlp_kernels import matrix


@triton.jit
def inverse_rms(values, width, EPSILON: tl.constexpr):
    """1 / sqrt(mean_d values_d^2 + EPSILON) of each step."""
    return tl.rsqrt(tl.sum(values * values, axis=1) / width + EPSILON)


@triton.jit
def residual_norm_kernel(
    x,
    delta,
    weight,
    total,
    y,
    count,
    width,
    EPSILON: tl.constexpr,
    ADDS: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    r, d = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    there = (r < count)[:, None] & (d < width)[None, :]
    place = r[:, None] * width + d[None, :]
    values = matrix(x, r, d, count, width, width).to(ACC)
    if ADDS:
        # Rounded as it is written, so that the backward pass norms the very same.
        rounded = (values + matrix(delta, r, d, count, width, width).to(ACC)).to(total.dtype.element_ty)
        tl.store(total + place, rounded, mask=there)
        values = rounded.to(ACC)
    scale = tl.load(weight + d, mask=d < width, other=0.0).to(ACC)
    normed = values * inverse_rms(values, width, EPSILON)[:, None] * scale[None, :]
    tl.store(y + place, normed.to(y.dtype.element_ty), mask=there)


@triton.jit
def residual_norm_backward_kernel(
    total,
    weight,
    grad_total,
    grad_y,
    grad_x,
    grad_weights,
    count,
    width,
    EPSILON: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    TURNS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """From y = w n, n = v/rms(v): dv = (w dy - n mean(w dy n))/rms(v), to which the gradient of the residual path is added; dw = sum dy n,
    one row a program."""
    program, d = tl.program_id(0).to(tl.int64), tl.arange(0, WIDTH)
    scale = tl.load(weight + d, mask=d < width, other=0.0).to(ACC)
    sums = tl.zeros([WIDTH], ACC)
    for turn in range(TURNS):
        r = (program * TURNS + turn) * ROWS + tl.arange(0, ROWS)
        values, grad = matrix(total, r, d, count, width, width).to(ACC), matrix(grad_y, r, d, count, width, width).to(ACC)
        inverse = inverse_rms(values, width, EPSILON)[:, None]
        # Steps after the last one have no direction, and add nothing to the sums.
        normed = tl.where((r < count)[:, None], values * inverse, 0.0)
        sums += tl.sum(grad * normed, axis=0)
        grad = grad * scale[None, :]
        along = tl.sum(grad * normed, axis=1) / width
        value = (grad - normed * along[:, None]) * inverse + matrix(grad_total, r, d, count, width, width).to(ACC)
        there = (r < count)[:, None] & (d < width)[None, :]
        tl.store(grad_x + r[:, None] * width + d[None, :], value.to(grad_x.dtype.element_ty), mask=there)
    tl.store(grad_weights + program * width + d, sums, mask=d < width)
