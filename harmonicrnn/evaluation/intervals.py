"""95 % bootstrap intervals (Efron, 1979) of statistics over clips: clips are resampled with replacement."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.metrics.frechet import Gaussian, factor

LEVELS = (2.5, 97.5)  # percentiles
RESAMPLES = 1000
RESAMPLES_OF_DISTANCES = 200


def statistic_interval(
    statistic: Callable[[np.ndarray], float], clips: int, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Returns the interval of a statistic of the clips' draw counts (clips,): percentiles of its resampled values."""
    low, high = np.percentile([statistic(drawn) for drawn in draws(clips, seed, resamples)], LEVELS)
    return float(low), float(high)


def ratio_interval(totals: np.ndarray, counts: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Returns the interval of sum(totals) / sum(counts), both (N,), one entry per clip."""
    return statistic_interval(lambda drawn: totals @ drawn / (counts @ drawn), len(totals), seed, resamples)


def distance_interval(
    reference: Gaussian, embeddings: Tensor, clips: Tensor, distance: float, seed: int = 0, resamples: int = RESAMPLES_OF_DISTANCES
) -> tuple[float, float]:
    """Returns the interval of the Fréchet distance of embeddings (N, d) from a fixed reference; clips (N,) holds their clip indices.

    Repeated clips make the covariance noisier and the distance higher: the percentiles are shifted by the measured distance minus the mean
    of the resampled ones, and are at least 0.
    """
    resampled = np.array(list(_distances(reference, embeddings, clips, seed, resamples)))
    low, high = np.percentile(resampled, LEVELS) + distance - resampled.mean()
    return max(0.0, float(low)), max(0.0, float(high))


def draws(clips: int, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """Yields draw counts of the clips, (clips,), `resamples` times."""
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        yield np.bincount(rng.integers(clips, size=clips), minlength=clips)


def _distances(reference: Gaussian, embeddings: Tensor, clips: Tensor, seed: int, resamples: int) -> Iterator[float]:
    # Relative to the reference's mean, so that sums of squares keep their precision.
    rows = embeddings.double() - reference.mean
    root = factor(reference)
    projected, squares = rows @ root, rows.square().sum(dim=1)
    _, owner = clips.unique(return_inverse=True)
    for drawn in draws(int(owner.max()) + 1, seed, resamples):
        weights = torch.from_numpy(drawn).double()[owner]
        total = weights.sum()
        mean = weights @ rows / total
        trace = (weights @ squares - total * mean.square().sum()) / (total - 1)
        # The rows of F^T root, with F of the resampled covariance; their singular values give the cross term.
        part = (projected - mean @ root) * (weights / (total - 1)).sqrt()[:, None]
        gram = part.T @ part if len(part) > part.shape[1] else part @ part.T
        cross = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().sum()
        yield (mean.square().sum() + trace + reference.covariance.trace() - 2 * cross).item()
