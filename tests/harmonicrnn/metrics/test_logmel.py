"""Tests of the log-mel embedding: bands, windows, independence of the batch, and clips that are refused."""

import math

import pytest
import torch

from harmonicrnn.errors import UserError
from harmonicrnn.metrics import GaussianFit, LogMel, frechet_distance, logmel
from tests.helpers import F32, relative_error


def noise(samples, seed=0, level=0.1):
    return level * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
def test_silence_and_level(rate):
    """Silence gives the floor and no spread; twice the amplitude raises the mean of each band by ln 4, and changes nothing else."""
    embedder = LogMel(rate)
    silence, soft, loud = embedder([torch.zeros(rate), noise(rate), 2 * noise(rate)])
    assert soft.shape == (1, embedder.dimensions)
    mean, spread = silence[0].chunk(2)
    assert torch.allclose(mean, torch.full_like(mean, math.log(logmel.FLOOR)))
    assert torch.equal(spread, torch.zeros_like(spread))
    raised = (loud - soft)[0].chunk(2)
    assert torch.allclose(raised[0], torch.full_like(mean, math.log(4)), atol=1e-2)
    assert torch.allclose(raised[1], torch.zeros_like(mean), atol=1e-2)


def test_a_tone_is_in_the_band_of_its_pitch():
    embedder = LogMel(16_000)
    t = torch.arange(16_000) / 16_000
    bands = [embedder([0.5 * torch.sin(2 * math.pi * pitch * t)])[0][0, : logmel.BANDS].argmax().item() for pitch in (200, 1000, 6000)]
    assert bands == sorted(set(bands))
    # Mel bands are evenly spaced up to half the rate.
    mel = [2595 * math.log10(1 + pitch / 700) for pitch in (200, 1000, 6000, 8000)]
    for band, value in zip(bands, mel, strict=False):
        assert abs(band + 1 - value / mel[3] * (logmel.BANDS + 1)) <= 1


@pytest.mark.parametrize(("seconds", "windows"), [(0.001, 1), (0.5, 1), (1, 1), (1.4, 1), (1.6, 2), (5, 5)])
def test_windows_of_about_a_second(seconds, windows):
    (rows,) = LogMel(16_000)([noise(round(16_000 * seconds))])
    assert rows.shape == (windows, 64)
    assert rows.isfinite().all()


def test_does_not_depend_on_the_batch(monkeypatch):
    clips = [noise(length, seed) for seed, length in enumerate((16_000, 16_000, 16_000, 9000, 40_000, 40_000, 16_000))]
    together, alone = LogMel(16_000)(clips), [LogMel(16_000)([clip])[0] for clip in clips]
    monkeypatch.setattr("harmonicrnn.metrics.embedder.SAMPLES", 32_000)
    for a, b, c in zip(together, alone, LogMel(16_000)(clips), strict=True):
        assert relative_error(a, b) < F32
        assert relative_error(c, b) < F32


def test_more_noise_is_farther_away():
    t = torch.arange(16_000) / 16_000
    generator = torch.Generator().manual_seed(0)
    pitches = 100 + 400 * torch.rand(260, generator=generator)
    clips = [0.3 * torch.sin(2 * math.pi * pitch * t) * torch.exp(-3 * t) + noise(16_000, i, 1e-3) for i, pitch in enumerate(pitches)]

    def fitted(part):
        metric = GaussianFit(64)
        metric.update(torch.cat(LogMel(16_000)(part)))
        return metric.compute()

    reference = fitted(clips[:130])
    distances = [frechet_distance(reference, fitted(clips[130:]))]
    for level in (0.003, 0.03, 0.3):
        distances.append(frechet_distance(reference, fitted([c + noise(16_000, 500 + i, level) for i, c in enumerate(clips[130:])])))
    assert distances == sorted(distances)
    assert distances[1] > 2 * distances[0]


def test_bad_clips_are_named():
    embedder = LogMel(16_000)
    with pytest.raises(UserError, match="clip 1 of 2 has no samples"):
        embedder([noise(100), torch.zeros(0)])
    with pytest.raises(UserError, match="clip 0 of 1 has samples that are not finite"):
        embedder([torch.tensor([0.0, float("nan")])])
