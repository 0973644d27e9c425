"""Buffers that compiled code accesses by address: arrays aligned to cache lines, and one row per lane (`Room`)."""

import mmap
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from harmonicrnn.generation.cpu.llvm import LINE, PANEL

SPARE = PANEL * 8  # bytes after an array, so that whole panels can be read and written


def padded(size: int) -> int:
    """Rounds a size up to whole panels."""
    return -(-size // PANEL) * PANEL


def aligned(shape: int | tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Returns zeros aligned to a cache line."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(size + SPARE + LINE, dtype=np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def large_pages(size: int) -> np.ndarray:
    """Returns `size` bytes, in pages of 2 MB if the system has them, which need fewer address lookups."""
    memory = mmap.mmap(-1, size + SPARE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # not supported by the kernel
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype=np.uint8)


def address(array: np.ndarray) -> int:
    return array.ctypes.data


def layout(*names: str, **other: str) -> np.dtype:
    """Returns the dtype of an operation's record: int64 fields (sizes and addresses), and others with numpy type names."""
    return np.dtype([(name, "i8") for name in names] + list(other.items()))


WORKER = layout("lanes", "rank", "ranks", "epoch", "flags", "whole", "whole_stride", "whole_scales", "logits", "logits_stride", "classes")
"""Arguments common to all steps: lanes; the worker's rank, the number of ranks that share each layer, barriers passed (epoch), and the
address of their flags; int16 scratch; the logits."""


class Room:
    """A buffer with one row per lane that operations read and write.

    Attributes:
        width: row stride in elements, whole panels.
        array: (lanes, width), reallocated for each number of lanes.
    """

    def __init__(self, dtype: np.dtype, width: int = 0) -> None:
        self.dtype, self.width = dtype, padded(width)
        self.array = np.empty((0, 0), dtype)

    def need(self, width: int) -> None:
        """Grows the width to at least `width`."""
        self.width = max(self.width, padded(width))

    def begin(self, lanes: int) -> None:
        self.array = aligned((lanes, self.width), self.dtype)

    def __getitem__(self, start: int) -> "Place":
        return Place(self, start)


class Place(NamedTuple):
    """A column of a room at which an operation reads or writes."""

    room: Room
    start: int

    @property
    def address(self) -> int:
        return address(self.room.array) + self.start * self.room.dtype.itemsize
