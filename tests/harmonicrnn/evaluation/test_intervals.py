"""Tests of bootstrap confidence intervals of ratios, means and Fréchet distances."""

import numpy as np
import pytest
import torch

from harmonicrnn.evaluation.intervals import distance_interval, ratio_interval
from harmonicrnn.metrics import GaussianFit, frechet_distance


def resampled(clips, seed, resamples):
    """Returns the indices of the clips of each resampled set, set by set."""
    rng = np.random.default_rng(seed)
    return [rng.integers(clips, size=clips) for _ in range(resamples)]


def test_of_a_ratio_is_that_of_a_direct_bootstrap():
    rng = np.random.default_rng(1)
    counts = rng.integers(100, 1000, size=40)
    totals = counts * rng.normal(3, 0.5, size=40)
    ratios = [totals[drawn].sum() / counts[drawn].sum() for drawn in resampled(40, 5, 300)]
    assert ratio_interval(totals, counts, 5, 300) == pytest.approx(np.percentile(ratios, (2.5, 97.5)), rel=1e-12)


def test_of_a_mean_has_the_width_that_the_central_limit_gives():
    values = np.random.default_rng(0).normal(2, 1, size=2000)
    low, high = ratio_interval(values, np.ones(2000))
    assert (high - low) / 2 == pytest.approx(1.96 * values.std() / 2000**0.5, rel=0.1)
    assert (high + low) / 2 == pytest.approx(values.mean(), abs=0.005)


def fitted(rows):
    fit = GaussianFit(rows.shape[1])
    fit.update(rows)
    return fit.compute()


@pytest.mark.parametrize(("clips", "each"), [(30, 1), (30, 2), (5, 1)], ids=["many", "several_of_a_clip", "fewer_than_dimensions"])
def test_of_a_distance_is_that_of_resampled_clips_around_the_measured_one(clips, each):
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    reference = fitted(torch.randn(500, 8, generator=generator, dtype=torch.float64) @ mix + 3)
    rows = torch.randn(clips, each, 8, generator=generator, dtype=torch.float64) @ mix.T
    distance = frechet_distance(reference, fitted(rows.flatten(0, 1)))
    direct = [frechet_distance(reference, fitted(rows[drawn].flatten(0, 1))) for drawn in resampled(clips, 2, 60)]
    expected = np.percentile(direct, (2.5, 97.5)) + distance - np.mean(direct)
    owner = torch.arange(clips).repeat_interleave(each) * 10
    found = distance_interval(reference, rows.flatten(0, 1), owner, distance, 2, 60)
    assert found == pytest.approx(expected.clip(min=0), rel=1e-6)
    assert found[0] < distance < found[1]
