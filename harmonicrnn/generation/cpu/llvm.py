"""LLVM code for numba: floating-point products in vector registers, views of addresses, bit casts, flags shared by threads.

LLVM splits vectors of PANEL numbers for the processor: two registers of AVX2, one of AVX-512, four of NEON.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array, populate_array

from harmonicrnn.machine_code import intrinsic, jit
from harmonicrnn.ops.elementary import INT32, number_type

PANEL = 16
"""Outputs computed together in one pass over the inputs; products are padded to a multiple of it."""

TOGETHER = 4
"""Lanes, or panels of one lane, computed together: several independent sums hide the latency of additions."""

AHEAD = 4096
"""Prefetch distance in bytes for weights in fewer bits, which are stored in the order of use across products."""

LINE = 64  # bytes of a cache line

INT64 = ir.IntType(64)


def vector(element: ir.Type) -> ir.VectorType:
    return ir.VectorType(element, PANEL)


def at(builder: Any, address: Any, element: ir.Type, index: Any) -> Any:
    return builder.gep(builder.inttoptr(address, element.as_pointer()), [index], source_etype=element)


def load_vector(builder: Any, address: Any, element: ir.Type, index: Any) -> Any:
    pointer = builder.bitcast(at(builder, address, element, index), vector(element).as_pointer())
    return builder.load(pointer, align=1, typ=vector(element))


def splat(builder: Any, value: Any, size: int = PANEL) -> Any:
    vector = builder.insert_element(ir.Constant(ir.VectorType(value.type, size), ir.Undefined), value, ir.Constant(INT32, 0))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(INT32, size), [0] * size))


def ask_for(builder: Any, address: Any, element: ir.Type, index: Any, size: int) -> None:
    """Prefetches `size` bytes, AHEAD bytes after an element."""
    byte = ir.IntType(8)
    kinds = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), INT32, INT32, INT32])
    prefetch = cgutils.get_or_insert_function(builder.module, kinds, "llvm.prefetch.p0")
    here = builder.bitcast(at(builder, address, element, index), byte.as_pointer())
    for offset in range(0, size, LINE):
        builder.call(prefetch, [builder.gep(here, [INT64(AHEAD + offset)], source_etype=byte), INT32(0), INT32(3), INT32(1)])


def multiply_add(builder: Any, a: Any, b: Any, c: Any) -> Any:
    return builder.fadd(builder.fmul(a, b, flags=("contract",)), c, flags=("contract",))


def _widen(builder: Any, weights: Any, kind: Any, number: ir.Type) -> Any:
    """Converts a vector of stored weights: uint16 are the upper halves of float32."""
    if kind == types.uint16:
        upper = builder.shl(builder.zext(weights, vector(INT32)), ir.Constant(vector(INT32), [16] * PANEL))
        return builder.bitcast(upper, vector(ir.FloatType()))
    return weights


def call_once_made(builder: Any, name: str, body: Callable[..., None], arguments: Sequence[Any]) -> None:
    """Calls a function of int64 arguments; its body, `body(builder, *arguments)`, is generated once to save compile time."""
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [INT64] * len(arguments)), name)
    if function.is_declaration:
        function.linkage = "linkonce_odr"
        function.attributes.add("noinline")
        inside = ir.IRBuilder(function.append_basic_block("entry"))
        body(inside, *function.args)
        inside.ret_void()
    builder.call(function, arguments)


def summed(builder: Any, steps: Any, starts: Sequence[Any], body: Callable[[Any, list[Any]], list[Any]]) -> list[Any]:
    """Generates a loop: `body(index, sums)` returns the sums after a step. Returns those after all steps, which begin as `starts`."""
    before, head, inside, after = builder.block, *(builder.append_basic_block(n) for n in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    index, sums = builder.phi(INT64), [builder.phi(start.type) for start in starts]
    builder.cbranch(builder.icmp_signed("<", index, steps), inside, after)
    builder.position_at_end(inside)
    following = builder.add(index, INT64(1)), *body(index, sums)
    for value, start, updated in zip((index, *sums), (INT64(0), *starts), following, strict=True):
        value.add_incoming(start, before)
        value.add_incoming(updated, inside)
    builder.branch(head)
    builder.position_at_end(after)
    return sums


def store_output(builder: Any, total: Any, y: Any, yi: Any, out: Any, oi: Any, column: int) -> None:
    """Stores bias + scale total as a panel of y, see `panels`."""
    number = total.type.element
    first = builder.mul(builder.add(oi, INT64(column * PANEL)), INT64(2))
    bias, scale = load_vector(builder, out, number, first), load_vector(builder, out, number, builder.add(first, INT64(PANEL)))
    target = at(builder, y, number, builder.add(yi, INT64(column * PANEL)))
    builder.store(multiply_add(builder, total, scale, bias), builder.bitcast(target, total.type.as_pointer()), align=1)


@jit
def group_size(panels: Any) -> Any:
    """Returns how many of the remaining panels are stored side by side and computed together."""
    return TOGETHER if panels >= TOGETHER else 2 if panels >= 2 else panels


@intrinsic(prefer_literal=True)
def panels(
    typing: Any, lanes: Any, count: Any, tag: Any, kind: Any, w: Any, wi: Any, ldw: Any, ldp: Any, x: Any, xi: Any, ldx: Any, y: Any,
    yi: Any, ldy: Any, out: Any, oi: Any, k: Any,
) -> Any:  # fmt: skip
    """y[l, :16] = bias + scale * sum_k w[k, :16] x[l, k] for `lanes` lanes l and `count` panels (both literals).

    Each sum runs in the order of k, so results do not depend on the lanes and panels computed together.

    `tag` and `kind` are any numbers of the dtypes of the activations and of the stored weights. w, x, y and out are addresses; wi, xi, yi
    and oi offsets; ldw and ldp strides of inputs and panels in w; ldx and ldy strides of lanes, all in elements. out[oi] are pairs of 16
    biases and 16 scales.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def body(inside: Any, *addresses: Any) -> None:
            _generate_panels(inside, lanes.literal_value, count.literal_value, number_type(tag), kind, *addresses)

        call_once_made(builder, f"panels_{lanes.literal_value}_{count.literal_value}_{tag}_{kind}", body, arguments[4:])
        return context.get_dummy_value()

    return types.void(lanes, count, tag, kind, *(types.int64,) * 13), generate


