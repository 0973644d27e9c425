"""Base data module of datasets without files, whose recordings are generated on access."""

from abc import abstractmethod
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from datamodules.audio_datamodule import AudioDataModule
from datamodules.manifest import Entry
from harmonicrnn.audio import extremes
from harmonicrnn.audio.dataset import SPLITS, Split


class GeneratedDataModule(AudioDataModule):
    """Data module whose recordings are functions of (seed, split, index)."""

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

    def recordings_of(self, split: Split, training: int, samples: int) -> "GeneratedRecordings":
        """Return `training` recordings of `samples` samples for the training split, or an eighth as many for validation and test."""
        return GeneratedRecordings(self, split, training if split == "train" else max(1, training // 8), samples)


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
