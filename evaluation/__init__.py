"""How good models and sets of audio are, as numbers with what they depend on, and as a page that shows and plays it."""

from evaluation.distance import measure_distance, reference_gaussian
from evaluation.likelihood import Likelihood, measure_likelihood
from evaluation.page import write_page
from evaluation.sources import FolderClips, SplitClips, WholeFolder

__all__ = [
    "FolderClips",
    "Likelihood",
    "SplitClips",
    "WholeFolder",
    "measure_distance",
    "measure_likelihood",
    "reference_gaussian",
    "write_page",
]
