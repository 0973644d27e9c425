"""Made-up music without any files: plucked and struck strings, clip i of a split a function of (seed, split, i) alone."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from audio import Note, compose, extremes, render
from datamodules.base import AudioDataModule, Split
from datamodules.clips import ClipDataset, Samples
from errors import UserError

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Synthetic(AudioDataModule):
    """Chords and melodies, made on the fly.

    Args:
        clips: Clips in the training split; validation and test have an eighth of it each.
        kwargs: As for every dataset, without root.
    """

    def __init__(self, clips: int = 1024, **kwargs: Any) -> None:
        super().__init__(root=Path(), **kwargs)
        if clips < 1:
            raise UserError(f"data.clips must be at least 1, got {clips}")
        if self.scaling == "file":
            raise UserError("data.scaling: file does not apply to Synthetic, whose clips belong to no file; use clip or none")
        self.clips = clips

    def files(self) -> dict[Split, list[Path]]:
        """None."""
        return {split: [] for split in SPLITS}

    def prepare_data(self) -> None:
        """Nothing to prepare."""

    def score(self, split: Split, index: int) -> list[Note]:
        """The notes of a clip."""
        return compose(self.clip_samples / self.sample_rate, np.random.default_rng([self.seed, SPLITS.index(split), index]))

    def make_dataset(self, split: Split) -> ClipDataset:
        def read(index: int) -> Samples:
            samples = torch.from_numpy(render(self.score(split, index), self.clip_samples, self.sample_rate))
            return Samples(samples, extremes(samples) if self.scaling == "clip" else None)

        return ClipDataset(read, self.clips if split == "train" else max(1, self.clips // 8), self.clip_samples, self.quantiser)
