"""Embeddings by their names."""

from pathlib import Path
from typing import Literal

from metrics.embedder import Embedder
from metrics.logmel import LogMel

EmbeddingName = Literal["logmel"]


def make_embedder(name: EmbeddingName, rate: int, weights: Path | None = None) -> Embedder:
    """The embedding of this name for audio at a rate in Hz."""
    return LogMel(rate)
