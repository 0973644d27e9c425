"""Products of int8 weights with inputs rounded to 24 bits (fewer above 511 inputs), by the processor's widest dot-product instructions.

Each input is split into two parts, whose sums are exact in int32.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils, config

from harmonicrnn.generation.cpu.llvm import (
    INT32,
    INT64,
    PANEL,
    TOGETHER,
    ask_for,
    at,
    call_once_made,
    greater,
    group_size,
    multiply_add,
    splat,
    store_output,
    summed,
    view,
)  # fmt: skip
from harmonicrnn.machine_code import intrinsic, jit

BYTE, HALF, FLOAT = ir.IntType(8), ir.IntType(16), ir.FloatType()


class Instructions(NamedTuple):
    """An instruction for sums of products of neighbouring inputs.

    Attributes:
        feature: required processor feature, by LLVM's name.
        function: LLVM's name of the intrinsic; empty if it is written out.
        inputs: inputs per step: two as int16, or four as bytes.
        sums: outputs per register.
    """

    feature: str
    function: str
    inputs: int
    sums: int


INSTRUCTIONS = (
    # With byte vectors as operands, as declared by LLVM 21 and later.
    Instructions("avx512vnni", "llvm.x86.avx512.vpdpbusd.512", 4, PANEL),
    Instructions("avx512bw", "llvm.x86.avx512.pmaddw.d.512", 2, PANEL),
    Instructions("avx2", "llvm.x86.avx2.pmadd.wd", 2, PANEL // 2),
    Instructions("plain", "", 2, PANEL // 2),
)
"""Fastest first."""


def instructions() -> Instructions:
    """Returns the instructions for numba's target: this processor, or NUMBA_CPU_FEATURES if set."""
    told = config.CPU_FEATURES
    features = get_host_cpu_features() if told is None else {name[1:]: name[0] == "+" for name in told.split(",") if name}
    return next(i for i in INSTRUCTIONS if not i.function or features.get(i.feature))


