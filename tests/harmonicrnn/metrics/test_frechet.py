"""Tests of the Fréchet distance: closed forms, fits over batches and ranks, extrapolation and the cache folder."""

import sys

import numpy as np
import pytest
import scipy.linalg
import torch

from harmonicrnn.errors import UserError
from harmonicrnn.metrics import Gaussian, GaussianFit, extrapolate_distance, frechet_distance, shortage
from harmonicrnn.metrics.statistics_cache import default_cache
from tests.helpers import F64, relative_error

D = 6


def gaussian(mean, covariance, size=1000):
    return Gaussian(torch.as_tensor(mean).double(), torch.as_tensor(covariance).double(), torch.tensor(size))


def fit(*parts):
    metric = GaussianFit(parts[0].shape[1])
    for part in parts:
        metric.update(part)
    return metric.compute()


def random_covariance(rank=D, seed=0, size=D):
    factor = torch.randn(size, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return factor @ factor.T


def random_rows(n, d=D, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=generator, dtype=torch.float64) @ random_covariance(size=d, rank=d) + 5


@pytest.mark.parametrize(("n", "d"), [(500, 6), (40, 64), (3, 64), (2, 1)])
def test_equal_sets_are_at_distance_0(n, d):
    """The order of the sums does not matter, and there may be fewer rows than dimensions."""
    rows = random_rows(n, d)
    shuffled = rows[torch.randperm(n, generator=torch.Generator().manual_seed(1))]
    scale = rows.var(dim=0).sum().item()
    assert frechet_distance(fit(rows), fit(rows)) == pytest.approx(0, abs=1e-9 * scale)
    assert frechet_distance(fit(rows), fit(shuffled[: n // 2], shuffled[n // 2 :])) == pytest.approx(0, abs=1e-9 * scale)
    unit = (rows - rows.mean(dim=0)) / rows.std()
    assert frechet_distance(fit(unit), fit(unit.flip(0))) == pytest.approx(0, abs=1e-9)


def test_shifted_mean():
    covariance = random_covariance()
    assert frechet_distance(gaussian(torch.zeros(D), covariance), gaussian(torch.full((D,), 3.0), covariance)) == pytest.approx(9 * D)


def test_scaled_covariance():
    """The distance is tr(C) (1 - s)^2 for C and s^2 C."""
    covariance = random_covariance()
    expected = covariance.trace().item() * (1 - 3.0) ** 2
    assert frechet_distance(gaussian(torch.zeros(D), covariance), gaussian(torch.zeros(D), 9 * covariance)) == pytest.approx(expected)


def test_commuting_covariances():
    """The distance is the sum of the squared differences of the standard deviations, some of which are 0."""
    basis = torch.linalg.qr(random_covariance())[0]
    first, second = torch.tensor([4.0, 9, 1, 0, 0, 2]).double(), torch.tensor([1.0, 0, 25, 16, 0, 2]).double()
    a, b = (basis @ torch.diag(values) @ basis.T for values in (first, second))
    expected = (first.sqrt() - second.sqrt()).square().sum().item()
    assert frechet_distance(gaussian(torch.zeros(D), a), gaussian(torch.zeros(D), b)) == pytest.approx(expected, rel=1e-9)


def test_rank_one():
    """The distance of u u^T and v v^T is |u|^2 + |v|^2 - 2 |u v|."""
    u, v = torch.randn(2, D, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = (u @ u + v @ v - 2 * (u @ v).abs()).item()
    measured = frechet_distance(gaussian(torch.zeros(D), torch.outer(u, u)), gaussian(torch.zeros(D), torch.outer(v, v)))
    assert measured == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("ranks", [(D, D), (D, 2), (3, 2)])
def test_is_symmetric_and_does_not_depend_on_the_basis(ranks):
    first, second = (gaussian(torch.full((D,), float(i)), random_covariance(rank, seed=i)) for i, rank in enumerate(ranks))
    turn = torch.linalg.qr(random_covariance(seed=7))[0]
    distance = frechet_distance(first, second)
    turned = [gaussian(turn @ g.mean, turn @ g.covariance @ turn.T) for g in (first, second)]
    assert distance > 1
    assert frechet_distance(second, first) == pytest.approx(distance, rel=1e-12)
    assert frechet_distance(*turned) == pytest.approx(distance, rel=1e-10)


def test_agrees_with_the_square_root_of_scipy():
    a, b = random_covariance(size=40, rank=40), random_covariance(size=40, rank=40, seed=1)
    root = np.trace(scipy.linalg.sqrtm((a @ b).numpy()))
    assert abs(root.imag) < 1e-6
    expected = (a.trace() + b.trace()).item() - 2 * root.real
    assert frechet_distance(gaussian(torch.zeros(40), a), gaussian(torch.zeros(40), b)) == pytest.approx(expected, rel=1e-9)


def test_one_dimension():
    assert frechet_distance(gaussian(torch.zeros(1), torch.ones(1, 1)), gaussian(torch.ones(1), 4 * torch.ones(1, 1))) == pytest.approx(2)


@pytest.mark.parametrize("sizes", [[30], [1] * 30, [29, 1], [0, 30]], ids=str)
def test_the_fit_is_exact_over_any_batches_and_order(sizes):
    rows = random_rows(30).float() + 100
    measured = fit(*rows.split(sizes))
    assert relative_error(measured.mean, rows.double().mean(dim=0)) < F64
    assert relative_error(measured.covariance, torch.cov(rows.double().T)) < F64
    assert measured.size == 30


def test_a_set_without_covariance_is_refused():
    for rows in (torch.zeros(0, D), torch.zeros(1, D)):
        with pytest.raises(UserError, match="at least two embeddings"):
            fit(rows)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(value):
    good = gaussian(torch.zeros(D), random_covariance())
    broken = random_covariance()
    broken[1, 2] = broken[2, 1] = value
    for bad in (gaussian(torch.zeros(D), broken), gaussian(torch.full((D,), value), random_covariance())):
        with pytest.raises(UserError, match=r"second set .* not finite"):
            frechet_distance(good, bad)
        with pytest.raises(UserError, match=r"first set .* not finite"):
            frechet_distance(bad, good)


def test_sets_of_two_kinds_are_refused():
    with pytest.raises(UserError, match="6 and 1 dimensions"):
        frechet_distance(gaussian(torch.zeros(D), random_covariance()), gaussian(torch.zeros(1), torch.ones(1, 1)))


def test_too_few_embeddings_are_said():
    assert shortage(gaussian(torch.zeros(D), random_covariance(), size=D + 1)) is None
    assert "6 embeddings of 6 dimensions" in shortage(gaussian(torch.zeros(D), random_covariance(), size=D))


def test_extrapolation_takes_the_bias_of_few_clips_away():
    """Both sets have one distribution: the distance is far above 0 with 200 clips, the extrapolated one is not."""
    reference = gaussian(torch.zeros(D), torch.eye(D))
    measured, extrapolated = [], []
    for seed in range(10):
        rows = torch.randn(200, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found = extrapolate_distance(reference, rows, torch.arange(200))
        assert found.slope > 0
        assert found.r_squared > 0.5
        measured.append(frechet_distance(reference, fit(rows)))
        extrapolated.append(found.distance)
    assert np.mean(measured) > 0.03
    assert abs(np.mean(extrapolated)) < 0.25 * np.mean(measured)


def test_extrapolation_with_too_few_clips_is_refused():
    with pytest.raises(UserError, match=r"20% of the clips to give more than 6 .* give 6"):
        extrapolate_distance(gaussian(torch.zeros(D), random_covariance()), random_rows(30), torch.arange(30))


def part_of(rank):
    """Returns a rank's share of 60 rows: one third on the first rank, two thirds on the second."""
    rows = random_rows(60)
    return rows[(torch.arange(60) % 3 == 0) == (rank == 0)]


def measure_part():
    return fit(part_of(torch.distributed.get_rank()))


def test_the_fit_is_exact_over_two_ranks(ranks):
    expected = fit(part_of(0), part_of(1))
    for measured in ranks.run(2, measure_part):
        assert relative_error(measured.mean, expected.mean) < F64
        assert relative_error(measured.covariance, expected.covariance) < F64
        assert measured.size == 60


@pytest.mark.skipif(sys.platform != "linux", reason="a convention of Linux")
def test_the_cache_lies_where_the_user_says(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "harmonicrnn"
