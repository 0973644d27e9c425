"""What numba has no words for, written in LLVM's: products held in vector registers, views of addresses, bits of numbers, flags that
threads share.

LLVM cuts vectors of PANEL numbers to what the processor has: two registers of AVX2, one of AVX-512, four of NEON.
"""

from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

PANEL = 16
"""Outputs computed together in one pass over the inputs; products are padded to a multiple of it."""

TOGETHER = 4
"""Lanes, or panels of one lane, that are computed together: additions wait for those before them, so several sums go side by side."""

AHEAD = 4096
"""Bytes before their use that weights in fewer bits are asked for: they lie in the order of use, also across products."""

PAIRS = {"avx512bw": "llvm.x86.avx512.pmaddw.d.512", "avx2": "llvm.x86.avx2.pmadd.wd"}
"""LLVM's names of the instruction that multiplies pairs of int16, by what a processor must have; the widest first."""

# "contract" allows fused multiply-adds and nothing else.
jit: Any = njit(nogil=True, error_model="numpy", fastmath={"contract"})

LINE = 64  # bytes of a cache line

_INT64 = ir.IntType(64)
_INT32 = ir.IntType(32)


def _number(kind: Any) -> ir.Type:
    if isinstance(kind, types.Integer):
        return ir.IntType(kind.bitwidth)
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


def _ask_for(builder: Any, address: Any, element: ir.Type, index: Any, size: int) -> None:
    """Have `size` bytes brought into the cache, AHEAD of an element."""
    byte = ir.IntType(8)
    kinds = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), _INT32, _INT32, _INT32])
    prefetch = cgutils.get_or_insert_function(builder.module, kinds, "llvm.prefetch.p0")
    here = builder.bitcast(_at(builder, address, element, index), byte.as_pointer())
    for offset in range(0, size, LINE):
        builder.call(prefetch, [builder.gep(here, [_INT64(AHEAD + offset)], source_etype=byte), _INT32(0), _INT32(3), _INT32(1)])


def _multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


def _widen(builder: Any, weights: Any, kind: Any, number: ir.Type) -> Any:
    """A vector of stored weights as numbers: uint16 are the upper halves of float32."""
    if kind == types.uint16:
        upper = builder.shl(builder.zext(weights, _vector(_INT32)), ir.Constant(_vector(_INT32), [16] * PANEL))
        return builder.bitcast(upper, _vector(ir.FloatType()))
    return weights


@jit
def group_size(panels: Any) -> Any:
    """How many of the panels that are left lie side by side and are computed together."""
    return TOGETHER if panels >= TOGETHER else 2 if panels >= 2 else panels


