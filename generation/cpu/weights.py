"""The weights of a model as the compiled code reads them: in the order in which it does, laid out once."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from generation.cpu.layers import BFLOAT16, FULL, INT8
from generation.cpu.vector import PANEL

Stored = Literal["full", "bfloat16", "int8"]
"""How the weights of products are kept: as the activations are, or in fewer bits; sums and states are as the activations in any case."""

ALIGNMENT = 64  # bytes of a cache line


def padded(size: int) -> int:
    """The size in whole panels."""
    return -(-size // PANEL) * PANEL


def aligned(shape: int | tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that begin with a cache line and have a panel more behind them, so that whole panels may be read and written."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(size + PANEL * 8 + ALIGNMENT, dtype=np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
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
        self._weights: list[np.ndarray] = []  # (panels, inputs, PANEL) each
        self._outs: list[np.ndarray] = []  # (panels, 2, PANEL) each: biases and scales

    def add(self, matrix: Tensor, bias: Tensor | None) -> int:
        """y = bias + x matrix, of a matrix (inputs, outputs); returns the product's number."""
        inputs, outputs = matrix.shape
        wide, out = np.zeros((inputs, padded(outputs))), np.zeros((2, padded(outputs)))
        wide[:, :outputs] = matrix.detach().double().numpy()
        if bias is not None:
            out[0, :outputs] = bias.detach().double().numpy()
        stored, out[1] = self._encode(wide)
        self._weights.append(stored.reshape(inputs, padded(outputs) // PANEL, PANEL).transpose(1, 0, 2))
        self._outs.append(np.ascontiguousarray(out.reshape(2, padded(outputs) // PANEL, PANEL).transpose(1, 0, 2), dtype=self.dtype))
        return len(self._weights) - 1

    def _encode(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray | float]:
        """The stored numbers, and the scale of each column."""
        if self.stored == "full":
            return matrix.astype(self.dtype), 1.0
        if self.stored == "bfloat16":
            return torch.from_numpy(matrix).bfloat16().view(torch.int16).numpy().view(np.uint16), 1.0
        scales = np.abs(matrix).max(axis=0, initial=0) / 127
        scales[scales == 0] = 1
        return np.rint(matrix / scales).astype(np.int8), scales

    def lay_out(self) -> np.ndarray:
        """The table of products, (products, 5) int64; what it leads to lives as long as this object."""
        sizes = [-(-weights.nbytes // ALIGNMENT) * ALIGNMENT for weights in self._weights]
        self.memory = aligned(sum(sizes), np.dtype(np.uint8))
        rows, start, code = [], 0, {"full": FULL, "bfloat16": BFLOAT16, "int8": INT8}[self.stored]
        for weights, out, size in zip(self._weights, self._outs, sizes, strict=True):
            place = self.memory[start : start + weights.nbytes]
            place[:] = np.ascontiguousarray(weights).reshape(-1).view(np.uint8)
            rows.append((address(place), address(out), weights.shape[1], weights.shape[0], code))
            start += size
        self._weights.clear()
        return np.array(rows, dtype=np.int64).reshape(-1, 5)
