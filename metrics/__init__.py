"""What is measured, as torchmetrics that are right under any number of ranks."""

from metrics.digits import Classified, DigitReference, digit_reference, digit_scores, select_by_likelihood
from metrics.embedder import Embedder
from metrics.embeddings import EmbeddingName, make_embedder
from metrics.frechet import FrechetExtrapolation, Gaussian, GaussianFit, frechet_distance, shortage
from metrics.logmel import LogMel
from metrics.nll import NegativeLogLikelihood, sample_nats
from metrics.nll_by_position import NLLByPosition

__all__ = [
    "Classified",
    "DigitReference",
    "Embedder",
    "EmbeddingName",
    "FrechetExtrapolation",
    "Gaussian",
    "GaussianFit",
    "LogMel",
    "NLLByPosition",
    "NegativeLogLikelihood",
    "digit_reference",
    "digit_scores",
    "frechet_distance",
    "make_embedder",
    "sample_nats",
    "select_by_likelihood",
    "shortage",
]
