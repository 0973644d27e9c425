"""A task that measures memory: noise, in which a motif comes back after k samples, and can be predicted only by who remembers it.

A recording, of P = k + grid samples a pair, motif M_i and its repeat R_i starting at multiples of the grid:

    0               grid              P                P + grid          2P
    noise           | < M_1  noise    | > R_1  noise   | < M_2  noise    | > R_2 ...

    <, >   the lowest and the highest class, of one sample, which announce a motif and a repeat
    M_i    `motif` samples, uniform over the middle half of the classes; R_i = M_i, k samples later
    noise  uniform over the same classes

With b bits a sample, every sample of noise and motif is of b - 1 bits. A repeat is of 0 bits for a model that remembers its motif, and of
b - 1 bits a sample for one that does not: nothing else in the recording tells of it.
"""

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from audio import extremes
from datamodules.base import AudioDataModule, Split
from datamodules.clips import Batch, ClipDataset
from datamodules.manifest import Entry
from datamodules.orders import Piece
from datamodules.synthetic import SPLITS
from errors import UserError


class Memory(AudioDataModule):
    """Motifs that come back, made on the fly; recording i of a split is a function of (seed, split, i) alone.

    Clips of k + grid samples cut each repeat off from its motif, which is the control for what remembering is worth; where the state is
    carried from chunk to chunk, it is not cut.

    Args:
        distance: k, samples from a motif to its repeat; a multiple of the grid.
        motif: Samples in a motif.
        grid: Motifs and repeats start at multiples of it; more than the motif. As a multiple of the model's pooling product it puts each
            into one pooling window.
        pairs: Motifs and repeats in a recording.
        recordings: Recordings in the training split; validation and test have an eighth of it each.
        counted: Samples that likelihoods (and the loss) count: those of the repeats alone, or all.
        clip_samples: Samples in a clip; null for whole recordings.
        kwargs: As for every dataset, without root.
    """

    def __init__(
        self,
        distance: int = 1024,
        motif: int = 4,
        grid: int = 16,
        pairs: int = 8,
        recordings: int = 1024,
        counted: Literal["repeats", "all"] = "repeats",
        clip_samples: int | None = None,
        bits: int = 4,
        scaling: Literal["none"] = "none",
        **kwargs: Any,
    ) -> None:
        for key, value in (("motif", motif), ("pairs", pairs), ("recordings", recordings)):
            if value < 1:
                raise UserError(f"data.{key} must be at least 1, got {value}")
        if grid <= motif:
            raise UserError(f"data.grid ({grid}) must be more than data.motif ({motif})")
        if distance < grid or distance % grid:
            raise UserError(f"data.distance ({distance}) must be a multiple of data.grid ({grid})")
        self.distance, self.motif, self.grid, self.pairs, self.recordings, self.counted = distance, motif, grid, pairs, recordings, counted
        super().__init__(root=Path(), bits=bits, scaling=scaling, clip_samples=clip_samples or self.recording_samples, **kwargs)

    @property
    def period(self) -> int:
        """P."""
        return self.distance + self.grid

    @property
    def recording_samples(self) -> int:
        """Samples in a recording."""
        return self.pairs * self.period + self.grid

    def files(self) -> dict[Split, list[Path]]:
        """None."""
        return {split: [] for split in SPLITS}

    def prepare(self, processes: int | None = None, verify: bool = False) -> dict[str, Entry]:
        """Nothing to prepare."""
        return {}

    def make_dataset(self, split: Split) -> ClipDataset:
        count = self.recordings if split == "train" else max(1, self.recordings // 8)
        return _Counted(_Made(self, split, count), self.clip_samples, self.quantiser, self.scaling)

    def classes(self, split: Split, index: int) -> np.ndarray:
        """The classes of a recording, int64 (recording_samples,)."""
        random = np.random.default_rng([self.seed, SPLITS.index(split), index])
        q = 2**self.bits
        classes = random.integers(q // 4, q - q // 4, self.recording_samples)
        for pair in range(self.pairs):
            start, back = pair * self.period + self.grid, (pair + 1) * self.period
            classes[start], classes[back] = 0, q - 1
            classes[back + 1 : back + 1 + self.motif] = classes[start + 1 : start + 1 + self.motif]
        return classes

    def is_repeat(self, positions: Tensor) -> Tensor:
        """Whether the samples at these positions of a recording belong to a repeat, its marker left out."""
        within = positions % self.period
        return (positions >= self.period) & (within >= 1) & (within <= self.motif)

    def checksum(self, split: Split) -> str:
        """SHA-256 of what the recordings are made of, and of the first one, which shows how they are made."""
        made_of = f"{self.seed} {split} {len(self.datasets[split].source.lengths)} {self.distance} {self.motif} {self.grid} {self.pairs}"
        return hashlib.sha256(made_of.encode() + self.classes(split, 0).tobytes()).hexdigest()


class _Made:
    """Recordings made when they are asked for."""

    def __init__(self, data: Memory, split: Split, count: int) -> None:
        self.data, self.split = data, split
        self.lengths = [data.recording_samples] * count

    def samples(self, recording: int, start: int, stop: int) -> Tensor:
        return self.data.quantiser.decode_centre(torch.from_numpy(self.data.classes(self.split, recording)[start:stop]))

    def extremes(self, recording: int, start: int, stop: int) -> tuple[float, float]:
        return extremes(self.samples(recording, start, stop))


class _Counted(ClipDataset):
    """Clips of which the data says which samples count."""

    source: _Made

    def __getitem__(self, piece: Piece) -> Batch:
        batch, data = super().__getitem__(piece), self.source.data
        if data.counted == "all":
            return batch
        start = piece.start + (0 if batch.start is None else int(batch.start))
        return batch._replace(valid=batch.valid & data.is_repeat(start + torch.arange(len(batch.valid))))
