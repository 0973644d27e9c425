"""Memory-mapped access to prepared recordings."""

import mmap
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules.manifest import BLOCK, Entry
from datamodules.preparation import FULL_SCALE, shard_path
from harmonicrnn.errors import UserError

OPEN_SHARDS = 512  # mapped at a time in each process; a map uses a file handle, and memory only for the pages read


class Recordings:
    """16-bit samples of several recordings, memory-mapped.

    Args:
        shards: folder of the shards.
        entries: entries of the manifest.
        ranges: range (start, stop) of samples of each entry that is used as the recording; None for all samples.
    """

    def __init__(self, shards: Path, entries: Sequence[Entry], ranges: Sequence[tuple[int, int]] | None = None) -> None:
        self.shards, self.entries = shards, entries
        self.ranges = [(0, entry.length) for entry in entries] if ranges is None else ranges

    @property
    def lengths(self) -> list[int]:
        """Number of samples in each recording."""
        return [stop - start for start, stop in self.ranges]

    def read(self, recording: int, start: int, stop: int) -> np.ndarray:
        """Return samples as int16 (stop - start,)."""
        entry, first = self.entries[recording], self.ranges[recording][0]
        shard = map_shard(shard_path(self.shards, entry.source), entry.length, entry.checksum)
        start, stop = first + start, first + stop
        page = 2 * start // mmap.PAGESIZE * mmap.PAGESIZE
        if stop > start:
            # Read ahead: page by page takes four times as long.
            shard.madvise(mmap.MADV_WILLNEED, page, 2 * stop - page)
        return np.frombuffer(shard, "<i2", stop - start, 2 * start)

    def samples(self, recording: int, start: int, stop: int) -> Tensor:
        """Return samples as float32 (stop - start,) in [-1, 1]."""
        return torch.from_numpy(self.read(recording, start, stop).astype(np.float32)) / FULL_SCALE

    def extremes(self, recording: int, start: int, stop: int) -> tuple[float, float]:
        """Return minimum and maximum of samples [start, stop), in [-1, 1]; reads only samples not covered by blocks of the manifest."""
        entry, offset = self.entries[recording], self.ranges[recording][0]
        first, last = -(-(offset + start) // BLOCK), (offset + stop) // BLOCK
        if first >= last:
            samples = self.read(recording, start, stop)
            return int(samples.min()) / FULL_SCALE, int(samples.max()) / FULL_SCALE
        begin, end = first * BLOCK - offset, last * BLOCK - offset
        edges = np.concatenate([self.read(recording, start, begin), self.read(recording, end, stop)])
        low, high = min(entry.low[first:last]), max(entry.high[first:last])
        return int(edges.min(initial=low)) / FULL_SCALE, int(edges.max(initial=high)) / FULL_SCALE


@lru_cache(OPEN_SHARDS)
def map_shard(path: Path, length: int, checksum: str) -> mmap.mmap:
    """Map the shard of a recording of `length` samples; `checksum` tells its versions apart.

    Raises:
        UserError: it cannot be read, or its length has changed.
    """
    try:
        with path.open("rb") as file:
            shard = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:  # ValueError: empty file
        raise UserError(f"{path}: was prepared and can no longer be read: {error}") from error
    if len(shard) != 2 * length:
        raise UserError(f"{path}: was changed while it was in use; resume when its recording is restored, or start a new training")
    return shard
