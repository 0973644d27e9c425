"""The layers of a model, a step at a time, in compiled code.

A worker is one thread with the lanes and the rows of the weights that are its share. It walks through a table of operations, one row each,
whose columns are named below; addresses in it lead to weights, states and room to work in, all made beforehand. Where several workers share
each layer (a team), each holds x of its own; they exchange their parts of what is added to x, and meet twice in each block, three times in
one with a projection. A row of the convolution that several of them need is computed by each: that is less work than to wait.

Each of the three exchanges of a block has a buffer of its own: one is written again only after a meeting that follows its last reading.
"""

from typing import Any

import numpy as np
from numba import njit, types

from harmonicrnn.generation.cpu.elementary import exp_expm1, gelu, like, sigmoid, sine_cosine
from harmonicrnn.generation.cpu.int8_products import inputs_of_a_step, whole_panels
from harmonicrnn.generation.cpu.llvm import PANEL, TOGETHER, greater, group_size, jit, observe, panels, publish, view

BLOCK, ENTER, LEAVE, MERGE = range(4)
"""Kinds of operation: a residual block; x into the pooling window; out of the level below; its result into x."""

# Columns of all operations: x (lanes, STRIDE) of which WIDTH count.
KIND, LEVEL, WIDTH, STRIDE, X = range(5)
# Columns of a block. A worker's share: UNITS units from UNIT on (with PARTS parts, real and imaginary) in HEADS heads, the ROWS of the
# convolution that these read, GATED channels of the gate from FIRST_GATED on, HIDDEN rows of the MLP. Among the rows, what the heads read
# begins at HEADS_AT, and the inputs of the units at REAL_AT and IMAGINARY_AT. INPUTS and what follows are numbers of products; the first
# gives the rows and, from GATE_AT on, the gate; that of the MLP the gate and, from HIDDEN_AT on, what it is multiplied with. PROJECTED says
# whether a product takes the recurrence to the block's width before it is gated.
(
    ROWS, TAPS, KERNEL, CONV_BIAS, CONV_WINDOW, PARTS, UNIT, UNITS, ALL_UNITS, HEADS, HEAD_WIDTH, HEAD_UNITS, HEADS_AT, REAL_AT,
    IMAGINARY_AT, DECAY, ANGLE, H, FRESH, GATE_AT, HIDDEN, HIDDEN_AT, INPUTS, RECURRENCE_GATES, OUTPUT, MLP_INPUTS, MLP_OUTPUT,
    PROJECTED, PROJECTION, GATED, FIRST_GATED,
) = range(5, 36)  # fmt: skip
# Columns of pooling: windows (lanes, GROUPS, FACTOR * GROUP_WIDTH), results (lanes, GROUPS, RAISED_STRIDE), and x of the level below. DOWN
# and UP are numbers of products; where each channel is pooled by itself (BY_CHANNEL), addresses of (FACTOR, GROUP_WIDTH) kernels.
(
    FACTOR,
    FRAME,
    GROUPS,
    GROUP_WIDTH,
    WINDOW,
    RAISED,
    RAISED_STRIDE,
    DOWN,
    UP,
    INNER_X,
    INNER_STRIDE,
    INNER_GROUP_WIDTH,
    INNER_FRESH,
    AFTER,
    BY_CHANNEL,
    DOWN_BIAS,
    UP_BIAS,
) = range(5, 22)
COLUMNS = 36

# Columns of the table of products.
PRODUCT_WEIGHTS, PRODUCT_OUT, PRODUCT_INPUTS, PRODUCT_PANELS, PRODUCT_STORED = range(5)

FULL, BFLOAT16, INT8 = range(3)
"""How the weights of a product are stored; the shorter ones only where activations are float32."""

# What a worker knows: addresses of room of its own, (lanes, ROOM) each, and of what the team shares.
(
    LANES_HERE, RANK, RANKS, EPOCH, FLAGS, ROOM, U, V, W, GATES, PARTIAL, PARTIAL_SIZE, PARTIAL_BYTES,
    FIRST_X, FIRST_STRIDE, FIRST_WIDTH, FIRST_FRESH, EMBEDDING, HEAD, LOGIT, LOGIT_COUNT, LOGITS, CLASSES, WHOLE, WHOLE_SCALES,
    CENTRED, UNIT_FIRST_STEP,
) = range(27)  # fmt: skip
WORKER_COLUMNS = 27

EPSILON = 1e-6

PATIENCE = 2000
"""Looks at another worker's flag before the processor is offered to other threads: the missing one may be waiting for it."""

_sched_yield = types.ExternalFunction("sched_yield", types.int32())


