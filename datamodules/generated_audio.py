"""Datasets without files, whose recordings are generated on access: the base, and music of plucked and struck strings."""

import hashlib
from abc import abstractmethod
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.audio_datamodule import AudioDataModule
from datamodules.clip_dataset import ClipDataset
from datamodules.manifest import Entry
from harmonicrnn.audio import Note, compose, extremes, render
from harmonicrnn.audio.dataset import SPLITS, Split
from harmonicrnn.audio.quantise import OF_WHOLE_FILES
from harmonicrnn.errors import UserError, check_whole

MAX_CLIPS = 10_000_000


class GeneratedDataModule(AudioDataModule):
    """Data module whose recordings are functions of (seed, split, index)."""

    clips_as = ClipDataset
    shape: tuple[int, int]
    """Number of recordings in the training split, of which validation and test have an eighth each; and samples in each."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(root=Path(), **kwargs)

    @abstractmethod
    def make(self, split: Split, index: int) -> Tensor:
        """Return the samples of a recording, float32 (T,) in [-1, 1]."""

    def files(self) -> dict[Split, list[Path]]:
        """Return no files."""
        return {split: [] for split in SPLITS}

    def prepare(self, processes: int | None = None, verify: bool = False) -> dict[str, Entry]:
        """Do nothing."""
        return {}

    def random(self, split: Split, index: int) -> np.random.Generator:
        """Return the random generator of a recording."""
        return np.random.default_rng([self.seed, SPLITS.index(split), index])

    def make_dataset(self, split: Split) -> ClipDataset:
        count, samples = self.shape
        recordings = GeneratedRecordings(self, split, count if split == "train" else max(1, count // 8), samples)
        return self.clips_as(recordings, self.clip_samples, self.quantiser, self.scaling)

    def checksum(self, split: Split) -> str:
        """Return the SHA-256 of the settings of the recordings and of the samples of the first one."""
        made_of = f"{self.seed} {split} {self.sample_rate} {self.shape} {self.datasets[split].settings}"
        return hashlib.sha256(made_of.encode() + self.make(split, 0).numpy().tobytes()).hexdigest()


class GeneratedRecordings:
    """Recordings of a split, of equal length; the last one read is cached."""

    def __init__(self, data: GeneratedDataModule, split: Split, count: int, samples: int) -> None:
        self.data, self.split, self.lengths = data, split, [samples] * count
        self._latest: tuple[int, Tensor] | None = None

    def samples(self, recording: int, start: int, stop: int) -> Tensor:
        if self._latest is None or self._latest[0] != recording:
            self._latest = recording, self.data.make(self.split, recording)
        return self._latest[1][start:stop]

    def extremes(self, recording: int, start: int, stop: int) -> tuple[float, float]:
        return extremes(self.samples(recording, start, stop))

    def __getstate__(self) -> dict[str, Any]:
        # Spawned workers need a picklable state, without the trainer.
        data = copy(self.data)
        data.trainer = None
        return vars(self) | {"data": data}


class Synthetic(GeneratedDataModule):
    """Chords and melodies, generated on the fly; clip i of a split is a function of (seed, split, i).

    Args:
        clips: Clips in the training split; validation and test have an eighth of it each.
        kwargs: Settings of every dataset but root, see `AudioDataModule`.
    """

    def __init__(self, clips: int = 1024, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_whole("data.clips", clips, 1, MAX_CLIPS)
        if self.scaling in OF_WHOLE_FILES:
            raise UserError(f"data.scaling: {self.scaling} does not apply to Synthetic, whose clips belong to no file; use clip or none")
        self.shape = clips, self.clip_samples

    def score(self, split: Split, index: int) -> list[Note]:
        """Return the notes of a clip."""
        return compose(self.clip_samples / self.sample_rate, self.random(split, index))

    def make(self, split: Split, index: int) -> Tensor:
        return torch.from_numpy(render(self.score(split, index), self.clip_samples, self.sample_rate))
