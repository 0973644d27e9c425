"""What numba has no words for, written in LLVM's: products held in vector registers, views of addresses, bits of numbers, flags that threads
share.

LLVM cuts vectors of PANEL numbers to what the processor has: two registers of AVX2, one of AVX-512, four of NEON.
"""

from typing import Any

from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

PANEL = 16
"""Outputs computed together in one pass over the inputs; products are padded to a multiple of it."""

LANES = 4
"""Lanes for which weights that were read once are used."""

# "contract" allows fused multiply-adds and nothing else.
jit: Any = njit(nogil=True, error_model="numpy", fastmath={"contract"})

_INT64 = ir.IntType(64)
_INT32 = ir.IntType(32)


def _number(kind: Any) -> ir.Type:
    return ir.DoubleType() if kind == types.float64 else ir.FloatType()


def _vector(element: ir.Type) -> ir.VectorType:
    return ir.VectorType(element, PANEL)


def _at(builder: Any, address: Any, element: ir.Type, index: Any) -> Any:
    return builder.gep(builder.inttoptr(address, element.as_pointer()), [index], source_etype=element)


def _load_vector(builder: Any, address: Any, element: ir.Type, index: Any) -> Any:
    pointer = builder.bitcast(_at(builder, address, element, index), _vector(element).as_pointer())
    return builder.load(pointer, align=1, typ=_vector(element))


def _splat(builder: Any, value: Any) -> Any:
    vector = builder.insert_element(ir.Constant(_vector(value.type), ir.Undefined), value, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(_INT32, PANEL), [0] * PANEL))


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


def _widen(builder: Any, weights: Any, kind: Any, number: ir.Type) -> Any:
    """A vector of stored weights as numbers: int8 as they are, uint16 as the upper half of a float32."""
    if kind == types.int8:
        return builder.sitofp(weights, _vector(number))
    if kind == types.uint16:
        upper = builder.shl(builder.zext(weights, _vector(_INT32)), ir.Constant(_vector(_INT32), [16] * PANEL))
        return builder.bitcast(upper, _vector(ir.FloatType()))
    return weights


@intrinsic(prefer_literal=True)
def panel(
    typing: Any, lanes: Any, tag: Any, kind: Any, w: Any, wi: Any, x: Any, xi: Any, ldx: Any, y: Any, yi: Any, ldy: Any, out: Any, oi: Any, k: Any
) -> Any:
    """y[l, :16] = bias + scale * sum_k w[k, :16] x[l, k] for so many lanes l (a literal).

    `tag` and `kind` are any numbers of the types of the activations and of the stored weights. w, x, y and out are addresses, wi, xi, yi and
    oi where to begin there, ldx and ldy the distances of lanes, all counted in numbers; out[oi] are pairs of 16 biases and 16 scales.
    """
    count = lanes.literal_value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = ir.FunctionType(ir.VoidType(), [_INT64] * 11)
        function = cgutils.get_or_insert_function(builder.module, kinds, f"panel_{count}_{tag}_{kind}")
        if function.is_declaration:
            # One copy of each, however often it is called: compiling takes long enough.
            function.linkage = "linkonce_odr"
            function.attributes.add("noinline")
            inside = ir.IRBuilder(function.append_basic_block("entry"))
            _generate_panel(inside, count, _number(tag), kind, *function.args)
            inside.ret_void()
        builder.call(function, arguments[3:])
        return context.get_dummy_value()

    return types.void(lanes, tag, kind, *(types.int64,) * 11), generate


