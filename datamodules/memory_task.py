"""A task that measures memory: noise, in which a motif comes back after k samples, and can be predicted only by who remembers it.

A recording, of P = k + grid samples a pair, motif M_i and its repeat R_i starting at multiples of the grid:

    0               grid              P                P + grid          2P
    noise           | < M_1  noise    | > R_1  noise   | < M_2  noise    | > R_2 ...

    <, >   the lowest and the highest class, of one sample, which announce a motif and a repeat
    M_i    `motif` samples, uniform over the q/2 classes that are loudest but for those two; R_i = M_i, k samples later
    noise  uniform over the two quietest classes, 1 bit a sample

With q = 2^b classes the best a model can do on a repeat is 0 bits a sample if it remembers its motif, and b - 1 bits if it does not, as
nothing else in the recording tells of it. Over all samples, markers foreseen, that makes (N + (b - 1) (M + R)) / T bits a sample without
memory and (N + (b - 1) M) / T with it, of N samples of noise, M of motifs, R of repeats and T in all.
"""

import hashlib
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.clip_dataset import ClipDataset
from datamodules.generated_audio import GeneratedDataModule, GeneratedRecordings
from datamodules.orders import Piece
from harmonicrnn.audio.dataset import Batch, Split
from harmonicrnn.errors import UserError


class Memory(GeneratedDataModule):
    """Motifs that come back, made on the fly; recording i of a split is a function of (seed, split, i) alone.

    Clips of k + grid samples cut each repeat off from its motif, which is the control for what remembering is worth; where the state is
    carried from chunk to chunk, it is not cut.

    Args:
        distance: k, samples from a motif to its repeat; a multiple of the grid.
        motif: Samples in a motif.
        min_distance: Least distance, where each pair is to have its own, log-uniform over the multiples of the grid up to k; null for k
            always. A model that is trained on all of them cannot count samples instead of remembering, and learns the short ones first.
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
        min_distance: int | None = None,
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
        if min_distance is not None and not (grid <= min_distance <= distance and min_distance % grid == 0):
            raise UserError(
                f"data.min_distance ({min_distance}) must be a multiple of data.grid ({grid}), at most data.distance ({distance})"
            )
        self.distance, self.min_distance, self.motif, self.grid = distance, min_distance, motif, grid
        self.pairs, self.recordings, self.counted = pairs, recordings, counted
        super().__init__(bits=bits, scaling=scaling, clip_samples=clip_samples or self.recording_samples, **kwargs)

    @property
    def period(self) -> int:
        """P."""
        return self.distance + self.grid

    @property
    def recording_samples(self) -> int:
        """Samples in a recording."""
        return self.pairs * self.period + self.grid

    @property
    def protocol(self) -> str:
        """What the numbers measured on this data depend on, in a line."""
        distance = self.distance if self.min_distance is None else f"{self.min_distance} to {self.distance}"
        return f"{super().protocol}, motifs of {self.motif} samples that come back after {distance}, counted: {self.counted}"

    def make_dataset(self, split: Split) -> ClipDataset:
        recordings = self.recordings_of(split, self.recordings, self.recording_samples)
        return CountedClips(recordings, self.clip_samples, self.quantiser, self.scaling)

    def make(self, split: Split, index: int) -> Tensor:
        return self.quantiser.decode_centre(torch.from_numpy(self.classes(split, index)))

    def audio(self, split: Split, index: int) -> Tensor:
        """A clip as it is heard, with what does not count: float32 (T,) in [-1, 1]."""
        return self.datasets[split].source.samples(*self._table(split)[index][:3])

    def classes(self, split: Split, index: int) -> np.ndarray:
        """The classes of a recording, int64 (recording_samples,)."""
        random = self.random(split, index)
        q = 2**self.bits
        loud = np.r_[1 : q // 4 + 1, q - 1 - q // 4 : q - 1]
        classes = random.integers(q // 2 - 1, q // 2 + 1, self.recording_samples)
        for pair, distance in enumerate(self._distances(random)):
            back = (pair + 1) * self.period
            start = back - distance
            classes[start], classes[back] = 0, q - 1
            motif = random.choice(loud, self.motif)
            for first in (start + 1, back + 1):
                classes[first : first + self.motif] = motif
        return classes

    def _distances(self, random: np.random.Generator) -> list[int]:
        """Of each pair."""
        if self.min_distance is None:
            return [self.distance] * self.pairs
        least, most = self.min_distance // self.grid, self.distance // self.grid
        return [self.grid * int(least * ((most + 1) / least) ** share) for share in random.random(self.pairs)]

    def is_repeat(self, positions: Tensor) -> Tensor:
        """Whether the samples at these positions of a recording belong to a repeat, its marker left out."""
        within = positions % self.period
        return (positions >= self.period) & (within >= 1) & (within <= self.motif)

    def checksum(self, split: Split) -> str:
        """SHA-256 of what the recordings are made of, and of the first one, which shows how they are made."""
        count = len(self.datasets[split].source.lengths)
        made_of = f"{self.seed} {split} {count} {self.distance} {self.min_distance} {self.motif} {self.grid} {self.pairs}"
        return hashlib.sha256(made_of.encode() + self.classes(split, 0).tobytes()).hexdigest()


class CountedClips(ClipDataset):
    """Clips of which the data says which samples count."""

    source: GeneratedRecordings

    @property
    def settings(self) -> dict[str, str | int | None]:
        own = ("distance", "min_distance", "motif", "grid", "pairs", "counted")
        return super().settings | {key: getattr(self.source.data, key) for key in own}

    def __getitem__(self, piece: Piece) -> Batch:
        batch, data = super().__getitem__(piece), self.source.data
        if data.counted == "all":
            return batch
        start = piece.start + (0 if batch.start is None else int(batch.start))
        return batch._replace(valid=batch.valid & data.is_repeat(start + torch.arange(len(batch.valid))))
