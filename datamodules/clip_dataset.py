"""Dataset of clips: reads, scales, quantises and pads pieces of recordings, and collates them to batches."""

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
    """Stack several lanes into one batch."""
    return Batch(*(None if field[0] is None else torch.stack(field) for field in zip(*lanes, strict=True)))  # type: ignore[arg-type]


class Source(Protocol):
    """Protocol of the recordings of a split."""

    @property
    def lengths(self) -> Sequence[int]:
        """Number of samples in each recording."""

    def samples(self, recording: int, start: int, stop: int) -> Tensor:
        """Return samples as float32 (stop - start,) in [-1, 1]."""

    def extremes(self, recording: int, start: int, stop: int) -> tuple[float, float]:
        """Return the minimum and maximum of those samples."""


class ClipDataset(Dataset[Batch]):
    """Quantised pieces of recordings, padded with the zero level to one length.

    Args:
        source: recordings.
        clip_samples: length T of a clip in samples.
        quantiser: converts scaled samples to classes.
        scaling: scaling of samples before quantisation.
    """

    def __init__(self, source: Source, clip_samples: int, quantiser: Quantiser, scaling: Scaling) -> None:
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
