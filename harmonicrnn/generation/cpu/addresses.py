"""Memory that compiled code reads and writes by address: arrays that begin with a cache line, and rows of numbers for each lane."""

import mmap
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from harmonicrnn.generation.cpu.llvm import LINE, PANEL

SPARE = PANEL * 8  # bytes behind an array, so that whole panels may be read and written


def padded(size: int) -> int:
    """The size in whole panels."""
    return -(-size // PANEL) * PANEL


def aligned(shape: int | tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Zeros that begin with a cache line."""
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.zeros(size + SPARE + LINE, dtype=np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def large_pages(size: int) -> np.ndarray:
    """So many bytes, in pages of 2 MB where the system has them: they are looked up less often."""
    memory = mmap.mmap(-1, size + SPARE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, dtype=np.uint8)


def address(array: np.ndarray) -> int:
    return array.ctypes.data


def layout(*names: str, **other: str) -> np.dtype:
    """The type of an operation's record: fields of int64 (sizes and addresses), and others as numpy names their types."""
    return np.dtype([(name, "i8") for name in names] + list(other.items()))


class Room:
    """A row of numbers for each lane, that operations write and others read.

    Attributes:
        width: numbers from one lane to the next, whole panels.
        array: (lanes, width), made anew for each number of lanes.
    """

    def __init__(self, dtype: np.dtype, width: int = 0) -> None:
        self.dtype, self.width = dtype, padded(width)
        self.array = np.empty((0, 0), dtype)

    def need(self, width: int) -> None:
        """Be at least so wide."""
        self.width = max(self.width, padded(width))

    def begin(self, lanes: int) -> None:
        self.array = aligned((lanes, self.width), self.dtype)

    def __getitem__(self, start: int) -> "Place":
        return Place(self, start)


class Place(NamedTuple):
    """Where in a room an operation reads or writes."""

    room: Room
    start: int

    @property
    def address(self) -> int:
        return address(self.room.array) + self.start * self.room.dtype.itemsize
