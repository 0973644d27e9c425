"""Fréchet audio distance (FAD) of a set of clips from a reference, on one process or over several ranks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.clip_sets import FolderClips, SplitClips
from harmonicrnn.evaluation.intervals import distance_interval
from harmonicrnn.metrics import (
    Embedder,
    Extrapolation,
    Gaussian,
    GaussianFit,
    extrapolate_distance,
    fit_gaussian,
    frechet_distance,
    shortage,
)
from harmonicrnn.metrics.statistics_cache import keep_statistics, read_statistics, statistics_path

GROUP = 64  # clips read and embedded at a time

Progress = Callable[[int], None]

SCALE_CLIPS = 256


@dataclass(frozen=True)
class Distance:
    """A distance with its 95 % interval and the numbers of clips and embeddings. `few` holds notes on sets with too few embeddings,
    `notes` these and others. `infinity` is None if it was not asked for, or there are too few clips."""

    distance: float
    interval: tuple[float, float]
    clips: int
    embeddings: int
    few: list[str]
    notes: list[str]
    infinity: Extrapolation | None = None


def reference_gaussian(
    clips: SplitClips | FolderClips,
    embedder: Embedder,
    cache: Path,
    progress: Progress = lambda clips: None,
    device: torch.device | str = "cpu",  # on which ranks exchange their sums
) -> Gaussian:
    """Returns the Gaussian of a reference set's embeddings, from the cache or computed by all ranks together (each must call this).

    Raises:
        UserError: fewer than two embeddings.
    """
    rank, ranks = _place()
    key = clips.key(embedder)
    path = statistics_path(cache, key)
    found = [read_statistics(path, key) if rank == 0 else None]
    if ranks > 1:
        dist.broadcast_object_list(found)
    if found[0] is not None:
        return Gaussian(**found[0])
    fit = GaussianFit(embedder.dimensions).to(device)
    for rows in _embedded(clips.share(rank, ranks), embedder, progress):
        fit.update(rows)
    try:
        fitted = Gaussian(*(tensor.cpu() for tensor in fit.compute()))
    except UserError as error:
        raise UserError(f"{clips.info.name}: {error}") from error
    if rank == 0:
        keep_statistics(path, key, fitted._asdict())
    return fitted


def measure_distance(
    clips: Iterable[Tensor],
    embedder: Embedder,
    reference: Gaussian,
    *,
    numbers: Sequence[int] | None = None,
    seed: int = 0,
    extrapolate: bool = False,
    progress: Progress = lambda clips: None,
) -> Distance:
    """Returns the distance of clips, each (T,) at the embedder's rate, from the reference.

    Args:
        clips: the set, or this rank's share of it.
        embedder: of the audio.
        reference: Gaussian of the same embeddings.
        numbers: indices of this rank's clips in the whole set; None for 0, 1, ...
        seed: for the interval and the subsets of the extrapolation.
        extrapolate: whether FAD-infinity is added.
        progress: called with numbers of embedded clips.

    Raises:
        UserError: fewer than two embeddings, or embeddings that are not finite.
    """
    rows = list(_embedded(clips, embedder, progress))
    clip = torch.tensor(range(len(rows)) if numbers is None else numbers, dtype=torch.long)
    own = clip.repeat_interleave(torch.tensor([len(each) for each in rows], dtype=torch.long))
    parts = _gathered((torch.cat([torch.empty(0, embedder.dimensions), *rows]), own))
    embeddings, owner = (torch.cat(part) for part in zip(*parts, strict=True))
    owner, order = owner.sort(stable=True)
    embeddings = embeddings[order]
    fitted = fit_gaussian(embeddings)
    distance = frechet_distance(reference, fitted)
    few = [f"{name}: {note}" for name, of in (("its clips", fitted), ("reference", reference)) if (note := shortage(of))]
    count = len(owner.unique())
    if shortage(fitted):
        enough = -(-(embedder.dimensions + 1) * count // len(embeddings))
        few[0] += f"; {enough} clips of this length would do"
    notes, infinity = list(few), None
    if extrapolate:
        try:
            infinity = extrapolate_distance(reference, embeddings, owner, seed)
        except UserError as error:
            notes.append(str(error))
    interval = distance_interval(reference, embeddings, owner, distance, seed)
    return Distance(distance, interval, count, len(embeddings), few, notes, infinity)


def distances_for_scale(
    clips: SplitClips | FolderClips, embedder: Embedder, reference: Gaussian, seed: int, progress: Progress = lambda clips: None
) -> tuple[float, float, int] | None:
    """Returns distances for scale: of one half of real clips from the other, and of white noise of their levels from the reference; and the
    number of clips in each, SCALE_CLIPS at most. None if there are too few."""
    halves = [list(islice(clips.share(half, 2), SCALE_CLIPS)) for half in range(2)]
    generator = torch.Generator().manual_seed(seed)
    noise = [(clip.std(correction=0) * torch.randn(clip.shape, generator=generator)).clamp(-1, 1) for clip in halves[0]]
    none = torch.empty(0, embedder.dimensions)
    sets = [torch.cat([none, *_embedded(part, embedder, progress)]) for part in (*halves, noise)]
    if min(map(len, sets)) < 2:
        return None
    one, other, noisy = map(fit_gaussian, sets)
    return frechet_distance(other, one), frechet_distance(reference, noisy), len(noise)


def _place() -> tuple[int, int]:
    """Returns rank and number of ranks."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def _gathered(part: Any) -> list[Any]:
    """Returns the parts of all ranks, on each rank."""
    parts = [part] * _place()[1]
    if len(parts) > 1:
        dist.all_gather_object(parts, part)
    return parts


def _embedded(clips: Iterable[Tensor], embedder: Embedder, progress: Progress) -> Iterator[Tensor]:
    """Yields the embeddings (n, d) of each clip."""
    remaining = iter(clips)
    while group := list(islice(remaining, GROUP)):
        yield from embedder(group)
        progress(len(group))