@jit
def meet(me: Any) -> None:
    """Wait until all of the team have come here; what each has written before, all see after."""
    ranks = me[RANKS]
    if ranks == 1:
        return
    epoch = me[EPOCH] + 1
    me[EPOCH] = epoch
    publish(me[FLAGS] + 64 * me[RANK], epoch)
    for other in range(ranks):
        looks = 0
        while observe(me[FLAGS] + 64 * other) < epoch:
            looks += 1
            if looks > PATIENCE:
                _sched_yield()


@jit
def product(tag: Any, products: Any, number: Any, x: Any, start: Any, ldx: Any, y: Any, to: Any, ldy: Any, me: Any) -> None:
    """y[l, to:] = bias + weights x[l, start:] for all lanes, written in whole panels."""
    stored, lanes = products[number, PRODUCT_STORED], me[LANES_HERE]
    if stored == FULL:
        _panels(tag, tag, products, number, x, start, ldx, y, to, ldy, lanes)
    elif stored == BFLOAT16:
        _panels(np.float32(0), np.uint16(0), products, number, x, start, ldx, y, to, ldy, lanes)
    else:
        _whole_panels(products, number, x, start, ldx, y, to, ldy, me)


@jit
def _whole_panels(products: Any, number: Any, x: Any, start: Any, ldx: Any, y: Any, to: Any, ldy: Any, me: Any) -> None:
    """A product with int8 weights: x is rounded to int16, as coarsely as sums in int32 need it."""
    w, out, k, count = (
        products[number, PRODUCT_WEIGHTS],
        products[number, PRODUCT_OUT],
        products[number, PRODUCT_INPUTS],
        products[number, PRODUCT_PANELS],
    )
    lanes, room, scales, tag = me[LANES_HERE], me[WHOLE], me[WHOLE_SCALES], np.float32(0)
    n = inputs_of_a_step()
    ldr, steps, most = me[ROOM], (k + n - 1) // n, np.float32(min(32767, 2**31 // (128 * (k + 1))))
    for lane in range(lanes):
        source = view(x, start + lane * ldx, k, tag)
        greatest = greater(_greatest(source), np.float32(1e-30))
        view(scales, lane, 1, tag)[0] = greatest / most
        _round(source, most / greatest, view(room, lane * ldr, n * steps, np.int16(0)))
    i = 0
    while i < count:
        size, first = group_size(count - i), i * PANEL
        start_w = first * (4 + n * steps)  # before the weights stands an int32 for each output
        for lane in range(lanes):
            target = to + lane * ldy + first
            if size == TOGETHER:
                whole_panels(TOGETHER, w, start_w, room, lane * ldr, scales, lane, y, target, out, first, steps)
            elif size == 2:
                whole_panels(2, w, start_w, room, lane * ldr, scales, lane, y, target, out, first, steps)
            else:
                whole_panels(1, w, start_w, room, lane * ldr, scales, lane, y, target, out, first, steps)
        i += size


@jit
def _greatest(x: Any) -> Any:
    greatest = np.float32(0)
    for i in range(len(x)):
        greatest = greater(greatest, abs(x[i]))
    return greatest


@jit
def _round(x: Any, factor: Any, whole: Any) -> None:
    for i in range(len(x)):
        whole[i] = np.int16(np.int32(np.rint(x[i] * factor)))


@jit
def _panels(tag: Any, kind: Any, products: Any, number: Any, x: Any, start: Any, ldx: Any, y: Any, to: Any, ldy: Any, lanes: Any) -> None:
    w, out, k, count = (
        products[number, PRODUCT_WEIGHTS],
        products[number, PRODUCT_OUT],
        products[number, PRODUCT_INPUTS],
        products[number, PRODUCT_PANELS],
    )
    i = 0
    while i < count:
        size, first = group_size(count - i), i * PANEL
        start_w, lane = first * k, 0
        # As `packed_weights._grouped` lays them out.
        ldw, ldp = (PANEL, k * PANEL) if products[number, PRODUCT_STORED] == FULL else (size * PANEL, PANEL)
        while lane + TOGETHER <= lanes:
            for column in range(size):
                own, own_w, output = start + lane * ldx, start_w + column * ldp, first + column * PANEL
                panels(TOGETHER, 1, tag, kind, w, own_w, ldw, ldp, x, own, ldx, y, to + lane * ldy + output, ldy, out, output, k)
            lane += TOGETHER
        while lane < lanes:
            own, target = start + lane * ldx, to + lane * ldy + first
            if size == TOGETHER:
                panels(1, TOGETHER, tag, kind, w, start_w, ldw, ldp, x, own, ldx, y, target, ldy, out, first, k)
            elif size == 2:
                panels(1, 2, tag, kind, w, start_w, ldw, ldp, x, own, ldx, y, target, ldy, out, first, k)
            else:
                panels(1, 1, tag, kind, w, start_w, ldw, ldp, x, own, ldx, y, target, ldy, out, first, k)
            lane += 1
        i += size


