"""The Fréchet audio distance of a set of clips from a reference, with what it depends on."""

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.clip_sets import FolderClips, SplitClips
from harmonicrnn.evaluation.intervals import distance_interval
from harmonicrnn.metrics import Embedder, FrechetExtrapolation, Gaussian, GaussianFit, frechet_distance, shortage
from harmonicrnn.metrics.statistics_cache import keep_statistics, read_statistics, statistics_path

GROUP = 64  # clips that are read and embedded at a time

Progress = Callable[[int], None]


def reference_gaussian(
    clips: SplitClips | FolderClips, embedder: Embedder, cache: Path, progress: Progress = lambda clips: None
) -> Gaussian:
    """The Gaussian of a reference set's embeddings, from the cache, or computed and kept there.

    Raises:
        UserError: fewer than two embeddings.
    """
    key = clips.key(embedder)
    path = statistics_path(cache, key)
    if (found := read_statistics(path, key)) is not None:
        return Gaussian(**found)
    fit = GaussianFit(embedder.dimensions)
    for rows in _embedded(clips, embedder, progress):
        fit.update(rows)
    try:
        fitted: Gaussian = fit.compute()
    except UserError as error:
        raise UserError(f"{clips.about['name']}: {error}") from error
    keep_statistics(path, key, fitted._asdict())
    return fitted


def measure_distance(
    clips: Iterable[Tensor],
    embedder: Embedder,
    reference: Gaussian,
    *,
    seed: int = 0,
    extrapolate: bool = False,
    progress: Progress = lambda clips: None,
) -> dict[str, Any]:
    """The distance of clips, each (T,) at the embedder's rate, from the reference.

    Args:
        clips: the set.
        embedder: of the audio.
        reference: of the same embeddings.
        seed: of the interval and the subsets that are extrapolated from.
        extrapolate: whether FAD-infinity is added.
        progress: is told how many clips were embedded.

    Returns:
        distance, interval [low, high], embeddings (their number), few (notes of too few of them), notes (these and others), and infinity
        with its slope and R^2 where asked for and possible.

    Raises:
        UserError: fewer than two embeddings, or such as are not finite.
    """
    rows = list(_embedded(clips, embedder, progress))
    embeddings, owner = torch.cat(rows), torch.repeat_interleave(torch.tensor([len(each) for each in rows]))
    fit = GaussianFit(embedder.dimensions)
    fit.update(embeddings)
    fitted: Gaussian = fit.compute()
    distance = frechet_distance(reference, fitted)
    few = [f"{name}: {note}" for name, of in (("its clips", fitted), ("reference", reference)) if (note := shortage(of))]
    record: dict[str, Any] = {
        "distance": distance,
        "interval": list(distance_interval(reference, embeddings, owner, distance, seed)),
        "clips": len(rows),
        "embeddings": len(embeddings),
        "few": few,
        "notes": list(few),
    }
    if extrapolate:
        line = FrechetExtrapolation(reference, seed)
        line.update(embeddings, owner)
        try:
            limit, slope, explained = line.compute().tolist()
            record["infinity"] = {"distance": limit, "slope": slope, "r_squared": explained}
        except UserError as error:
            record["notes"].append(str(error))
    return record


def _embedded(clips: Iterable[Tensor], embedder: Embedder, progress: Progress) -> Iterable[Tensor]:
    """Embeddings (n, d) of each clip."""
    remaining = iter(clips)
    while group := list(islice(remaining, GROUP)):
        yield from embedder(group)
        progress(len(group))
