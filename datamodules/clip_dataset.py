"""Pieces of audio as classes: what a batch holds, and how samples become one."""

from collections.abc import Sequence
from copy import copy
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.orders import Piece
from harmonicrnn.audio import Batch, Quantiser, Scaling, scale, span_of
from harmonicrnn.audio.quantise import OF_WHOLE_FILES, Span


def collate(lanes: Sequence[Batch]) -> Batch:
    """One batch of several lanes."""
    return Batch(*(None if field[0] is None else torch.stack(field) for field in zip(*lanes, strict=True)))  # type: ignore[arg-type]


class Source(Protocol):
    """Recordings of a split."""

    @property
    def lengths(self) -> Sequence[int]:
        """Samples in each."""

    def samples(self, recording: int, start: int, stop: int) -> Tensor:
        """float32 (stop - start,) in [-1, 1]."""

    def extremes(self, recording: int, start: int, stop: int) -> tuple[float, float]:
        """The lowest and the highest of those samples."""


class ClipDataset(Dataset[Batch]):
    """Quantised pieces, padded with the zero level to one length.

    Args:
        source: the recordings.
        clip_samples: T.
        quantiser: from scaled samples to classes.
        scaling: what samples are scaled by.
    """

    def __init__(self, source: Source, clip_samples: int, quantiser: Quantiser, scaling: Scaling) -> None:
        self.source, self.clip_samples, self.quantiser, self.scaling = source, clip_samples, quantiser, scaling
        self._slice: tuple[int, int] | None = None

    @property
    def settings(self) -> dict[str, str | int | None]:
        """What the samples of a clip follow from beside the recordings' names and lengths, by the settings' names."""
        return {"scaling": self.scaling, "law": self.quantiser.law}

    def sliced(self, start: int, length: int) -> Self:
        """The same dataset, of each clip only `length` samples from `start` on, and the one sample before them."""
        part = copy(self)
        part._slice = start, length
        return part

    def __getitem__(self, piece: Piece) -> Batch:
        recording, start, stop, clip, context = piece
        offset, length = self._slice or (0, self.clip_samples)
        # One more sample at the front: the one before the slice.
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