@intrinsic(prefer_literal=True)
def panels(
    typing: Any, lanes: Any, count: Any, tag: Any, kind: Any, w: Any, wi: Any, ldw: Any, ldp: Any, x: Any, xi: Any, ldx: Any, y: Any,
    yi: Any, ldy: Any, out: Any, oi: Any, k: Any,
) -> Any:  # fmt: skip
    """y[l, :16] = bias + scale * sum_k w[k, :16] x[l, k] for so many lanes l and panels (both literals).

    Each sum is taken in the order of k, so that results do not depend on the lanes and panels that are computed together.

    `tag` and `kind` are any numbers of the types of the activations and of the stored weights. w, x, y and out are addresses, wi, xi, yi
    and oi where to begin there, ldw and ldp the distances of inputs and of panels in w, ldx and ldy those of lanes, all counted in numbers;
    out[oi] are pairs of 16 biases and 16 scales.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = ir.FunctionType(ir.VoidType(), [_INT64] * 13)
        name = f"panels_{lanes.literal_value}_{count.literal_value}_{tag}_{kind}"
        function = cgutils.get_or_insert_function(builder.module, kinds, name)
        if function.is_declaration:
            # One copy of each, however often it is called: compiling takes long enough.
            function.linkage = "linkonce_odr"
            function.attributes.add("noinline")
            inside = ir.IRBuilder(function.append_basic_block("entry"))
            _generate_panels(inside, lanes.literal_value, count.literal_value, _number(tag), kind, *function.args)
            inside.ret_void()
        builder.call(function, arguments[4:])
        return context.get_dummy_value()

    return types.void(lanes, count, tag, kind, *(types.int64,) * 13), generate


def _generate_panels(
    builder: Any, lanes: int, count: int, number: ir.Type, kind: Any, w: Any, wi: Any, ldw: Any, ldp: Any, x: Any, xi: Any, ldx: Any,
    y: Any, yi: Any, ldy: Any, out: Any, oi: Any, k: Any,
) -> None:  # fmt: skip
    stored = number if isinstance(kind, types.Float) else ir.IntType(kind.bitwidth)
    starts = [builder.add(wi, builder.mul(ldp, _INT64(c))) for c in range(count)]
    inputs = [_at(builder, x, number, builder.add(xi, builder.mul(ldx, _INT64(lane)))) for lane in range(lanes)]
    before, head, body, after = builder.block, *(builder.append_basic_block(n) for n in ("head", "body", "after"))
    builder.branch(head)

    builder.position_at_end(head)
    index, sums = builder.phi(_INT64), [builder.phi(_vector(number)) for _ in range(lanes * count)]
    builder.cbranch(builder.icmp_signed("<", index, k), body, after)

    builder.position_at_end(body)
    row = builder.mul(index, ldw)
    if lanes == 1 and stored != number:
        _ask_for(builder, w, stored, builder.add(wi, row), count * PANEL * (kind.bitwidth // 8))
    weights = [_widen(builder, _load_vector(builder, w, stored, builder.add(start, row)), kind, number) for start in starts]
    values = [_splat(builder, builder.load(builder.gep(i, [index], source_etype=number), typ=number)) for i in inputs]
    pairs = [(weight, value) for value in values for weight in weights]
    updated = [_multiply_add(builder, weight, value, total) for (weight, value), total in zip(pairs, sums, strict=True)]
    index.add_incoming(_INT64(0), before)
    index.add_incoming(builder.add(index, _INT64(1)), body)
    for total, value in zip(sums, updated, strict=True):
        total.add_incoming(ir.Constant(_vector(number), [0.0] * PANEL), before)
        total.add_incoming(value, body)
    builder.branch(head)

    builder.position_at_end(after)
    for place, total in enumerate(sums):
        lane, column = divmod(place, count)
        first = builder.mul(builder.add(oi, _INT64(column * PANEL)), _INT64(2))
        bias, scale = _load_vector(builder, out, number, first), _load_vector(builder, out, number, builder.add(first, _INT64(PANEL)))
        target = _at(builder, y, number, builder.add(builder.add(yi, _INT64(column * PANEL)), builder.mul(ldy, _INT64(lane))))
        builder.store(_multiply_add(builder, total, scale, bias), builder.bitcast(target, _vector(number).as_pointer()), align=1)


@intrinsic(prefer_literal=True)
def whole_panels(
    typing: Any, count: Any, w: Any, wi: Any, x: Any, xi: Any, x_scales: Any, si: Any, y: Any, yi: Any, out: Any, oi: Any, pairs: Any,
) -> Any:  # fmt: skip
    """As `panels` of one lane, in whole numbers: weights int8 (k / 2, count, 16, 2), x int16 with a float32 scale, y float32; `pairs` is
    k / 2.

    The sums are int32, which they must not exceed.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = ir.FunctionType(ir.VoidType(), [_INT64] * 11)
        instructions = _instructions()
        name = f"whole_panels_{count.literal_value}_{instructions}"
        function = cgutils.get_or_insert_function(builder.module, kinds, name)
        if function.is_declaration:
            function.linkage = "linkonce_odr"
            function.attributes.add("noinline")
            inside = ir.IRBuilder(function.append_basic_block("entry"))
            _generate_whole_panels(inside, instructions, count.literal_value, *function.args)
            inside.ret_void()
        builder.call(function, arguments[1:])
        return context.get_dummy_value()

    return types.void(count, *(types.int64,) * 11), generate


