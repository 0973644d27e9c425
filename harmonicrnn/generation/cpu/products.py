"""Matrix products of the CPU engine: packing of weights in the order of use, and the compiled product."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.generation.cpu.addresses import WORKER, address, large_pages, layout, padded
from harmonicrnn.generation.cpu.int8_products import int8_product, lay_out
from harmonicrnn.generation.cpu.llvm import LINE, PANEL, TOGETHER, group_size, panels, record, view
from harmonicrnn.machine_code import jit, kept

Stored = Literal["full", "bfloat16", "int8"]
"""Storage of weights: the dtype of the activations ("full") or fewer bits. Sums and states always have the former."""

FULL, BFLOAT16, INT8 = range(3)  # codes of these; the last two only with float32 activations

MIN_INT8 = 64
"""Fewest inputs for int8; below, weights are bfloat16, since rounding x would cost more than int8 saves."""

PRODUCT = layout(
    "groups", "table", "inputs", "panels", "stored", "source", "source_stride", "source_step", "target", "target_stride", "target_step"
)
"""y = bias + weights x for all lanes and groups, from `inputs` numbers to `panels` panels. `table` (groups, 2): addresses of the weights,
and of pairs of 16 biases and 16 scales. `source_step` and `target_step`: distances of groups."""


class Products:
    """Collects matrices with their biases, and packs them into contiguous memory."""

    def __init__(self, dtype: np.dtype, stored: Stored) -> None:
        self.dtype, self.stored = dtype, stored
        self._weights: list[np.ndarray] = []  # bytes of each, from `_grouped`
        self._outs: list[np.ndarray] = []  # (panels, 2, PANEL) each: biases and scales
        self._places: list[np.ndarray] = []

    def code(self, inputs: int) -> int:
        """Returns the storage code of a matrix with `inputs` inputs."""
        return FULL if self.stored == "full" else INT8 if self.stored == "int8" and inputs >= MIN_INT8 else BFLOAT16

    def round(self, weights: Tensor) -> None:
        """Rounds matrices (..., inputs, outputs) in place to their stored precision; int8 has a scale per output."""
        code = self.code(weights.shape[-2])
        if code == INT8:
            scale = weights.abs().amax(dim=-2, keepdim=True) / 127
            weights.copy_((weights / torch.where(scale > 0, scale, 1)).round() * scale)
        elif code == BFLOAT16:
            weights.copy_(weights.bfloat16())

    def add(self, matrix: Tensor, bias: Tensor | None, own: Tensor | slice) -> int:
        """Adds y = bias + x matrix for a rounded matrix (inputs, outputs), keeping its `own` inputs; returns its number."""
        whole, outputs = matrix.detach().double().numpy(), matrix.shape[1]
        kept = whole[own]
        wide, out = np.zeros((len(kept), padded(outputs))), np.zeros((2, padded(outputs)))
        wide[:, :outputs] = kept
        if bias is not None:
            out[0, :outputs] = bias.detach().double().numpy()
        out[1], code = 1, self.code(len(whole))
        if code == INT8:
            largest = np.abs(whole).max(axis=0)  # over all inputs, so that it does not depend on the number of workers
            out[1, :outputs] = np.where(largest > 0, largest / 127, 1)
            numbers = np.rint(wide / out[1]).astype(np.int8)
        else:
            numbers = wide.astype(self.dtype) if code == FULL else torch.from_numpy(wide).bfloat16().view(torch.int16).numpy()
        by_panel = numbers.reshape(len(kept), padded(outputs) // PANEL, PANEL).transpose(1, 0, 2)
        self._weights.append(_grouped(by_panel, code))
        self._outs.append(np.ascontiguousarray(out.reshape(2, -1, PANEL).transpose(1, 0, 2), dtype=self.dtype))
        return len(self._weights) - 1

    def lay_out(self) -> None:
        sizes = [-(-weights.nbytes // LINE) * LINE for weights in self._weights]
        memory, start = large_pages(sum(sizes)), 0
        for weights, size in zip(self._weights, sizes, strict=True):
            self._places.append(memory[start : start + weights.nbytes])
            self._places[-1][:] = weights
            start += size
        self._weights.clear()

    def addresses(self, number: int) -> tuple[int, int]:
        """Returns the addresses of a product's weights and of its biases and scales, valid while this object lives."""
        return address(self._places[number]), address(self._outs[number])


def _grouped(by_panel: np.ndarray, code: int) -> np.ndarray:
    """Returns the bytes of panels (panels, inputs, 16) in the order of use: panel after panel, or interleaved by input for panels computed
    together.

    Weights in fewer bits are read fastest as one prefetched stream, full ones as several streams that the hardware prefetches.
    """
    pieces, start = [np.empty(0, dtype=np.uint8)], 0
    while start < len(by_panel):
        size = 1 if code == FULL else group_size(len(by_panel) - start)
        group = by_panel[start : start + size]
        pieces.append(lay_out(group) if code == INT8 else np.ascontiguousarray(group.swapaxes(0, 1)).reshape(-1).view(np.uint8))
        start += size
    return np.concatenate(pieces)


@kept
def product(tag: Any, at: Any, worker: Any) -> Any:
    """The step of a PRODUCT with full weights; it writes whole panels."""
    o, me = record(at, PRODUCT), record(worker, WORKER)
    table = view(o.table, 0, 2 * o.groups, np.int64(0))
    for group in range(o.groups):
        _panels(tag, tag, o, table[2 * group], table[2 * group + 1], group * o.source_step, group * o.target_step, me.lanes)
    return np.int64(0)


@kept
def product_in_fewer_bits(tag: Any, at: Any, worker: Any) -> Any:
    """The step of a PRODUCT with weights in fewer bits; it writes whole panels."""
    o, me = record(at, PRODUCT), record(worker, WORKER)
    table = view(o.table, 0, 2 * o.groups, np.int64(0))
    for group in range(o.groups):
        w, out, x, y = table[2 * group], table[2 * group + 1], group * o.source_step, group * o.target_step
        if o.stored == BFLOAT16:
            _panels(tag, np.uint16(0), o, w, out, x, y, me.lanes)
        else:
            int8_product(o, w, out, x, y, me)
    return np.int64(0)


@jit
def _panels(tag: Any, kind: Any, o: Any, w: Any, out: Any, start: Any, to: Any, lanes: Any) -> None:
    x, y, k, ldx, ldy = o.source, o.target, o.inputs, o.source_stride, o.target_stride
    i = 0
    while i < o.panels:
        size, first = group_size(o.panels - i), i * PANEL
        start_w, lane = first * k, np.int64(0)  # a literal 0 would compile its callees once more
        # The layout of `_grouped`.
        ldw, ldp = (PANEL, k * PANEL) if o.stored == FULL else (size * PANEL, PANEL)
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