def _generate_panels(
    builder: Any, lanes: int, count: int, number: ir.Type, kind: Any, w: Any, wi: Any, ldw: Any, ldp: Any, x: Any, xi: Any, ldx: Any,
    y: Any, yi: Any, ldy: Any, out: Any, oi: Any, k: Any,
) -> None:  # fmt: skip
    stored = number if isinstance(kind, types.Float) else ir.IntType(kind.bitwidth)
    starts = [builder.add(wi, builder.mul(ldp, INT64(c))) for c in range(count)]
    inputs = [at(builder, x, number, builder.add(xi, builder.mul(ldx, INT64(lane)))) for lane in range(lanes)]

    def add(index: Any, sums: list[Any]) -> list[Any]:
        row = builder.mul(index, ldw)
        if lanes == 1 and stored != number:
            ask_for(builder, w, stored, builder.add(wi, row), count * PANEL * (kind.bitwidth // 8))
        weights = [_widen(builder, load_vector(builder, w, stored, builder.add(start, row)), kind, number) for start in starts]
        values = [splat(builder, builder.load(builder.gep(i, [index], source_etype=number), typ=number)) for i in inputs]
        pairs = [(weight, value) for value in values for weight in weights]
        return [multiply_add(builder, weight, value, total) for (weight, value), total in zip(pairs, sums, strict=True)]

    zeros = [ir.Constant(vector(number), [0.0] * PANEL)] * (lanes * count)
    for place, total in enumerate(summed(builder, k, zeros, add)):
        lane, column = divmod(place, count)
        store_output(builder, total, y, builder.add(yi, builder.mul(ldy, INT64(lane))), out, oi, column)


@intrinsic
def view(typing: Any, address: Any, start: Any, size: Any, tag: Any) -> Any:
    """Returns an array of `size` numbers of the type of `tag`, `start` numbers after an address."""
    kind = types.Array(tag, 1, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, width = make_array(kind)(context, builder), INT64(context.get_abi_sizeof(number_type(tag)))
        data = at(builder, arguments[0], number_type(tag), arguments[1])
        populate_array(array, data=data, shape=[arguments[2]], strides=[width], itemsize=width, meminfo=None)
        return array._getvalue()

    return kind(types.int64, types.int64, types.int64, tag), generate


@intrinsic
def record(typing: Any, address: Any, layout: Any) -> Any:
    """Returns the record of a numpy structured dtype at an address."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(layout.dtype))

    return layout.dtype(types.int64, layout), generate


@intrinsic
def call_step(typing: Any, code: Any, tag: Any, at: Any, worker: Any) -> Any:
    """Calls the step of an operation, whose machine code is at the address `code`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(INT64, [number_type(tag), INT64, INT64])
        return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])

    return types.int64(types.int64, tag, types.int64, types.int64), generate


@intrinsic
def greater(typing: Any, a: Any, b: Any) -> Any:
    """Returns the greater of two numbers that are not NaN; without NaN checks maxima are vectorised."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = number_type(a)
        name = f"llvm.maxnum.{'f64' if a == types.float64 else 'f32'}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(number, [number, number]), name)
        return builder.call(function, arguments, fastmath=("nnan", "nsz"))

    return a(a, a), generate


@intrinsic
def publish(typing: Any, address: Any, value: Any) -> Any:
    """Stores an int64 with release order: a thread that observes it sees all earlier stores."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store_atomic(arguments[1], builder.inttoptr(arguments[0], INT64.as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def observe(typing: Any, address: Any) -> Any:
    """Loads an int64 with acquire order."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(arguments[0], INT64.as_pointer()), "acquire", 8, typ=INT64)

    return types.int64(types.int64), generate
