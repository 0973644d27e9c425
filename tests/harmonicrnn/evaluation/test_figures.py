"""Tests of the axes of figures."""

import pytest
import torch

from harmonicrnn.evaluation.figures import mel_decibels, mel_figure, mel_position, waveform_figure


def test_mel_spectrogram_of_a_clip_shorter_than_its_window():
    """It is padded to one window, whose frames have the spacing of any clip's."""
    (picture,) = mel_figure(torch.ones(10), 8000).axes[0].images
    assert picture.get_array().shape == (64, 5)
    assert picture.get_array().min() < picture.get_array().max() == 0
    assert picture.get_extent()[1] == 1024 / 8000


def test_the_axis_of_a_mel_spectrogram_is_in_hertz():
    """A tone is brightest in the band at its frequency, within one band."""
    for tone in (500, 1000, 4000):
        samples = torch.sin(2 * torch.pi * tone * torch.arange(8000) / 16_000)
        band = mel_decibels(samples, 16_000).mean(dim=1).argmax().item()
        assert abs(band + 0.5 - mel_position(tone, 16_000)) < 1
    axes = mel_figure(samples, 16_000).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("seconds", "Hz")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["500", "1,000", "2,000", "4,000"]
    assert axes.get_ylim() == (0, 64)
    waveform = waveform_figure(samples, 16_000).axes[0]
    assert (waveform.get_xlabel(), waveform.lines[0].get_xdata()[-1]) == ("seconds", pytest.approx(7999 / 16_000))
