"""The scores of SC09 (`harmonicrnn.metrics.digits`) of sets of clips, with intervals, by a classifier of digits."""

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.clip_sets import SplitClips
from harmonicrnn.evaluation.intervals import distance_interval, statistic_interval
from harmonicrnn.metrics import Classified, DigitReference, Gaussian, digit_reference, digit_scores, shortage
from harmonicrnn.metrics.digit_scores import am_score, inception_score, inception_score_s4, modified_inception_score
from harmonicrnn.metrics.statistics_cache import FORMAT, keep_statistics, read_statistics, statistics_path

GROUP = 64  # clips that are read and classified at a time
RESAMPLES = 200
PUBLISHED_CLIPS = 10_240  # that were drawn for the published scores
TRAINING_CLIPS = 31_158  # of SC09
MEASURES = {
    "fid": ("FID", "Fréchet distance of the classifier's features from the training split's, lower is better"),
    "is": ("IS", "Inception Score by its definition, higher is better"),
    "is_s4": ("IS (tables)", "Inception Score as the published tables have it, higher is better"),
    "mis": ("mIS", "modified Inception Score, higher is better"),
    "am": ("AM", "AM score against the training split, lower is better"),
}
"""Titles and meanings of the scores."""

KEPT = (*Gaussian._fields, "probabilities", "scores")

Progress = Callable[[int], None]
Scores = dict[str, dict[str, Any]]


class Classifier(Protocol):
    """A trained classifier of digits, as `load_digit_classifier` gives it: its name, the rate in Hz that it takes, the
    SHA-256 of its weights by their file's name, and its accuracy as its checkpoint says; None where that does not."""

    name: str
    rate: int
    weights: dict[str, str]
    accuracy: float | None

    def __call__(self, clips: Sequence[Tensor]) -> Classified:
        """Of clips (T,) in [-1, 1]."""

    def why_not_beside_the_tables(self, accuracy: float) -> str | None:
        """Why its scores may not stand beside the published ones, given its accuracy on the test split; None where they may."""


def classify(clips: Iterable[Tensor], classifier: Classifier, progress: Progress = lambda clips: None) -> Classified:
    """All clips as the classifier sees them, in their order."""
    parts, remaining = [], iter(clips)
    while group := list(islice(remaining, GROUP)):
        parts.append(classifier(group))
        progress(len(group))
    return Classified(*(torch.cat(part) for part in zip(*parts, strict=True)))


def score(classified: Classified, reference: DigitReference, seed: int = 0) -> Scores:
    """Of each score its value and its 95 % interval [low, high], the reference staying as it is.

    Raises:
        UserError: as `digit_scores`, or one of them is not finite: the classifier is too sure of digits that clips have no share of.
    """
    values, clips = digit_scores(classified, reference), len(classified.features)
    log_p = classified.log_probabilities
    of_probabilities: dict[str, Callable[[Tensor], float]] = {
        "is": inception_score,
        "is_s4": inception_score_s4,
        "mis": modified_inception_score,
        "am": lambda rows: am_score(rows, reference.probabilities),
    }
    intervals = {"fid": distance_interval(reference.features, classified.features, torch.arange(clips), values["fid"], seed, RESAMPLES)}
    for name, of in of_probabilities.items():
        intervals[name] = statistic_interval(
            lambda drawn, of=of: of(log_p[np.repeat(np.arange(clips), drawn)]),  # type: ignore[misc]
            clips,
            seed,
            RESAMPLES,
        )
    for name, value in values.items():
        if not np.isfinite([value, *intervals[name]]).all():
            raise UserError(f"{MEASURES[name][0]} is {value}, from {intervals[name][0]} to {intervals[name][1]}: not a finite number")
    return {name: {"value": value, "interval": list(intervals[name])} for name, value in values.items()}


def too_few(classified: Classified, reference: DigitReference) -> list[str]:
    """What must stand beside the Fréchet distance of clips where they, or those compared with, are no more than the features."""
    sets = (("its clips", digit_reference(classified).features), ("reference", reference.features))
    return [f"{name}: {note}" for name, of in sets if (note := shortage(of))]


def training_reference(
    clips: SplitClips, classifier: Classifier, cache: Path, seed: int, progress: Progress = lambda clips: None
) -> tuple[DigitReference, Scores]:
    """What clips are scored against, of the training split, and its own scores; from the cache, or computed and kept there."""
    key: dict[str, Any] = {"format": FORMAT, "embedding": f"digits {classifier.name}", "weights": classifier.weights, "seed": seed}
    key |= {"split": clips.split, "data": clips.about["checksum"], "protocol": clips.about["protocol"], "clips": len(clips)}
    path = statistics_path(cache, key)
    if (kept := read_statistics(path, key, KEPT)) is None:
        classified = classify(clips, classifier, progress)
        reference = digit_reference(classified)
        rows = [[of["value"], *of["interval"]] for of in score(classified, reference, seed).values()]
        kept = {**reference.features._asdict(), "probabilities": reference.probabilities, "scores": torch.tensor(rows).double()}
        keep_statistics(path, key, kept)
    scores = {
        name: {"value": value, "interval": [low, high]} for name, (value, low, high) in zip(MEASURES, kept["scores"].tolist(), strict=True)
    }
    return DigitReference(Gaussian(*(kept[name] for name in Gaussian._fields)), kept["probabilities"]), scores


def why_not_published(
    classifier: Classifier, accuracy: float, training_clips: int, drawn: int, temperature: float = 1.0, top_p: float = 1.0
) -> list[str]:
    """Why scores may not stand beside the published ones, apart from the data's settings; none where they may. Accuracy is of the test
    split."""
    found = [why] if (why := classifier.why_not_beside_the_tables(accuracy)) else []
    for what, theirs, ours in (("clips drawn", PUBLISHED_CLIPS, drawn), ("training clips", TRAINING_CLIPS, training_clips)):
        if ours != theirs:
            found.append(f"{theirs} {what} there, {ours} here")
    for what, drawn_at in (("temperature", temperature), ("top_p", top_p)):
        if drawn_at != 1:
            found.append(f"drawn at {what} 1 there, {drawn_at:g} here")
    return found


def accuracy_of(classified: Classified, digits: Tensor) -> float:
    """The share of clips whose digit (clips,) the classifier says."""
    return float((classified.log_probabilities.argmax(dim=1) == digits).double().mean())
