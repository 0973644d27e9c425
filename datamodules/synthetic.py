"""Synthetic dataset: generated music of plucked and struck strings, without files."""

import hashlib
from typing import Any

import torch
from torch import Tensor

from datamodules.clip_dataset import ClipDataset
from datamodules.generated_audio import GeneratedDataModule
from harmonicrnn.audio import Note, compose, render
from harmonicrnn.audio.dataset import Split
from harmonicrnn.audio.quantise import OF_WHOLE_FILES
from harmonicrnn.errors import UserError

MAX_CLIPS = 10_000_000


class Synthetic(GeneratedDataModule):
    """Chords and melodies, generated on the fly; clip i of a split is a function of (seed, split, i).

    Args:
        clips: Clips in the training split; validation and test have an eighth of it each.
        kwargs: Settings of every dataset but root, see `AudioDataModule`.
    """

    def __init__(self, clips: int = 1024, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 1 <= clips <= MAX_CLIPS:
            raise UserError(f"data.clips must be at least 1 and at most {MAX_CLIPS}, got {clips}")
        if self.scaling in OF_WHOLE_FILES:
            raise UserError(f"data.scaling: {self.scaling} does not apply to Synthetic, whose clips belong to no file; use clip or none")
        self.clips = clips

    def score(self, split: Split, index: int) -> list[Note]:
        """Return the notes of a clip."""
        return compose(self.clip_samples / self.sample_rate, self.random(split, index))

    def make(self, split: Split, index: int) -> Tensor:
        return torch.from_numpy(render(self.score(split, index), self.clip_samples, self.sample_rate))

    def checksum(self, split: Split) -> str:
        """Return the SHA-256 of the settings of the clips and of the samples of the first one."""
        made_of = f"{self.seed} {split} {self.clip_count(split)} {self.clip_samples} {self.sample_rate}"
        return hashlib.sha256(made_of.encode() + self.make(split, 0).numpy().tobytes()).hexdigest()

    def make_dataset(self, split: Split) -> ClipDataset:
        recordings = self.recordings_of(split, self.clips, self.clip_samples)
        return ClipDataset(recordings, self.clip_samples, self.quantiser, self.scaling)
