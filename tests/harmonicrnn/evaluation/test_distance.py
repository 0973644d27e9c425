"""Tests of the distances given for scale: one half of the real clips against the other, and noise."""

import pytest
import torch

from harmonicrnn.evaluation.distance import distances_for_scale
from harmonicrnn.metrics import GaussianFit, LogMel, frechet_distance


class Clips:
    """Clips of tones of different pitch."""

    def __init__(self, count):
        t = torch.arange(4000) / 8000
        self.clips = [0.5 * torch.sin(2 * torch.pi * (200 + 37 * i) * t) for i in range(count)]

    def share(self, rank, ranks):
        return iter(self.clips[rank::ranks])


def gaussian(embedder, clips):
    fit = GaussianFit(embedder.dimensions)
    for rows in embedder(clips):
        fit.update(rows)
    return fit.compute()


def test_halves_are_near_one_another_and_noise_is_far():
    clips, embedder = Clips(12), LogMel(8000)
    reference, counted = gaussian(embedder, clips.clips), []
    halves, noise, count = distances_for_scale(clips, embedder, reference, 0, counted.append)
    assert (count, sum(counted)) == (6, 18)
    expected = frechet_distance(gaussian(embedder, clips.clips[1::2]), gaussian(embedder, clips.clips[::2]))
    assert halves == pytest.approx(expected)
    assert 0 < 5 * halves < noise


def test_too_few_clips_give_none():
    clips, embedder = Clips(1), LogMel(8000)
    assert distances_for_scale(clips, embedder, gaussian(embedder, Clips(4).clips), 0) is None
