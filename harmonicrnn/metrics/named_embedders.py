"""Creates embeddings by name."""

from pathlib import Path
from typing import Literal

import torch

from harmonicrnn.metrics.embedder import Embedder
from harmonicrnn.metrics.logmel import LogMel
from harmonicrnn.metrics.packaged_embedders import Packaged

EmbeddingName = Literal["logmel", "vggish", "pann", "encodec", "clap"]


def make_embedder(name: EmbeddingName, rate: int, weights: Path | None = None, device: torch.device | None = None) -> Embedder:
    """Creates an embedding for audio at `rate` Hz.

    Args:
        name: logmel, or one of the package frechet-audio-distance.
        rate: of the clips.
        weights: folder of its weights; None for that of torch.hub.
        device: of its network; None for a GPU if available.

    Raises:
        UserError: the package or weights are missing, or the weights belong to another embedding.
    """
    return LogMel(rate) if name == "logmel" else Packaged(name, rate, weights, device)
