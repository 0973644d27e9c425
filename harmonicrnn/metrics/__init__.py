"""Metrics of models and audio: likelihood, Fréchet distance and SC09 scores, exact for any number of ranks."""

from harmonicrnn.metrics.digit_scores import Classified, DigitReference, digit_reference, digit_scores, select_by_likelihood
from harmonicrnn.metrics.embedder import Embedder
from harmonicrnn.metrics.frechet import Extrapolation, Gaussian, GaussianFit, extrapolate_distance, fit_gaussian, frechet_distance, shortage
from harmonicrnn.metrics.logmel import LogMel
from harmonicrnn.metrics.nll import Likelihood, NegativeLogLikelihood
from harmonicrnn.metrics.packaged_embedders import EmbeddingName, make_embedder

__all__ = [
    "Classified",
    "DigitReference",
    "Embedder",
    "EmbeddingName",
    "Extrapolation",
    "Gaussian",
    "GaussianFit",
    "Likelihood",
    "LogMel",
    "NegativeLogLikelihood",
    "digit_reference",
    "digit_scores",
    "extrapolate_distance",
    "fit_gaussian",
    "frechet_distance",
    "make_embedder",
    "select_by_likelihood",
    "shortage",
]
