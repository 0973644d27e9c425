"""Clips of audio as classes: what a batch holds, and how samples become one."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from audio import Quantiser, scale


class Batch(NamedTuple):
    """classes (B, T) int16, undelayed; valid (B, T) bool, false on padding, which never counts; clip (B,) int64, the clip's number in its
    split. Without the leading B, one clip."""

    classes: Tensor
    valid: Tensor
    clip: Tensor


class Samples(NamedTuple):
    """samples (n,) float32 in [-1, 1], and the extremes (min, max) they are scaled by, or None for the fixed range."""

    samples: Tensor
    span: tuple[float, float] | None


class ClipDataset(Dataset[Batch]):
    """Quantised clips of one length, padded with the zero level where the audio is shorter.

    Args:
        read: from a clip's number to its samples, at most `clip_samples` of them.
        clips: the number of clips.
        clip_samples: T.
        quantiser: from scaled samples to classes.
    """

    def __init__(self, read: Callable[[int], Samples], clips: int, clip_samples: int, quantiser: Quantiser) -> None:
        self.read, self.clips, self.clip_samples, self.quantiser = read, clips, clip_samples, quantiser

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, index: int) -> Batch:
        samples, span = self.read(index)
        classes = torch.full((self.clip_samples,), self.quantiser.zero_level, dtype=torch.int16)
        classes[: len(samples)] = self.quantiser.encode(scale(samples, span))
        return Batch(classes, torch.arange(self.clip_samples) < len(samples), torch.tensor(index))


def clip_table(lengths: Sequence[int], clip_samples: int, keep_tails: bool) -> list[tuple[int, int, int]]:
    """(recording, start, stop) of each clip, in order: cut from the start; a shorter rest is kept as a clip of its own or dropped."""
    table = []
    for recording, length in enumerate(lengths):
        for start in range(0, length, clip_samples):
            stop = min(start + clip_samples, length)
            if keep_tails or stop - start == clip_samples:
                table.append((recording, start, stop))
    return table
