"""Pieces of audio as classes: what a batch holds, and how samples become one."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from audio import Quantiser, Scaling, scale
from datamodules.orders import Piece


class Batch(NamedTuple):
    """A batch of B lanes; without the leading B, one lane.

    classes (B, T) int16: undelayed.
    valid (B, T) bool: false on padding, which never counts.
    clip (B,) int64: the clip's number in its split; -1 for a lane that rests.
    context (B,) int64: samples of its recording that a lane has seen before and carries in its state, 0 where it begins anew; None where no
        state is carried and every clip begins anew.
    """

    classes: Tensor
    valid: Tensor
    clip: Tensor
    context: Tensor | None = None


def collate(lanes: Sequence[Batch]) -> Batch:
    """One batch of several lanes."""
    classes, valid, clip, context = zip(*lanes, strict=True)
    return Batch(torch.stack(classes), torch.stack(valid), torch.stack(clip), None if context[0] is None else torch.stack(context))


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

    def __getitem__(self, piece: Piece) -> Batch:
        recording, start, stop, clip, context = piece
        classes = torch.full((self.clip_samples,), self.quantiser.zero_level, dtype=torch.int16)
        if stop > start:
            scaled = scale(self.source.samples(recording, start, stop), self._span(recording, start, stop))
            classes[: stop - start] = self.quantiser.encode(scaled)
        valid = torch.arange(self.clip_samples) < stop - start
        return Batch(classes, valid, torch.tensor(clip), None if context is None else torch.tensor(context))

    def _span(self, recording: int, start: int, stop: int) -> tuple[float, float] | None:
        if self.scaling == "none":
            return None
        if self.scaling == "file":
            start, stop = 0, self.source.lengths[recording]
        return self.source.extremes(recording, start, stop)