def lay_out(whole: np.ndarray) -> np.ndarray:
    """Returns the bytes that `whole_panels` reads for integers (panels, inputs, 16) of panels computed together: the initial int32 sums,
    (panels, 16), then the weights, (inputs / n, panels, 16, n) for the n inputs of a step, padded with zeros."""
    n = instructions().inputs
    panels, inputs, _ = whole.shape
    full = np.zeros((panels, -(-inputs // n) * n, PANEL), dtype=np.int8)
    full[:, :inputs] = whole
    # Unsigned inputs have an offset of 2^15, 2^7 in the upper byte, which the initial sums subtract.
    starts = (-128 if n == 4 else 0) * full.sum(axis=1, dtype=np.int32)
    weights = full.reshape(panels, -1, n, PANEL).transpose(1, 0, 3, 2)
    return np.concatenate([np.ascontiguousarray(part).reshape(-1).view(np.uint8) for part in (starts, weights)])


@intrinsic
def inputs_of_a_step(typing: Any) -> Any:
    """Returns the inputs per step of `whole_panels`, in compiled code."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return INT64(instructions().inputs)

    return types.int64(), generate


@intrinsic(prefer_literal=True)
def whole_panels(
    typing: Any, count: Any, w: Any, wi: Any, x: Any, xi: Any, x_scales: Any, si: Any, y: Any, yi: Any, out: Any, oi: Any, steps: Any,
) -> Any:  # fmt: skip
    """As `panels` for one lane in integers: weights from `lay_out` for `count` panels (a literal), x with a float32 scale, float32 y.

    x is 2^8 a + b: int16 a for the inputs of all steps, then int16 b from 0 to 255. The sums of a must fit into int32.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        chosen = instructions()
        name = f"whole_panels_{count.literal_value}_{chosen.feature}"
        call_once_made(builder, name, lambda inside, *addresses: _generate(inside, chosen, count.literal_value, *addresses), arguments[1:])
        return context.get_dummy_value()

    return types.void(count, *(types.int64,) * 11), generate


def _generate(
    builder: Any, chosen: Instructions, count: int, w: Any, wi: Any, x: Any, xi: Any, x_scales: Any, si: Any, y: Any, yi: Any, out: Any,
    oi: Any, steps: Any,
) -> None:  # fmt: skip
    whole = ir.VectorType(INT32, chosen.sums)
    parts, size = count * PANEL // chosen.sums, chosen.sums * chosen.inputs
    upper = at(builder, x, HALF, xi)
    lower = builder.gep(upper, [builder.mul(steps, INT64(chosen.inputs))], source_etype=HALF)
    pieces = 3 if chosen.inputs == 4 else 2  # each byte of the inputs has sums of its own, or the upper two and the last
    starts = [_load(builder, w, builder.add(wi, INT64(part * chosen.sums * 4)), whole) for part in range(parts)]
    starts += [ir.Constant(whole, [0] * chosen.sums)] * (parts * (pieces - 1))
    first = builder.add(wi, INT64(count * PANEL * 4))

    def add(index: Any, sums: list[Any]) -> list[Any]:
        row = builder.add(first, builder.mul(index, INT64(parts * size)))
        ask_for(builder, w, BYTE, row, parts * size)
        weights = [_load(builder, w, builder.add(row, INT64(part * size)), ir.VectorType(BYTE, size)) for part in range(parts)]
        if pieces == 3:
            values = [
                *_bytes_of_four(builder, upper, index, chosen, 0x8000, (1, 0)),
                *_bytes_of_four(builder, lower, index, chosen, 0, (0,)),
            ]
        else:
            values = [_pair(builder, inputs, index, chosen) for inputs in (upper, lower)]
        pairs = [(value, weight) for value in values for weight in weights]
        return [_add_products(builder, chosen, total, *pair) for total, pair in zip(sums, pairs, strict=True)]

    totals = summed(builder, steps, starts, add)
    if pieces == 3:
        eight = ir.Constant(whole, [8] * chosen.sums)
        both = zip(totals[:parts], totals[parts : 2 * parts], strict=True)
        totals = [*(builder.add(builder.shl(one, eight), other) for one, other in both), *totals[2 * parts :]]
    numbers = ir.VectorType(FLOAT, PANEL)
    x_scale, unit = splat(builder, builder.load(at(builder, x_scales, FLOAT, si), typ=FLOAT)), ir.Constant(numbers, [256.0] * PANEL)
    for column in range(count):
        large, small = (
            builder.sitofp(_panel_of(builder, totals[place : place + parts], parts // count, column), numbers) for place in (0, parts)
        )
        total = builder.fmul(multiply_add(builder, large, unit, small), x_scale)
        store_output(builder, total, y, yi, out, oi, column)


def _panel_of(builder: Any, totals: list[Any], each: int, column: int) -> Any:
    """Returns the sums of a panel, which are in one register or two (`each`)."""
    if each == 1:
        return totals[column]
    return builder.shuffle_vector(totals[2 * column], totals[2 * column + 1], ir.Constant(ir.VectorType(INT32, PANEL), list(range(PANEL))))


def _load(builder: Any, address: Any, offset: Any, kind: ir.VectorType) -> Any:
    return builder.load(builder.bitcast(at(builder, address, BYTE, offset), kind.as_pointer()), align=1, typ=kind)


def _pair(builder: Any, inputs: Any, index: Any, chosen: Instructions) -> Any:
    """Loads two inputs, repeated for each sum."""
    place = builder.gep(inputs, [builder.mul(index, INT64(2))], source_etype=HALF)
    pair = builder.load(builder.bitcast(place, INT32.as_pointer()), align=2, typ=INT32)
    return builder.bitcast(splat(builder, pair, chosen.sums), ir.VectorType(HALF, 2 * chosen.sums))


def _bytes_of_four(builder: Any, inputs: Any, index: Any, chosen: Instructions, offset: int, which: tuple[int, ...]) -> list[Any]:
    """Loads bytes (1: upper, 0: lower) of four int16 inputs + offset, repeated for each sum."""
    place = builder.gep(inputs, [builder.mul(index, INT64(4))], source_etype=HALF)
    four = builder.load(builder.bitcast(place, INT64.as_pointer()), align=2, typ=INT64)
    four = builder.xor(four, INT64(offset * 0x0001_0001_0001_0001))
    size = 4 * chosen.sums
    spread = builder.bitcast(splat(builder, four, size // 8), ir.VectorType(BYTE, size))
    # In each group of 8 bytes: the four chosen bytes twice.
    orders = ([start + 2 * (i % 4) + upper for start in range(0, size, 8) for i in range(8)] for upper in which)
    return [builder.shuffle_vector(spread, spread, ir.Constant(ir.VectorType(INT32, size), order)) for order in orders]


def _add_products(builder: Any, chosen: Instructions, total: Any, values: Any, weights: Any) -> Any:
    """Returns total + the products of a step's inputs with each output's weights."""
    if chosen.inputs == 4:
        kinds = ir.FunctionType(total.type, [total.type, values.type, weights.type])
        return builder.call(cgutils.get_or_insert_function(builder.module, kinds, chosen.function), [total, values, weights])
    weights = builder.sext(weights, values.type)
    if chosen.function:
        kinds = ir.FunctionType(total.type, [values.type, weights.type])
        products = builder.call(cgutils.get_or_insert_function(builder.module, kinds, chosen.function), [values, weights])
        return builder.add(total, products)
    for first in range(2):
        order = ir.Constant(total.type, list(range(first, 2 * chosen.sums, 2)))
        each = [builder.sext(builder.shuffle_vector(v, v, order), total.type) for v in (values, weights)]
        total = builder.add(total, builder.mul(*each))
    return total


@jit
def int8_product(o: Any, w: Any, out: Any, start: Any, to: Any, me: Any) -> None:
    """Computes a group of a product (see `products.PRODUCT`) with int8 weights; x is rounded so that sums fit into int32."""
    n, k, tag = inputs_of_a_step(), o.inputs, np.float32(0)
    steps, most = (k + n - 1) // n, np.float32(256 * min(32767, 2**31 // (128 * (k + 1))))
    for lane in range(me.lanes):
        values = view(o.source, start + lane * o.source_stride, k, tag)
        greatest = greater(_greatest(values), np.float32(1e-30))
        view(me.whole_scales, lane, 1, tag)[0] = greatest / most
        _round(values, most / greatest, n * steps, view(me.whole, lane * me.whole_stride, 2 * n * steps, np.int16(0)))
    i = 0
    while i < o.panels:
        size, first = group_size(o.panels - i), i * PANEL
        start_w = first * (4 + n * steps)  # an int32 per output precedes the weights
        for lane in range(me.lanes):
            x, y = lane * me.whole_stride, to + lane * o.target_stride + first
            if size == TOGETHER:
                whole_panels(TOGETHER, w, start_w, me.whole, x, me.whole_scales, lane, o.target, y, out, first, steps)
            elif size == 2:
                whole_panels(2, w, start_w, me.whole, x, me.whole_scales, lane, o.target, y, out, first, steps)
            else:
                whole_panels(1, w, start_w, me.whole, x, me.whole_scales, lane, o.target, y, out, first, steps)
        i += size


@jit
def _greatest(x: Any) -> Any:
    greatest = np.float32(0)
    for i in range(len(x)):
        greatest = greater(greatest, abs(x[i]))
    return greatest


@jit
def _round(x: Any, factor: Any, size: Any, whole: Any) -> None:
    """Rounds x to 2^8 whole[:size] + whole[size:]. Entries past the end of x are left as they are: their weights are 0."""
    for i in range(len(x)):
        number = np.int32(np.rint(x[i] * factor))
        whole[i], whole[size + i] = np.int16(number >> 8), np.int16(number & 255)
