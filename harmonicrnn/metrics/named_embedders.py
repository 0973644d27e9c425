"""Embeddings by their names."""

from pathlib import Path
from typing import Literal

import torch

from harmonicrnn.metrics.embedder import Embedder
from harmonicrnn.metrics.logmel import LogMel
from harmonicrnn.metrics.packaged_embedders import Packaged

EmbeddingName = Literal["logmel", "vggish", "pann", "encodec", "clap"]


def make_embedder(name: EmbeddingName, rate: int, weights: Path | None = None, device: torch.device | None = None) -> Embedder:
    """The embedding of this name for audio at a rate in Hz.

    Args:
        name: logmel, or one of the package frechet-audio-distance.
        rate: of the clips.
        weights: folder of its weights; None for that of torch.hub.
        device: where a network works; None for a GPU where there is one.

    Raises:
        UserError: the package or weights are missing, or the weights are not those of this embedding.
    """
    return LogMel(rate) if name == "logmel" else Packaged(name, rate, weights, device)