def _generate_whole_panels(
    builder: Any, instructions: str, count: int, w: Any, wi: Any, x: Any, xi: Any, x_scales: Any, si: Any, y: Any, yi: Any, out: Any,
    oi: Any, pairs: Any,
) -> None:  # fmt: skip
    number, byte, half = ir.FloatType(), ir.IntType(8), ir.IntType(16)
    # Sums of a whole panel in one register of AVX-512, or of half a panel in one of AVX2.
    at_once = PANEL if instructions == "avx512bw" else PANEL // 2
    parts, whole = PANEL // at_once, ir.VectorType(_INT32, at_once)
    stored, halves = ir.VectorType(byte, 2 * at_once), ir.VectorType(half, 2 * at_once)
    inputs = _at(builder, x, half, xi)
    before, head, body, after = builder.block, *(builder.append_basic_block(n) for n in ("head", "body", "after"))
    builder.branch(head)

    builder.position_at_end(head)
    index, sums = builder.phi(_INT64), [builder.phi(whole) for _ in range(parts * count)]
    builder.cbranch(builder.icmp_signed("<", index, pairs), body, after)

    builder.position_at_end(body)
    row = builder.add(wi, builder.mul(index, _INT64(2 * count * PANEL)))
    _ask_for(builder, w, byte, row, 2 * count * PANEL)
    weights = []
    for part in range(parts * count):
        place = _at(builder, w, byte, builder.add(row, _INT64(part * 2 * at_once)))
        loaded = builder.load(builder.bitcast(place, stored.as_pointer()), align=1, typ=stored)
        weights.append(builder.sext(loaded, halves))
    pair = builder.load(
        builder.bitcast(builder.gep(inputs, [builder.mul(index, _INT64(2))], source_etype=half), _INT32.as_pointer()), align=4, typ=_INT32
    )
    spread = builder.insert_element(ir.Constant(whole, ir.Undefined), pair, ir.Constant(_INT32, 0))
    spread = builder.shuffle_vector(spread, spread, ir.Constant(whole, [0] * at_once))
    values = builder.bitcast(spread, halves)
    updated = [_multiply_pairs(builder, instructions, weight, values) for weight in weights]
    updated = [builder.add(total, value) for total, value in zip(sums, updated, strict=True)]
    index.add_incoming(_INT64(0), before)
    index.add_incoming(builder.add(index, _INT64(1)), body)
    for total, value in zip(sums, updated, strict=True):
        total.add_incoming(ir.Constant(whole, [0] * at_once), before)
        total.add_incoming(value, body)
    builder.branch(head)

    builder.position_at_end(after)
    x_scale = _splat(builder, builder.load(_at(builder, x_scales, number, si), typ=number))
    for column in range(count):
        joined = sums[parts * column]
        if parts == 2:
            joined = builder.shuffle_vector(joined, sums[2 * column + 1], ir.Constant(_vector(_INT32), list(range(PANEL))))
        first = builder.mul(builder.add(oi, _INT64(column * PANEL)), _INT64(2))
        bias, scale = _load_vector(builder, out, number, first), _load_vector(builder, out, number, builder.add(first, _INT64(PANEL)))
        total = builder.fmul(builder.sitofp(joined, _vector(number)), x_scale)
        target = _at(builder, y, number, builder.add(yi, _INT64(column * PANEL)))
        builder.store(_multiply_add(builder, total, scale, bias), builder.bitcast(target, _vector(number).as_pointer()), align=1)


def _instructions() -> str:
    """The widest instructions for whole numbers that the processor has, as LLVM names them; "plain" where it has none of these."""
    features = get_host_cpu_features()
    return next((name for name in PAIRS if features.get(name)), "plain")


def _multiply_pairs(builder: Any, instructions: str, a: Any, b: Any) -> Any:
    """a[2 i] b[2 i] + a[2 i + 1] b[2 i + 1] of int16 in int32, one instruction where there is AVX2 or AVX-512."""
    count = a.type.count // 2
    whole = ir.VectorType(_INT32, count)
    if instructions in PAIRS:
        kinds = ir.FunctionType(whole, [a.type, a.type])
        return builder.call(cgutils.get_or_insert_function(builder.module, kinds, PAIRS[instructions]), [a, b])
    products = []
    for first in range(2):
        chosen = ir.Constant(whole, list(range(first, 2 * count, 2)))
        each = [builder.sext(builder.shuffle_vector(v, v, chosen), whole) for v in (a, b)]
        products.append(builder.mul(*each))
    return builder.add(*products)


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
def greater(typing: Any, a: Any, b: Any) -> Any:
    """The greater of two numbers, neither of them NaN: without care for NaN the greatest of many is taken in vectors."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = _number(a)
        name = f"llvm.maxnum.{'f64' if a == types.float64 else 'f32'}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(number, [number, number]), name)
        return builder.call(function, arguments, fastmath=("nnan", "nsz"))

    return a(a, a), generate


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
