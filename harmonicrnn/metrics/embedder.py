"""The base class of embeddings of audio clips."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from harmonicrnn.errors import UserError

SAMPLES = 2**22  # embedded at a time


class Embedder(ABC):
    """Maps a clip to embeddings (n, d), where n depends on its length.

    Attributes:
        name: of the embedding, for reports.
        rate: of its input audio in Hz.
        dimensions: d.
        weights: SHA-256 of each weight file by name; empty without weights.
    """

    name: str
    rate: int
    dimensions: int
    weights: dict[str, str]

    def __call__(self, clips: Sequence[Tensor]) -> list[Tensor]:
        """Returns the embeddings (n, d) of each clip (T,), float32 in [-1, 1], on the CPU. Neighbouring clips of one length are batched.

        Raises:
            UserError: a clip is empty or not finite, or its embeddings are not finite.
        """
        for i, clip in enumerate(clips):
            if not clip.numel() or not clip.isfinite().all():
                raise UserError(f"clip {i} of {len(clips)} has {'samples that are not finite' if clip.numel() else 'no samples'}")
        embedded = [rows.cpu() for batch in _batches(clips) for rows in self.embed(batch)]
        for i, rows in enumerate(embedded):
            if not rows.isfinite().all():
                raise UserError(f"{self.name} gives embeddings that are not finite of clip {i} of {len(clips)}")
        return embedded

    @abstractmethod
    def embed(self, batch: Tensor) -> Tensor:
        """Returns the embeddings (B, n, d) of clips of one length (B, T)."""


def _batches(clips: Sequence[Tensor]) -> Iterator[Tensor]:
    for samples, same in groupby(clips, key=len):
        yield from torch.stack(list(same)).split(max(1, SAMPLES // samples))
