"""Tests of prompts: reading, scaling, conversion, and audio that cannot be used."""

import numpy as np
import pytest
import soundfile
import torch

from harmonicrnn.audio import Quantiser, read_mono, scale
from harmonicrnn.errors import UserError
from harmonicrnn.generation.prompts import classes_of, conversion
from tests.audio_files import tone

QUANTISER = Quantiser()


@pytest.fixture
def path(tmp_path):
    """Writes 1,000 samples at 16 kHz, the loudest near the end, and returns the path."""
    samples = 0.25 * tone(1000, 0)
    samples[900] = 0.9
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    return tmp_path / "a.wav"


@pytest.mark.parametrize("seconds", [None, 0.01])
@pytest.mark.parametrize("scaling", ["clip", "file", "none"])
def test_a_file_is_scaled_by_the_extremes_of_all_of_it(path, scaling, seconds):
    samples = torch.from_numpy(read_mono(path, 16_000))
    span = None if scaling == "none" else (samples.min().item(), samples.max().item())
    expected = QUANTISER.encode(scale(samples, span))[: None if seconds is None else 160]
    assert torch.equal(classes_of(path, None, QUANTISER, 16_000, scaling, seconds), expected)
    assert torch.equal(classes_of(samples, None, QUANTISER, 16_000, scaling, seconds), expected)
    assert torch.equal(classes_of(samples.numpy(), 16_000, QUANTISER, 16_000, scaling, seconds), expected)


def test_other_rates_and_channels_are_converted_and_told(tmp_path):
    stereo = np.stack([tone(4410, 0), tone(4410, 1)], axis=1)
    soundfile.write(tmp_path / "a.wav", stereo, 44_100, subtype="FLOAT")
    assert conversion(tmp_path / "a.wav", 16_000) == (
        f"{tmp_path / 'a.wav'}: its 2 channels are mixed to mono and its 44100 Hz are resampled to 16000 Hz"
    )
    assert conversion(tmp_path / "a.wav", 44_100) == f"{tmp_path / 'a.wav'}: its 2 channels are mixed to mono"
    from_file = classes_of(tmp_path / "a.wav", None, QUANTISER, 16_000, "none")
    from_samples = classes_of(stereo.T, 44_100, QUANTISER, 16_000, "none")
    assert len(from_file) == 1600
    assert (from_file - from_samples).abs().max() <= 1
    soundfile.write(tmp_path / "same.wav", tone(100, 0), 16_000)
    assert conversion(tmp_path / "same.wav", 16_000) is None


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (np.zeros(0), None, "holds no samples"),
        (np.array([0.0, np.nan]), None, "NaN or infinite"),
        (np.zeros(1), 96_000, "1 samples at 96000 Hz are less than one sample at 16000 Hz"),
        (np.zeros((100, 2)), None, r"shape \(100, 2\), not \(T,\) or \(channels, T\)"),
        (np.zeros((1, 1, 100)), None, r"shape \(1, 1, 100\), not"),
        (np.zeros(10), 0, "sample rate must be at least 1"),
        ("nothing.wav", None, "nothing.wav: "),
    ],
)
def test_audio_that_cannot_be_used(audio, rate, message):
    with pytest.raises(UserError, match=message):
        classes_of(audio, rate, QUANTISER, 16_000, "clip")


def test_an_empty_file_and_a_short_one(tmp_path, path):
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    with pytest.raises(UserError, match=r"empty\.wav: holds no samples"):
        classes_of(tmp_path / "empty.wav", None, QUANTISER, 16_000, "clip")
    with pytest.raises(UserError, match=r"a\.wav: holds 0\.0625 s, fewer than the 0\.1 s"):
        classes_of(path, None, QUANTISER, 16_000, "clip", 0.1)