# Here the order of a sum may change, so that it can be taken in vectors.
@njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _mean_square(x: Any, tag: Any) -> Any:
    total = like(0, tag)
    for i in range(len(x)):
        total += x[i] * x[i]
    return total / like(len(x), tag)


@njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _mean(x: Any, tag: Any) -> Any:
    total = like(0, tag)
    for i in range(len(x)):
        total += x[i]
    return total / like(len(x), tag)


@jit
def normalise(tag: Any, x: Any, ldx: Any, width: Any, me: Any) -> None:
    """U = x / rms(x), or of x less its mean; the norm's own weights and biases are part of the product that follows."""
    for lane in range(me[LANES_HERE]):
        source, target = view(x, lane * ldx, width, tag), view(me[U], lane * me[ROOM], width, tag)
        mean = _mean(source, tag) if me[CENTRED] else like(0, tag)
        for i in range(width):
            target[i] = source[i] - mean
        factor = like(1, tag) / np.sqrt(_mean_square(target, tag) + like(EPSILON, tag))
        for i in range(width):
            target[i] *= factor


@jit
def _convolve(tag: Any, o: Any, i: Any, me: Any) -> None:
    """The causal convolution of this worker's rows, from V into W; its window moves on."""
    rows, taps = o[i, ROWS], o[i, TAPS]
    bias, newest = view(o[i, CONV_BIAS], 0, rows, tag), view(o[i, KERNEL], (taps - 1) * rows, rows, tag)
    for lane in range(me[LANES_HERE]):
        x, y = view(me[V], lane * me[ROOM], rows, tag), view(me[W], lane * me[ROOM], rows, tag)
        for j in range(rows):
            y[j] = bias[j] + newest[j] * x[j]
        before = lane * (taps - 1) * rows
        for k in range(taps - 1):
            kernel, old = view(o[i, KERNEL], k * rows, rows, tag), view(o[i, CONV_WINDOW], before + k * rows, rows, tag)
            for j in range(rows):
                y[j] += kernel[j] * old[j]
            following = x if k == taps - 2 else view(o[i, CONV_WINDOW], before + (k + 1) * rows, rows, tag)
            for j in range(rows):
                old[j] = following[j]


@jit
def _recur(tag: Any, o: Any, i: Any, me: Any) -> None:
    """One step of this worker's units, whose gates stand in GATES; the loops are short of operands so that they become vector code."""
    units, per_head = o[i, UNITS], o[i, HEAD_UNITS]
    gate_stride = (2 * per_head + PANEL - 1) // PANEL * PANEL
    two = like(2, tag)
    decay, fresh = view(o[i, DECAY], 0, units, tag), view(o[i, FRESH], 0, me[LANES_HERE], tag)
    for lane in range(me[LANES_HERE]):
        room, gates = lane * me[ROOM], view(me[GATES], lane * me[ROOM], o[i, HEADS] * gate_stride, tag)
        both = view(me[U], room, 2 * units, tag)
        r, gate, modulus = both[:units], both[units:], view(me[U], room + 2 * units, units, tag)
        for head in range(o[i, HEADS]):
            recurrence, inputs = gates[head * gate_stride :], gates[head * gate_stride + per_head :]
            r_head, gate_head = r[head * per_head :], gate[head * per_head :]
            for j in range(per_head):
                r_head[j] = recurrence[j]
                gate_head[j] = inputs[j]
        for j in range(2 * units):
            both[j] = sigmoid(both[j])
        if fresh[lane] != 0 and me[UNIT_FIRST_STEP] != 0:
            for j in range(units):
                modulus[j] = exp_expm1(r[j] * decay[j])[0]
        else:
            for j in range(units):
                modulus[j], less_one = exp_expm1(r[j] * decay[j])
                gate[j] *= np.sqrt(-less_one * (less_one + two))
        x, h = view(me[W], room + o[i, REAL_AT], units, tag), view(o[i, H], lane * o[i, PARTS] * units, units, tag)
        if o[i, PARTS] == 1:
            for j in range(units):
                h[j] = modulus[j] * h[j] + gate[j] * x[j]
            continue
        angle, x_imaginary = view(o[i, ANGLE], 0, units, tag), view(me[W], room + o[i, IMAGINARY_AT], units, tag)
        h_imaginary, imaginary = view(o[i, H], (2 * lane + 1) * units, units, tag), view(me[U], room + 3 * units, units, tag)
        for j in range(units):
            sine, cosine = sine_cosine(r[j] * angle[j])
            imaginary[j] = modulus[j] * sine
            modulus[j] *= cosine
        for j in range(units):
            r[j] = modulus[j] * h[j] - imaginary[j] * h_imaginary[j]
        for j in range(units):
            h_imaginary[j] = modulus[j] * h_imaginary[j] + imaginary[j] * h[j]
        for j in range(units):
            h_imaginary[j] += gate[j] * x_imaginary[j]
        for j in range(units):
            h[j] = r[j] + gate[j] * x[j]


