"""Datasets without files, whose recordings are made when they are asked for."""

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
    """Recordings that are functions of (seed, split, number) alone."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(root=Path(), **kwargs)

    @abstractmethod
    def make(self, split: Split, index: int) -> Tensor:
        """The samples of a recording, float32 in [-1, 1]."""

    def files(self) -> dict[Split, list[Path]]:
        """None."""
        return {split: [] for split in SPLITS}

    def prepare(self, processes: int | None = None, verify: bool = False) -> dict[str, Entry]:
        """Nothing to prepare."""
        return {}

    def random(self, split: Split, index: int) -> np.random.Generator:
        """What a recording is drawn from."""
        return np.random.default_rng([self.seed, SPLITS.index(split), index])

    def recordings_of(self, split: Split, training: int, samples: int) -> "GeneratedRecordings":
        """`training` recordings of so many samples in the training split; validation and test have an eighth of it each."""
        return GeneratedRecordings(self, split, training if split == "train" else max(1, training // 8), samples)


class GeneratedRecordings:
    """A split's recordings, of equal length; the latest one is kept."""

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
        # For workers that are not forked, to which the trainer cannot be sent.
        data = copy(self.data)
        data.trainer = None
        return vars(self) | {"data": data}
