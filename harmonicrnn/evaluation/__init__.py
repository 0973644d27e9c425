"""How good models and sets of audio are, as numbers with what they depend on, and as a page that shows and plays it."""

from harmonicrnn.evaluation.clip_sets import FolderClips, SplitClips
from harmonicrnn.evaluation.distance import measure_distance, reference_gaussian
from harmonicrnn.evaluation.likelihood import Likelihood, measure_likelihood
from harmonicrnn.evaluation.page import write_page

__all__ = [
    "FolderClips",
    "Likelihood",
    "SplitClips",
    "measure_distance",
    "measure_likelihood",
    "reference_gaussian",
    "write_page",
]
