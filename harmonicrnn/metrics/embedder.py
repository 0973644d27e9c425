"""What turns clips of audio into embeddings."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from torch import Tensor

from harmonicrnn.errors import UserError

SAMPLES = 2**22  # of audio that are embedded at a time


class Embedder(ABC):
    """Embeddings (n, d) of a clip: n of them, as its length gives.

    Attributes:
        name: what a distance between such embeddings is called by.
        rate: of the audio in Hz that it takes.
        dimensions: d.
        weights: SHA-256 of each file of weights by its name; none where there are no weights.
    """

    name: str
    rate: int
    dimensions: int
    weights: dict[str, str]

    def __call__(self, clips: Sequence[Tensor]) -> list[Tensor]:
        """Of each clip (T,), float32 in [-1, 1], its embeddings (n, d) on the CPU. Neighbouring clips of one length are taken together.

        Raises:
            UserError: a clip is empty, or holds numbers that are not finite, or its embeddings do.
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
        """Embeddings (B, n, d) of clips of one length (B, T)."""


def _batches(clips: Sequence[Tensor]) -> Iterator[Tensor]:
    for samples, same in groupby(clips, key=len):
        yield from torch.stack(list(same)).split(max(1, SAMPLES // samples))
