"""Dataset of clips: reads, scales, quantises and pads pieces of recordings, and collates them to batches; and prepared recordings."""

import mmap
from collections.abc import Sequence
from copy import copy
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.manifest import BLOCK, Entry
from datamodules.orders import Piece
from datamodules.preparation import FULL_SCALE, shard_path
from harmonicrnn.audio import Batch, Quantiser, Scaling, scale, span_of
from harmonicrnn.audio.quantise import OF_WHOLE_FILES, Span
from harmonicrnn.errors import UserError

if TYPE_CHECKING:
    from datamodules.generated_audio import GeneratedRecordings

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
        self._map = lru_cache(OPEN_SHARDS)(self._map_shard)

    @property
    def lengths(self) -> list[int]:
        """Number of samples in each recording."""
        return [stop - start for start, stop in self.ranges]

    def read(self, recording: int, start: int, stop: int) -> np.ndarray:
        """Return samples as int16 (stop - start,)."""
        shard, first = self._map(recording), self.ranges[recording][0]
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

    def _map_shard(self, recording: int) -> mmap.mmap:
        """Map a recording's shard. Raises UserError if it cannot be read or its length has changed."""
        entry = self.entries[recording]
        path = shard_path(self.shards, entry.source)
        try:
            with path.open("rb") as file:
                shard = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: empty file
            raise UserError(f"{path}: was prepared and can no longer be read: {error}") from error
        if len(shard) != 2 * entry.length:
            raise UserError(f"{path}: was changed while it was in use; resume when its recording is restored, or start a new training")
        return shard

    def __reduce__(self) -> tuple[Any, ...]:
        # Maps cannot be pickled.
        return Recordings, (self.shards, self.entries, self.ranges)


def collate(lanes: Sequence[Batch]) -> Batch:
    """Stack several lanes into one batch."""
    return Batch(*(None if field[0] is None else torch.stack(field) for field in zip(*lanes, strict=True)))  # type: ignore[arg-type]


class ClipDataset(Dataset[Batch]):
    """Quantised pieces of recordings, padded with the zero level to one length.

    Args:
        source: recordings.
        clip_samples: length T of a clip in samples.
        quantiser: converts scaled samples to classes.
        scaling: scaling of samples before quantisation.
    """

    def __init__(self, source: "Recordings | GeneratedRecordings", clip_samples: int, quantiser: Quantiser, scaling: Scaling) -> None:
        self.source, self.clip_samples, self.quantiser, self.scaling = source, clip_samples, quantiser, scaling
        self._slice: tuple[int, int] | None = None

    @property
    def settings(self) -> dict[str, str | int | None]:
        """Settings, by name, that determine the samples of a clip together with the recordings."""
        return {"scaling": self.scaling, "law": self.quantiser.law}

    def sliced(self, start: int, length: int) -> Self:
        """Return a copy that yields only samples [start, start + length) of each clip, and the one sample before them."""
        part = copy(self)
        part._slice = start, length
        return part

    def __getitem__(self, piece: Piece) -> Batch:
        recording, start, stop, clip, context = piece
        offset, length = self._slice or (0, self.clip_samples)
        # Also read the sample before the slice.
        lead = min(offset, 1)
        first, last = min(start + offset - lead, stop), min(start + offset + length, stop)
        classes = torch.full((lead + length,), self.quantiser.zero_level, dtype=torch.int16)
        if last > first:
            scaled = scale(self.source.samples(recording, first, last), self._span(recording, start, stop))
            classes[: last - first] = self.quantiser.encode(scaled)
        valid = torch.arange(length) < stop - start - offset
        batch = Batch(classes[lead:], valid, torch.tensor(clip), None if context is None else torch.tensor(context))
        return batch if self._slice is None else batch._replace(start=torch.tensor(offset), before=classes[0].long())

    def _span(self, recording: int, start: int, stop: int) -> Span:
        if self.scaling == "none":
            return None
        if self.scaling in OF_WHOLE_FILES:
            start, stop = 0, self.source.lengths[recording]
        return span_of(self.scaling, *self.source.extremes(recording, start, stop))
