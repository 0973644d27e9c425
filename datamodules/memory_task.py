"""Synthetic memory task: noise with motifs that repeat after k samples.

A recording has P = k + grid samples per pair of a motif M_i and its repeat R_i, which start at multiples of the grid:

    0               grid              P                P + grid          2P
    noise           | < M_1  noise    | > R_1  noise   | < M_2  noise    | > R_2 ...

    <, >   markers of one sample, the lowest and the highest class, before a motif and before a repeat
    M_i    `motif` samples, uniform over the q/2 loudest classes except the markers; R_i = M_i, k samples later
    noise  uniform over the two quietest classes, 1 bit per sample

With q = 2^b classes, the optimum on a repeat is 0 bits per sample for a model that remembers the motif, and b - 1 bits otherwise. Over all
samples, with predicted markers, the optimum is (N + (b - 1) (M + R)) / T bits per sample without memory and (N + (b - 1) M) / T with it,
for N samples of noise, M of motifs, R of repeats and T in total.
"""

from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from datamodules.clip_dataset import ClipDataset
from datamodules.generated_audio import GeneratedDataModule, GeneratedRecordings
from datamodules.orders import Piece
from harmonicrnn.audio.dataset import Batch, Split
from harmonicrnn.errors import UserError, check_choice, check_whole

Counted = Literal["repeats", "all"]
NoScaling = Literal["none"]


class CountedClips(ClipDataset):
    """Clips whose `valid` mask selects the counted samples."""

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


class Memory(GeneratedDataModule):
    """Repeating motifs, generated on the fly; recording i of a split is a function of (seed, split, i).

    Clips of k + grid samples separate each repeat from its motif, which gives a control without memory, unless the state is carried from
    chunk to chunk.

    Args:
        distance: Samples k from a motif to its repeat; a multiple of `grid`.
        motif: Samples per motif.
        min_distance: Smallest distance, to draw that of each pair log-uniformly from the multiples of `grid` up to k; null for k always.
            With random distances a model cannot count samples instead of remembering, and can learn short distances first.
        grid: Motifs and repeats start at multiples of it; must exceed `motif`. If it is a multiple of the model's pooling product, each
            motif lies in one pooling window.
        pairs: Pairs of motif and repeat per recording.
        recordings: Recordings in the training split; validation and test have an eighth of it each.
        counted: Samples included in likelihood and loss: repeats, or all.
        clip_samples: Samples per clip; null for whole recordings.
        kwargs: Settings of every dataset but root, see `AudioDataModule`.
    """

    clips_as = CountedClips

    def __init__(
        self,
        distance: int = 1024,
        motif: int = 4,
        grid: int = 16,
        min_distance: int | None = None,
        pairs: int = 8,
        recordings: int = 1024,
        counted: Counted = "repeats",
        clip_samples: int | None = None,
        bits: int = 4,
        scaling: NoScaling = "none",
        **kwargs: Any,
    ) -> None:
        for key, value in (("distance", distance), ("motif", motif), ("grid", grid), ("pairs", pairs), ("recordings", recordings)):
            check_whole(f"data.{key}", value, 1)
        check_choice("data.counted", counted, get_args(Counted))
        check_choice("data.scaling", scaling, get_args(NoScaling))
        if grid <= motif:
            raise UserError(f"data.grid ({grid}) must be more than data.motif ({motif})")
        if distance < grid or distance % grid:
            raise UserError(f"data.distance ({distance}) must be a multiple of data.grid ({grid})")
        if min_distance is not None and not (grid <= min_distance <= distance and min_distance % grid == 0):
            raise UserError(
                f"data.min_distance ({min_distance}) must be a multiple of data.grid ({grid}), at most data.distance ({distance})"
            )
        self.distance, self.min_distance, self.motif, self.grid = distance, min_distance, motif, grid
        self.pairs, self.counted, self.shape = pairs, counted, (recordings, pairs * (distance + grid) + grid)
        super().__init__(bits=bits, scaling=scaling, clip_samples=clip_samples or self.shape[1], **kwargs)

    @property
    def period(self) -> int:
        """Samples P per pair."""
        return self.distance + self.grid

    @property
    def protocol(self) -> str:
        """One-line description of the settings that measurements on this data depend on."""
        distance = self.distance if self.min_distance is None else f"{self.min_distance} to {self.distance}"
        return f"{super().protocol}, motifs of {self.motif} samples that come back after {distance}, counted: {self.counted}"

    def make(self, split: Split, index: int) -> Tensor:
        return self.quantiser.decode_centre(torch.from_numpy(self.classes(split, index)))

    def audio(self, split: Split, index: int) -> Tensor:
        """Return the audio of a clip, including samples that are not counted: float32 (T,) in [-1, 1]."""
        return self.datasets[split].source.samples(*self._table(split)[index][:3])

    def classes(self, split: Split, index: int) -> np.ndarray:
        """Return the classes of a recording, int64 (T,)."""
        random = self.random(split, index)
        q = 2**self.bits
        loud = np.r_[1 : q // 4 + 1, q - 1 - q // 4 : q - 1]
        classes = random.integers(q // 2 - 1, q // 2 + 1, self.shape[1])
        for pair, distance in enumerate(self._distances(random)):
            back = (pair + 1) * self.period
            start = back - distance
            classes[start], classes[back] = 0, q - 1
            motif = random.choice(loud, self.motif)
            for first in (start + 1, back + 1):
                classes[first : first + self.motif] = motif
        return classes

    def _distances(self, random: np.random.Generator) -> list[int]:
        """Draw the distance of each pair."""
        if self.min_distance is None:
            return [self.distance] * self.pairs
        least, most = self.min_distance // self.grid, self.distance // self.grid
        return [self.grid * int(least * ((most + 1) / least) ** share) for share in random.random(self.pairs)]

    def is_repeat(self, positions: Tensor) -> Tensor:
        """Return, as bool, which positions of a recording belong to a repeat, without its marker."""
        within = positions % self.period
        return (positions >= self.period) & (within >= 1) & (within <= self.motif)
