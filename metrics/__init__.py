"""What is measured, as torchmetrics that are right under any number of ranks."""

from metrics.embedder import Embedder
from metrics.embeddings import EmbeddingName, make_embedder
from metrics.frechet import FrechetExtrapolation, Gaussian, GaussianFit, frechet_distance, shortage
from metrics.logmel import LogMel
from metrics.nll import NegativeLogLikelihood, sample_nats
from metrics.nll_by_position import NLLByPosition

__all__ = [
    "Embedder",
    "EmbeddingName",
    "FrechetExtrapolation",
    "Gaussian",
    "GaussianFit",
    "LogMel",
    "NLLByPosition",
    "NegativeLogLikelihood",
    "frechet_distance",
    "make_embedder",
    "sample_nats",
    "shortage",
]
