"""SC09 scores (`harmonicrnn.metrics.digit_scores`) of sets of clips, with confidence intervals."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.clip_sets import SplitClips
from harmonicrnn.evaluation.digit_classifier import DigitClassifier
from harmonicrnn.evaluation.intervals import distance_interval, statistic_interval
from harmonicrnn.evaluation.records import Cell
from harmonicrnn.metrics import Classified, DigitReference, Gaussian, digit_reference, digit_scores, fit_gaussian, shortage
from harmonicrnn.metrics.digit_scores import am_score, inception_score, inception_score_s4, modified_inception_score
from harmonicrnn.metrics.statistics_cache import FORMAT, keep_statistics, read_statistics, statistics_path

RESAMPLES = 200
PUBLISHED_CLIPS = 10_240  # number drawn for the published scores
TRAINING_CLIPS = 31_158  # of SC09
MEASURES = {
    "FID": "Fréchet distance of the classifier's features from the training split's, lower is better",
    "IS": "Inception Score by its definition, higher is better",
    "IS (tables)": "Inception Score as the published tables have it, higher is better",
    "mIS": "modified Inception Score, higher is better",
    "AM": "AM score against the training split, lower is better",
}
"""Meanings of the scores, in the order of `digit_scores`."""

KEPT = (*Gaussian._fields, "probabilities", "scores")


def score(classified: Classified, reference: DigitReference, seed: int = 0) -> dict[str, Cell]:
    """Returns each score with its 95 % interval for a fixed reference; the FID is marked if there are too few clips.

    Raises:
        UserError: as `digit_scores`, or a score is not finite: the classifier gives a digit probability 0.
    """
    features, log_p = classified
    clips, (fid, *others) = len(features), digit_scores(classified, reference).values()
    of_probabilities: tuple[Callable[[Tensor], float], ...] = (
        inception_score,
        inception_score_s4,
        modified_inception_score,
        partial(am_score, reference=reference.probabilities),
    )

    def resampled(of: Callable[[Tensor], float]) -> tuple[float, float]:
        return statistic_interval(lambda drawn: of(log_p[np.repeat(np.arange(clips), drawn)]), clips, seed, RESAMPLES)

    few = "; ".join(too_few(classified, reference))
    cells = [Cell(fid, distance_interval(reference.features, features, torch.arange(clips), fid, seed, RESAMPLES), few)]
    cells += [Cell(value, resampled(of)) for value, of in zip(others, of_probabilities, strict=True)]
    found = dict(zip(MEASURES, cells, strict=True))
    for name, cell in found.items():
        assert cell.interval is not None
        if not np.isfinite([cell.value, *cell.interval]).all():
            raise UserError(f"{name} is {cell.value}, from {cell.interval[0]} to {cell.interval[1]}: not a finite number")
    return found


def too_few(classified: Classified, reference: DigitReference) -> list[str]:
    """Returns notes on a Fréchet distance if its clips or its reference are no more than the features."""
    sets = (("its clips", fit_gaussian(classified.features)), ("reference", reference.features))
    return [f"{name}: {note}" for name, of in sets if (note := shortage(of))]


def training_reference(
    clips: SplitClips, classifier: DigitClassifier, cache: Path, seed: int, progress: Callable[[int], None] = lambda clips: None
) -> tuple[DigitReference, dict[str, Cell]]:
    """Returns the reference from the training split and the split's own scores, from the cache or computed."""
    key: dict[str, Any] = {"format": FORMAT, "embedding": f"digits {classifier.name}", "weights": classifier.weights, "seed": seed}
    key |= {"split": clips.split, "data": clips.info.checksum, "protocol": clips.info.protocol, "clips": len(clips)}
    path = statistics_path(cache, key)
    if (kept := read_statistics(path, key, KEPT)) is None:
        classified = classifier(clips, progress)
        reference = digit_reference(classified)
        rows = [[cell.value, *(cell.interval or ())] for cell in score(classified, reference, seed).values()]
        kept = {**reference.features._asdict(), "probabilities": reference.probabilities, "scores": torch.tensor(rows).double()}
        keep_statistics(path, key, kept)
    reference = DigitReference(Gaussian(*(kept[name] for name in Gaussian._fields)), kept["probabilities"])
    few = shortage(reference.features) or ""
    scores = zip(MEASURES, kept["scores"].tolist(), strict=True)
    return reference, {name: Cell(value, (low, high), few if name == "FID" else "") for name, (value, low, high) in scores}


def why_not_published(
    classifier: DigitClassifier, accuracy: float, training_clips: int, drawn: int, temperature: float = 1.0, top_p: float = 1.0
) -> list[str]:
    """Returns reasons why scores are not comparable with the published ones, apart from data settings. `accuracy` is on the test split."""
    found = [why] if (why := classifier.why_not_beside_the_tables(accuracy)) else []
    for what, theirs, ours in (("clips drawn", PUBLISHED_CLIPS, drawn), ("training clips", TRAINING_CLIPS, training_clips)):
        if ours != theirs:
            found.append(f"{theirs} {what} there, {ours} here")
    for what, drawn_at in (("temperature", temperature), ("top_p", top_p)):
        if drawn_at != 1:
            found.append(f"drawn at {what} 1 there, {drawn_at:g} here")
    return found


def accuracy_of(classified: Classified, digits: Tensor) -> float:
    """Returns the fraction of clips that are classified as their digits (clips,)."""
    return float((classified.log_probabilities.argmax(dim=1) == digits).double().mean())
