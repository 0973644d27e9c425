"""Made-up music without any files: plucked and struck strings, clip i of a split a function of (seed, split, i) alone."""

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
    """Chords and melodies, made on the fly.

    Args:
        clips: Clips in the training split; validation and test have an eighth of it each.
        kwargs: As for every dataset, without root.
    """

    def __init__(self, clips: int = 1024, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 1 <= clips <= MAX_CLIPS:
            raise UserError(f"data.clips must be at least 1 and at most {MAX_CLIPS}, got {clips}")
        if self.scaling in OF_WHOLE_FILES:
            raise UserError(f"data.scaling: {self.scaling} does not apply to Synthetic, whose clips belong to no file; use clip or none")
        self.clips = clips

    def score(self, split: Split, index: int) -> list[Note]:
        """The notes of a clip."""
        return compose(self.clip_samples / self.sample_rate, self.random(split, index))

    def make(self, split: Split, index: int) -> Tensor:
        return torch.from_numpy(render(self.score(split, index), self.clip_samples, self.sample_rate))

    def checksum(self, split: Split) -> str:
        """SHA-256 of what the clips are made of, and of the first one, which shows how they are made."""
        made_of = f"{self.seed} {split} {self.clip_count(split)} {self.clip_samples} {self.sample_rate}"
        return hashlib.sha256(made_of.encode() + self.make(split, 0).numpy().tobytes()).hexdigest()

    def make_dataset(self, split: Split) -> ClipDataset:
        recordings = self.recordings_of(split, self.clips, self.clip_samples)
        return ClipDataset(recordings, self.clip_samples, self.quantiser, self.scaling)