def _generate_panel(
    builder: Any, count: int, number: ir.Type, kind: Any, w: Any, wi: Any, x: Any, xi: Any, ldx: Any, y: Any, yi: Any, ldy: Any, out: Any, oi: Any, k: Any
) -> None:  # fmt: skip
    stored = number if isinstance(kind, types.Float) else ir.IntType(kind.bitwidth)
    # A lane alone needs several sums side by side, as each addition waits for the one before it.
    unroll = max(1, LANES // count)
    inputs = [_at(builder, x, number, builder.add(xi, builder.mul(ldx, _INT64(lane)))) for lane in range(count)]

    def step(index: Any, sums: list) -> list:
        weights = _load_vector(builder, w, stored, builder.add(wi, builder.mul(index, _INT64(PANEL))))
        weights = _widen(builder, weights, kind, number)
        values = [_splat(builder, builder.load(builder.gep(i, [index], source_etype=number), typ=number)) for i in inputs]
        return [_multiply_add(builder, weights, value, total) for value, total in zip(values, sums, strict=True)]

    def loop(start: Any, stop: Any, each: int, sums: list) -> list:
        before, head, body, after = builder.block, *(builder.append_basic_block(n) for n in ("head", "body", "after"))
        builder.branch(head)
        builder.position_at_end(head)
        index, totals = builder.phi(_INT64), [builder.phi(_vector(number)) for _ in sums]
        index.add_incoming(start, before)
        for total, value in zip(totals, sums, strict=True):
            total.add_incoming(value, before)
        builder.cbranch(builder.icmp_signed("<", index, stop), body, after)
        builder.position_at_end(body)
        updated = list(totals)
        for u in range(each):
            part = slice(u * count, (u + 1) * count)
            updated[part] = step(builder.add(index, _INT64(u)), totals[part])
        index.add_incoming(builder.add(index, _INT64(each)), body)
        for total, value in zip(totals, updated, strict=True):
            total.add_incoming(value, body)
        builder.branch(head)
        builder.position_at_end(after)
        return totals

    zero = ir.Constant(_vector(number), [0.0] * PANEL)
    whole = builder.and_(k, _INT64(-unroll))
    sums = loop(_INT64(0), whole, unroll, [zero] * (unroll * count))
    sums = loop(whole, k, 1, sums)
    first = builder.mul(oi, _INT64(2))
    bias, scale = _load_vector(builder, out, number, first), _load_vector(builder, out, number, builder.add(first, _INT64(PANEL)))
    for lane in range(count):
        total = sums[lane]
        for u in range(1, unroll):
            total = builder.fadd(total, sums[u * count + lane])
        place = _at(builder, y, number, builder.add(yi, builder.mul(ldy, _INT64(lane))))
        builder.store(_multiply_add(builder, total, scale, bias), builder.bitcast(place, _vector(number).as_pointer()), align=1)


@intrinsic
def _pointer(typing: Any, address: Any, start: Any, tag: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _at(builder, arguments[0], _number(tag), arguments[1])

    return types.CPointer(tag)(types.int64, types.int64, tag), generate


@jit
def view(address: Any, start: Any, size: Any, tag: Any) -> Any:
    """The `size` numbers of the type of `tag` that begin `start` numbers after an address."""
    return carray(_pointer(address, start, tag), size)


@intrinsic
def power_of_two(typing: Any, shifted: Any) -> Any:
    """2^n of the whole number n in `shifted` = n + 1.5 * 2^m, m the bits of the mantissa: n is then in its last bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = _number(shifted)
        wide = shifted == types.float64
        bits = ir.IntType(64 if wide else 32)
        moved = builder.shl(builder.bitcast(arguments[0], bits), bits(52 if wide else 23))
        return builder.bitcast(builder.add(moved, bits(1023 << 52 if wide else 127 << 23)), number)

    return shifted(shifted), generate


@intrinsic
def last_bits(typing: Any, shifted: Any) -> Any:
    """The whole number n in `shifted` (see `power_of_two`), modulo 4."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = ir.IntType(64 if shifted == types.float64 else 32)
        kept = builder.and_(builder.bitcast(arguments[0], bits), bits(3))
        return kept if bits.width == 32 else builder.trunc(kept, _INT32)

    return types.int32(shifted), generate


@intrinsic
def publish(typing: Any, address: Any, value: Any) -> Any:
    """Store an int64 so that whoever sees it also sees all that was stored before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[1], builder.inttoptr(arguments[0], _INT64.as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def observe(typing: Any, address: Any) -> Any:
    """The int64 that another thread published."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(arguments[0], _INT64.as_pointer()), "acquire", 8, typ=_INT64)

    return types.int64(types.int64), generate
