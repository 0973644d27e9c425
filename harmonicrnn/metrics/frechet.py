"""The Fréchet distance between Gaussians fitted to two sets of embeddings, in float64.

    d^2 = |m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2))

With C = F F^T from an eigendecomposition, the last trace is the sum of the singular values of F1^T F2. This avoids the square root of a
product, which need not be symmetric and may not exist, and is exact for covariances without full rank.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

from harmonicrnn.errors import UserError

EPSILON = torch.finfo(torch.float64).eps
SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Fractions of the clips from which the distance is extrapolated."""


class Gaussian(NamedTuple):
    """A Gaussian fitted to embeddings: mean (d,) and unbiased covariance (d, d) in float64; size int64, their number."""

    mean: Tensor
    covariance: Tensor
    size: Tensor


class GaussianFit(Metric):
    """Fits mean and covariance to embeddings (N, d), from float64 sums that are reduced once: independent of batches, order and ranks.

    Args:
        dimensions: d.
        kwargs: as for every torchmetric.
    """

    full_state_update = False
    total: Tensor
    products: Tensor
    count: Tensor

    def __init__(self, dimensions: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", torch.zeros(dimensions, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("products", torch.zeros(dimensions, dimensions, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, embeddings: Tensor) -> None:
        """Adds finite embeddings (N, d)."""
        wide = embeddings.to(self.total.device, torch.float64)
        self.total += wide.sum(dim=0)
        self.products.addmm_(wide.T, wide)
        self.count += len(wide)

    def compute(self) -> Gaussian:
        """Returns the Gaussian; raises UserError for fewer than two embeddings."""
        if self.count < 2:
            raise UserError(f"a covariance needs at least two embeddings, and there are {int(self.count)}: use more clips, or longer ones")
        mean = self.total / self.count
        covariance = (self.products - self.count * torch.outer(mean, mean)) / (self.count - 1)
        return Gaussian(mean, (covariance + covariance.T) / 2, self.count.clone())


def fit_gaussian(embeddings: Tensor) -> Gaussian:
    """Fits a Gaussian to embeddings (N, d) on this process; raises UserError for fewer than two."""
    fit = GaussianFit(embeddings.shape[1], sync_on_compute=False)
    fit.update(embeddings)
    gaussian: Gaussian = fit.compute()
    return gaussian


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """Returns d^2, at least 0.

    Raises:
        UserError: different numbers of dimensions, or a number that is not finite.
    """
    if first.mean.shape != second.mean.shape:
        raise UserError(f"the embeddings compared have {first.mean.numel()} and {second.mean.numel()} dimensions: they are not of one kind")
    for name, gaussian in (("first", first), ("second", second)):
        if not (gaussian.mean.isfinite().all() and gaussian.covariance.isfinite().all()):
            raise UserError(f"the {name} set of embeddings has a mean or a covariance that is not finite: look at its audio")
    first, second = (Gaussian(*(tensor.cpu() for tensor in gaussian)) for gaussian in (first, second))
    shift = (first.mean - second.mean).double().square().sum()
    traces = sum(torch.atleast_2d(gaussian.covariance).double().trace() for gaussian in (first, second))
    cross = torch.linalg.svdvals(factor(first).T @ factor(second)).sum()
    # Rounding can make it negative.
    return max(0.0, (shift + traces - 2 * cross).item())


def factor(gaussian: Gaussian) -> Tensor:
    """Returns F (d, r) with F F^T the covariance, without eigenvalues that are 0 up to rounding."""
    covariance, mean = torch.atleast_2d(gaussian.covariance).double(), gaussian.mean.double()
    values, vectors = torch.linalg.eigh(covariance)
    rounding = len(values) * EPSILON * (values[-1].abs() + mean.square().sum())
    kept = values > rounding
    return vectors[:, kept] * values[kept].sqrt()


def shortage(gaussian: Gaussian) -> str | None:
    """Returns a note on distances from this Gaussian if it has too few embeddings, else None."""
    dimensions, count = gaussian.mean.numel(), int(gaussian.size)
    if count > dimensions:
        return None
    return f"{count} embeddings of {dimensions} dimensions: too few for a covariance of full rank, and the distance depends on their number"


@dataclass(frozen=True)
class Extrapolation:
    """The distance for infinitely many clips, the slope over 1/N, and R^2 of the linear fit."""

    distance: float
    slope: float
    r_squared: float


def extrapolate_distance(reference: Gaussian, embeddings: Tensor, clips: Tensor, seed: int = 0) -> Extrapolation:
    """Computes FAD-infinity: the distance depends on the number N of clips about as a + b/N; returns a, b and R^2.

    Args:
        reference: the other set.
        embeddings: (N, d).
        clips: (N,) int64, clip index of each embedding.
        seed: of the subsets of clips.

    Raises:
        UserError: the smallest subset has no more embeddings than dimensions.
    """
    numbers, owner = clips.unique(return_inverse=True)
    generator = torch.Generator().manual_seed(seed)
    inverse_sizes, distances = [], []
    for share in SHARES:
        chosen = torch.randperm(len(numbers), generator=generator)[: max(1, round(share * len(numbers)))]
        subset = embeddings[torch.isin(owner, chosen)]
        if len(subset) <= embeddings.shape[1]:
            raise UserError(
                f"FAD-infinity needs {SHARES[0]:.0%} of the clips to give more than {embeddings.shape[1]} embeddings, as many as there "
                f"are dimensions; they give {len(subset)}: use more clips"
            )
        distances.append(frechet_distance(reference, fit_gaussian(subset)))
        inverse_sizes.append(1 / len(chosen))
    x, y = torch.tensor(inverse_sizes, dtype=torch.float64), torch.tensor(distances, dtype=torch.float64)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    limit = y.mean() - slope * x.mean()
    spread = (y - y.mean()).square().sum()
    explained = 1 - (y - limit - slope * x).square().sum() / spread if spread > 0 else torch.ones(())
    return Extrapolation(limit.item(), slope.item(), explained.item())
