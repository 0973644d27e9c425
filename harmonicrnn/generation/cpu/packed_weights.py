"""The weights of a model as the compiled code reads them: in the order in which it does, laid out once."""

import mmap
from contextlib import suppress
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.generation.cpu.int8_products import lay_out
from harmonicrnn.generation.cpu.layers import BFLOAT16, FULL, INT8
from harmonicrnn.generation.cpu.llvm import LINE, PANEL, group_size

Stored = Literal["full", "bfloat16", "int8"]
"""How the weights of products are kept: as the activations are, or in fewer bits; sums and states are as the activations in any case."""

MIN_INT8 = 64
"""Inputs below which weights are kept in bfloat16 instead of int8: rounding x to whole numbers would cost more than it saves."""


ALL = slice(None)


def padded(size: int) -> int:
    """The size in whole panels."""
    return -(-size // PANEL) * PANEL


def aligned(shape: int | tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that begin with a cache line and have a panel more behind them, so that whole panels may be read and written."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(size + PANEL * 8 + LINE, dtype=np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def address(array: np.ndarray) -> int:
    return array.ctypes.data


def share(size: int, rank: int, ranks: int, unit: int = 1) -> slice:
    """The part of `size` things that one of `ranks` workers takes, in whole units."""
    units = -(-size // unit)
    return slice(min(size, units * rank // ranks * unit), min(size, units * (rank + 1) // ranks * unit))


class Products:
    """Matrices with their biases, collected and then laid out one behind the other."""

    def __init__(self, dtype: np.dtype, stored: Stored) -> None:
        self.dtype, self.stored = dtype, stored
        self._weights: list[np.ndarray] = []  # bytes of each, as `_grouped` gives them
        self._rows: list[tuple[int, int, int]] = []  # inputs, panels and the code of how they are stored
        self._outs: list[np.ndarray] = []  # (panels, 2, PANEL) each: biases and scales

    def add(self, matrix: Tensor, bias: Tensor | None, own: slice | Tensor = ALL) -> int:
        """y = bias + x matrix, of a matrix (inputs, outputs) of which only the `own` inputs are kept; returns the product's number.

        How weights are rounded follows from the whole matrix, so that it does not depend on who shares it.
        """
        whole, outputs = len(matrix), matrix.shape[1]
        largest = matrix.detach().double().abs().amax(dim=0).numpy()
        matrix = matrix[own]
        inputs = len(matrix)
        wide, out = np.zeros((inputs, padded(outputs))), np.zeros((2, padded(outputs)))
        wide[:, :outputs] = matrix.detach().double().numpy()
        if bias is not None:
            out[0, :outputs] = bias.detach().double().numpy()
        code = FULL if self.stored == "full" else INT8 if self.stored == "int8" and whole >= MIN_INT8 else BFLOAT16
        out[1] = 1
        if code == INT8:
            out[1, :outputs] = np.where(largest > 0, largest / 127, 1)
            kept = np.rint(wide / out[1]).astype(np.int8)
        else:
            kept = wide.astype(self.dtype) if code == FULL else torch.from_numpy(wide).bfloat16().view(torch.int16).numpy()
        panels = kept.reshape(inputs, padded(outputs) // PANEL, PANEL).transpose(1, 0, 2)
        self._weights.append(_grouped(panels, code))
        self._outs.append(np.ascontiguousarray(out.reshape(2, padded(outputs) // PANEL, PANEL).transpose(1, 0, 2), dtype=self.dtype))
        self._rows.append((inputs, padded(outputs) // PANEL, code))
        return len(self._rows) - 1

    def lay_out(self) -> np.ndarray:
        """The table of products, (products, 5) int64; what it leads to lives as long as this object."""
        sizes = [-(-weights.nbytes // LINE) * LINE for weights in self._weights]
        self.memory = _large_pages(sum(sizes))
        table, start = [], 0
        for weights, out, row, size in zip(self._weights, self._outs, self._rows, sizes, strict=True):
            place = self.memory[start : start + weights.nbytes]
            place[:] = weights
            table.append((address(place), address(out), *row))
            start += size
        self._weights.clear()
        return np.array(table, dtype=np.int64)


def _large_pages(size: int) -> np.ndarray:
    """So many bytes, in pages of 2 MB where the system has them: they are looked up less often."""
    memory = mmap.mmap(-1, size + PANEL * 8, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype=np.uint8)


def _grouped(panels: np.ndarray, code: int) -> np.ndarray:
    """The bytes of panels (panels, inputs, 16) in the order of their use: one after the other, or those side by side for each input that
    are computed together.

    Weights in fewer bits are read fastest as one stream, asked for ahead; full ones as several, which the processor itself reads ahead.
    """
    pieces, start = [np.empty(0, dtype=np.uint8)], 0
    while start < len(panels):
        size = 1 if code == FULL else group_size(len(panels) - start)
        group = panels[start : start + size]
        pieces.append(lay_out(group) if code == INT8 else np.ascontiguousarray(group.swapaxes(0, 1)).reshape(-1).view(np.uint8))
        start += size
    return np.concatenate(pieces)
