"""The kernels of the gated MLP: a program takes some steps through all hidden channels, a block of these at a time."""

import triton
import triton.language as tl

from harmonicrnn.ops.triton.neighbour_kernels import gelu_parts


@triton.jit
def matrix(pointer, row, column, rows, columns, stride):
    """Elements (row, column) of a matrix with so many rows and columns, zeros where there are none."""
    there = (row < rows)[:, None] & (column < columns)[None, :]
    return tl.load(pointer + row[:, None] * stride + column[None, :], mask=there, other=0.0)


@triton.jit
def hidden_inputs(values, weight, bias, j, hidden, ACC: tl.constexpr):
    """bias_j + sum_d weight_jd values_d: (steps, block of hidden channels), of that block of the weight."""
    constant = tl.load(bias + j, mask=j < hidden, other=0.0).to(ACC)
    return tl.dot(values, tl.trans(weight), input_precision="ieee", out_dtype=ACC) + constant[None, :]


@triton.jit
def gated_mlp_kernel(
    x,
    gate_weight,
    gate_bias,
    input_weight,
    input_bias,
    output_weight,
    output_bias,
    residual,
    y,
    count,
    width,
    hidden,
    ADDS: tl.constexpr,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
):
    r, d = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    values = matrix(x, r, d, count, width, width)
    constant = tl.load(output_bias + d, mask=d < width, other=0.0).to(ACC)
    total = tl.zeros([ROWS, WIDTH], ACC) + constant[None, :]
    for start in range(0, hidden, HIDDEN):
        j = start + tl.arange(0, HIDDEN)
        gate = hidden_inputs(values, matrix(gate_weight, j, d, hidden, width, width), gate_bias, j, hidden, ACC)
        other = hidden_inputs(values, matrix(input_weight, j, d, hidden, width, width), input_bias, j, hidden, ACC)
        share, slope = gelu_parts(gate)
        product = (gate * share * other).to(values.dtype)
        out = matrix(output_weight, d, j, width, hidden, hidden)
        total = tl.dot(product, tl.trans(out), total, input_precision="ieee", out_dtype=ACC)
    if ADDS:
        total += matrix(residual, r, d, count, width, width).to(ACC)
    there = (r < count)[:, None] & (d < width)[None, :]
    tl.store(y + r[:, None] * width + d[None, :], total.to(y.dtype.element_ty), mask=there)


@triton.jit
def gated_mlp_backward_kernel(
    x,
    gate_weight,
    gate_bias,
    input_weight,
    input_bias,
    output_weight,
    grad,
    grad_x,
    grad_hidden,
    product,
    grad_biases,
    count,
    width,
    hidden,
    ACC: tl.constexpr,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
):
    """Also writes what the gradients of the weights are products of: grad_hidden (count, 2, hidden) of the gate and of the input, and
    `product` (count, hidden), GELU(gate) * input once more; and a program's sums for the biases, one row of 2 hidden + width."""
    program = tl.program_id(0).to(tl.int64)
    r, d = program * ROWS + tl.arange(0, ROWS), tl.arange(0, WIDTH)
    values, g = matrix(x, r, d, count, width, width), matrix(grad, r, d, count, width, width)
    sums = grad_biases + program * (2 * hidden + width)
    tl.store(sums + 2 * hidden + d, tl.sum(g.to(ACC), axis=0), mask=d < width)
    total = tl.zeros([ROWS, WIDTH], ACC)
    for start in range(0, hidden, HIDDEN):
        j = start + tl.arange(0, HIDDEN)
        # Each block of a weight is read once for both of its products.
        gate_block, input_block = matrix(gate_weight, j, d, hidden, width, width), matrix(input_weight, j, d, hidden, width, width)
        gate = hidden_inputs(values, gate_block, gate_bias, j, hidden, ACC)
        other = hidden_inputs(values, input_block, input_bias, j, hidden, ACC)
        share, slope = gelu_parts(gate)
        out = matrix(output_weight, d, j, width, hidden, hidden)
        for_product = tl.dot(g, out, input_precision="ieee", out_dtype=ACC)
        # Steps after the last one have a gradient of 0, and add nothing to the sums.
        for_gate = for_product * other * (share + gate * slope)
        for_input = for_product * gate * share
        tl.store(sums + j, tl.sum(for_gate, axis=0), mask=j < hidden)
        tl.store(sums + hidden + j, tl.sum(for_input, axis=0), mask=j < hidden)
        rounded_gate, rounded_input = for_gate.to(values.dtype), for_input.to(values.dtype)
        total = tl.dot(rounded_gate, gate_block, total, input_precision="ieee", out_dtype=ACC)
        total = tl.dot(rounded_input, input_block, total, input_precision="ieee", out_dtype=ACC)
        there = (r < count)[:, None] & (j < hidden)[None, :]
        place = r[:, None] * (2 * hidden) + j[None, :]
        tl.store(grad_hidden + place, rounded_gate, mask=there)
        tl.store(grad_hidden + place + hidden, rounded_input, mask=there)
        place = r[:, None] * hidden + j[None, :]
        tl.store(product + place, (gate * share * other).to(product.dtype.element_ty), mask=there)
    there = (r < count)[:, None] & (d < width)[None, :]
    tl.store(grad_x + r[:, None] * width + d[None, :], total.to(grad_x.dtype.element_ty), mask=there)
