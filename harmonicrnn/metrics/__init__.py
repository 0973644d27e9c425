"""What is measured, as torchmetrics that are right under any number of ranks."""

from harmonicrnn.metrics.digit_scores import Classified, DigitReference, digit_reference, digit_scores, select_by_likelihood
from harmonicrnn.metrics.embedder import Embedder
from harmonicrnn.metrics.frechet import FrechetExtrapolation, Gaussian, GaussianFit, frechet_distance, shortage
from harmonicrnn.metrics.logmel import LogMel
from harmonicrnn.metrics.named_embedders import EmbeddingName, make_embedder
from harmonicrnn.metrics.nll import NegativeLogLikelihood
from harmonicrnn.metrics.nll_by_position import NLLByPosition

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
    "select_by_likelihood",
    "shortage",
]