@jit
def _gated(tag: Any, gate: Any, at: Any, ldg: Any, x: Any, start: Any, ldx: Any, size: Any, lanes: Any) -> None:
    """gate = GELU(gate) * x, for all lanes."""
    for lane in range(lanes):
        g, values = view(gate, at + lane * ldg, size, tag), view(x, start + lane * ldx, size, tag)
        for j in range(size):
            g[j] = gelu(g[j]) * values[j]


@jit
def _add_parts(tag: Any, o: Any, i: Any, me: Any, parts: Any) -> None:
    """Add to x what the workers of the team have computed, each from its share of the inputs."""
    for rank in range(me[RANKS]):
        for lane in range(me[LANES_HERE]):
            x = view(o[i, X], lane * o[i, STRIDE], o[i, WIDTH], tag)
            part = view(parts, rank * me[PARTIAL_SIZE] + lane * o[i, STRIDE], o[i, WIDTH], tag)
            for j in range(len(x)):
                x[j] += part[j]


@jit
def _sum_parts(tag: Any, o: Any, i: Any, me: Any, parts: Any) -> None:
    """This worker's gated channels of what the team has computed, each from its share of the inputs, into U."""
    for lane in range(me[LANES_HERE]):
        total = view(me[U], lane * me[ROOM], o[i, GATED], tag)
        for j in range(len(total)):
            total[j] = like(0, tag)
        for rank in range(me[RANKS]):
            part = view(parts, rank * me[PARTIAL_SIZE] + lane * o[i, STRIDE] + o[i, FIRST_GATED], o[i, GATED], tag)
            for j in range(len(total)):
                total[j] += part[j]


@jit
def block(tag: Any, o: Any, i: Any, products: Any, me: Any) -> None:
    """A residual block, `harmonicrnn.models.block.ResidualBlock`."""
    lanes, room, stride, width = me[LANES_HERE], me[ROOM], o[i, STRIDE], o[i, WIDTH]
    mixed, added = me[PARTIAL], me[PARTIAL] + me[PARTIAL_BYTES]
    own, zero = me[RANK] * me[PARTIAL_SIZE], np.int64(0)  # a plain 0 would have what it is given to compiled for it once more
    normalise(tag, o[i, X], stride, width, me)
    product(tag, products, o[i, INPUTS], me[U], zero, room, me[V], zero, room, me)
    _convolve(tag, o, i, me)
    source, lds, size = me[W], room, o[i, UNITS]
    if o[i, PARTS] != 0:
        gate_stride = (2 * o[i, HEAD_UNITS] + PANEL - 1) // PANEL * PANEL
        for head in range(o[i, HEADS]):
            start = o[i, HEADS_AT] + head * o[i, HEAD_WIDTH]
            product(tag, products, o[i, RECURRENCE_GATES] + head, me[W], start, room, me[GATES], head * gate_stride, room, me)
        _recur(tag, o, i, me)
        size = o[i, PARTS] * o[i, UNITS]
        source, lds = o[i, H], size
    if o[i, PROJECTED]:
        projected = me[PARTIAL] + 2 * me[PARTIAL_BYTES]
        product(tag, products, o[i, PROJECTION], source, zero, lds, projected, own, stride, me)
        meet(me)
        _sum_parts(tag, o, i, me, projected)
        source, lds, size = me[U], room, o[i, GATED]
    _gated(tag, me[V], o[i, GATE_AT], room, source, zero, lds, size, lanes)
    product(tag, products, o[i, OUTPUT], me[V], o[i, GATE_AT], room, mixed, own, stride, me)
    meet(me)
    _add_parts(tag, o, i, me, mixed)
    normalise(tag, o[i, X], stride, width, me)
    product(tag, products, o[i, MLP_INPUTS], me[U], zero, room, me[V], zero, room, me)
    _gated(tag, me[V], zero, room, me[V], o[i, HIDDEN_AT], room, o[i, HIDDEN], lanes)
    product(tag, products, o[i, MLP_OUTPUT], me[V], zero, room, added, own, stride, me)
    meet(me)
    _add_parts(tag, o, i, me, added)


