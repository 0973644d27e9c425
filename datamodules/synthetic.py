"""Made-up music without any files: plucked and struck strings, clip i of a split a function of (seed, split, i) alone."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.audio_datamodule import AudioDataModule
from datamodules.clip_dataset import ClipDataset
from datamodules.manifest import Entry
from harmonicrnn.audio import Note, compose, extremes, render
from harmonicrnn.audio.dataset import Split
from harmonicrnn.errors import UserError

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
MAX_CLIPS = 10_000_000


class Synthetic(AudioDataModule):
    """Chords and melodies, made on the fly.

    Args:
        clips: Clips in the training split; validation and test have an eighth of it each.
        kwargs: As for every dataset, without root.
    """

    def __init__(self, clips: int = 1024, **kwargs: Any) -> None:
        super().__init__(root=Path(), **kwargs)
        if not 1 <= clips <= MAX_CLIPS:
            raise UserError(f"data.clips must be at least 1 and at most {MAX_CLIPS}, got {clips}")
        if self.scaling == "file":
            raise UserError("data.scaling: file does not apply to Synthetic, whose clips belong to no file; use clip or none")
        self.clips = clips

    def files(self) -> dict[Split, list[Path]]:
        """None."""
        return {split: [] for split in SPLITS}

    def prepare(self, processes: int | None = None, verify: bool = False) -> dict[str, Entry]:
        """Nothing to prepare."""
        return {}

    def score(self, split: Split, index: int) -> list[Note]:
        """The notes of a clip."""
        return compose(self.clip_samples / self.sample_rate, np.random.default_rng([self.seed, SPLITS.index(split), index]))

    def checksum(self, split: Split) -> str:
        """SHA-256 of what the clips are made of, and of the first one, which shows how they are made."""
        first = self.datasets[split].source.samples(0, 0, self.clip_samples)
        made_of = f"{self.seed} {split} {self.clip_count(split)} {self.clip_samples} {self.sample_rate}"
        return hashlib.sha256(made_of.encode() + first.numpy().tobytes()).hexdigest()

    def make_dataset(self, split: Split) -> ClipDataset:
        clips = self.clips if split == "train" else max(1, self.clips // 8)
        return ClipDataset(_Rendered(self, split, clips), self.clip_samples, self.quantiser, self.scaling)


class _Rendered:
    """Clips made when they are asked for; each is a recording of its own."""

    def __init__(self, data: Synthetic, split: Split, clips: int) -> None:
        self.data, self.split = data, split
        self.lengths = [data.clip_samples] * clips
        self._latest: tuple[int, Tensor] | None = None

    def samples(self, recording: int, start: int, stop: int) -> Tensor:
        if self._latest is None or self._latest[0] != recording:  # asked for its samples and its extremes in turn
            notes = self.data.score(self.split, recording)
            self._latest = recording, torch.from_numpy(render(notes, self.data.clip_samples, self.data.sample_rate))
        return self._latest[1][start:stop]

    def extremes(self, recording: int, start: int, stop: int) -> tuple[float, float]:
        return extremes(self.samples(recording, start, stop))