@jit
def enter(tag: Any, o: Any, i: Any, products: Any, me: Any, phase: Any) -> Any:
    """x into the pooling window, and the full window into the level below; returns whether it was full."""
    groups, group_width, factor = o[i, GROUPS], o[i, GROUP_WIDTH], o[i, FACTOR]
    size, lanes, zero = factor * group_width, me[LANES_HERE], np.int64(0)
    for lane in range(lanes):
        for group in range(groups):
            x = view(o[i, X], lane * o[i, STRIDE] + group * group_width, group_width, tag)
            place = view(o[i, WINDOW], (lane * groups + group) * size + phase * group_width, group_width, tag)
            for j in range(group_width):
                place[j] = x[j]
    if o[i, FRAME]:
        merge(tag, o, i, me, phase)
    if phase < factor - 1:
        return False
    inner_width = o[i, INNER_GROUP_WIDTH]
    if o[i, BY_CHANNEL]:
        _down_by_channel(tag, o, i, lanes)
        return True
    for group in range(groups):
        product(tag, products, o[i, DOWN] + group, o[i, WINDOW], group * size, groups * size, me[V], zero, me[ROOM], me)
        for lane in range(lanes):
            pooled = view(me[V], lane * me[ROOM], inner_width, tag)
            x = view(o[i, INNER_X], lane * o[i, INNER_STRIDE] + group * inner_width, inner_width, tag)
            for j in range(inner_width):
                x[j] = pooled[j]
    return True


@jit
def _down_by_channel(tag: Any, o: Any, i: Any, lanes: Any) -> None:
    width, factor = o[i, GROUP_WIDTH], o[i, FACTOR]
    bias = view(o[i, DOWN_BIAS], 0, width, tag)
    for lane in range(lanes):
        x = view(o[i, INNER_X], lane * o[i, INNER_STRIDE], width, tag)
        for j in range(width):
            x[j] = bias[j]
        for k in range(factor):
            kernel = view(o[i, DOWN], k * width, width, tag)
            step = view(o[i, WINDOW], (lane * factor + k) * width, width, tag)
            for j in range(width):
                x[j] += kernel[j] * step[j]


@jit
def _up_by_channel(tag: Any, o: Any, i: Any, lanes: Any) -> None:
    width, factor = o[i, GROUP_WIDTH], o[i, FACTOR]
    bias = view(o[i, UP_BIAS], 0, width, tag)
    for lane in range(lanes):
        x = view(o[i, INNER_X], lane * o[i, INNER_STRIDE], width, tag)
        for k in range(factor):
            kernel = view(o[i, UP], k * width, width, tag)
            step = view(o[i, RAISED], lane * o[i, RAISED_STRIDE] + k * width, width, tag)
            for j in range(width):
                step[j] = bias[j] + kernel[j] * x[j]


@jit
def leave(tag: Any, o: Any, i: Any, products: Any, me: Any) -> None:
    """The result of the level below, for the next FACTOR steps; no lane is fresh there any more."""
    groups, stride = o[i, GROUPS], o[i, RAISED_STRIDE]
    began(tag, o[i, INNER_FRESH], me)
    if o[i, BY_CHANNEL]:
        _up_by_channel(tag, o, i, me[LANES_HERE])
        return
    for group in range(groups):
        start = group * o[i, INNER_GROUP_WIDTH]
        product(
            tag, products, o[i, UP] + group, o[i, INNER_X], start, o[i, INNER_STRIDE], o[i, RAISED], group * stride, groups * stride,
            me,
        )  # fmt: skip


@jit
def merge(tag: Any, o: Any, i: Any, me: Any, step: Any) -> None:
    """Add one of the FACTOR steps that came from the level below to x."""
    groups, group_width = o[i, GROUPS], o[i, GROUP_WIDTH]
    for lane in range(me[LANES_HERE]):
        for group in range(groups):
            x = view(o[i, X], lane * o[i, STRIDE] + group * group_width, group_width, tag)
            start = (lane * groups + group) * o[i, RAISED_STRIDE] + step * group_width
            raised = view(o[i, RAISED], start, group_width, tag)
            for j in range(group_width):
                x[j] += raised[j]


@jit
def began(tag: Any, fresh: Any, me: Any) -> None:
    """No lane is fresh any more."""
    flags = view(fresh, 0, me[LANES_HERE], tag)
    for lane in range(len(flags)):
        flags[lane] = like(0, tag)
