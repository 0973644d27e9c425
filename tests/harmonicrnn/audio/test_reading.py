"""Tests of audio file reading: resampling, mixing to mono, refused files and streamed WAV files."""

import struct

import numpy as np
import pytest
import soundfile

from harmonicrnn.audio import read_mono
from harmonicrnn.errors import UserError


def sine(rate, seconds=0.5, frequency=440.0, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate)


def peak_frequency(samples, rate):
    return np.abs(np.fft.rfft(samples * np.hanning(len(samples)))).argmax() * rate / len(samples)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100, 48_000])
def test_resamples_to_the_rate(tmp_path, suffix, rate):
    soundfile.write(tmp_path / f"a.{suffix}", sine(rate), rate)
    samples = read_mono(tmp_path / f"a.{suffix}", 16_000)
    assert samples.dtype == np.float32
    assert abs(len(samples) - 8000) <= 1
    assert abs(peak_frequency(samples, 16_000) - 440) < 3
    assert abs(np.abs(samples[1000:-1000]).max() - 0.5) < 0.02


def test_what_lies_above_the_new_band_is_removed(tmp_path):
    soundfile.write(tmp_path / "a.wav", sine(48_000, frequency=15_000), 48_000)
    assert np.abs(read_mono(tmp_path / "a.wav", 16_000)[500:-500]).max() < 1e-3


@pytest.mark.parametrize("channels", [1, 2, 32])
def test_mixes_to_mono(tmp_path, channels):
    parts = np.random.default_rng(0).uniform(-0.5, 0.5, (3000, channels))
    soundfile.write(tmp_path / "a.wav", parts, 16_000, subtype="FLOAT")
    np.testing.assert_allclose(read_mono(tmp_path / "a.wav", 16_000), parts.mean(axis=1), atol=1e-6)


def test_16_bit_samples_are_exact(tmp_path):
    levels = np.arange(-32768, 32768, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", levels, 16_000)
    assert np.array_equal(read_mono(tmp_path / "a.wav", 16_000) * 32768, levels)


def broken(folder, kind):
    """Returns a file that must be refused, and a part of the message."""
    path = folder / "a.wav"
    soundfile.write(path, sine(16_000), 16_000)
    whole = bytearray(path.read_bytes())
    if kind == "truncated":
        path.write_bytes(whole[: len(whole) // 2])
        return path, "cut short: its header promises 16000 bytes"
    if kind == "no_data_left":
        path.write_bytes(whole[:44])
        return path, "cut short: its header promises 16000 bytes of samples, 0 are there"
    if kind == "promises_more":
        path.write_bytes(whole[:40] + struct.pack("<I", 16_002) + whole[44:])
        return path, "cut short: its header promises 16002 bytes of samples, 16000 are there"
    if kind == "truncated_rf64":
        soundfile.write(path, sine(16_000), 16_000, format="RF64")
        path.write_bytes(path.read_bytes()[:-2])
        return path, "cut short: its header promises 16000 bytes of samples, 15998 are there"
    if kind == "truncated_flac":
        path = folder / "a.flac"
        soundfile.write(path, sine(16_000), 16_000)
        path.write_bytes(path.read_bytes()[:2000])
        return path, "cannot be read|cut short"
    if kind == "truncated_ogg":
        path = folder / "a.ogg"
        soundfile.write(path, sine(16_000, seconds=8), 16_000)
        path.write_bytes(path.read_bytes()[:-3000])
        return path, "cut short: the last page"
    if kind == "less_than_a_sample":
        soundfile.write(path, np.zeros(1), 48_000)
        return path, "less than one sample"
    if kind == "text":
        path.write_text("not audio")
        return path, "cannot be read as audio"
    if kind == "no_bytes":
        path.write_bytes(b"")
        return path, "cannot be read as audio"
    if kind == "no_samples":
        soundfile.write(path, np.zeros(0), 16_000)
        return path, "holds no samples"
    if kind == "rate_zero":
        whole[24:28] = struct.pack("<I", 0)
    if kind == "no_channels":
        whole[22:24] = struct.pack("<H", 0)
    if kind in ("rate_zero", "no_channels"):
        path.write_bytes(whole)
        return path, "cannot be read as audio"
    if kind == "33_channels":
        soundfile.write(path, np.zeros((10, 33)), 16_000)
        return path, "has 33 channels"
    if kind == "missing":
        return folder / "b.wav", "cannot be"
    samples = sine(16_000)
    samples[5000] = np.nan if kind == "nan" else np.inf
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    return path, "NaN or infinite samples"


KINDS = [
    "truncated",
    "no_data_left",
    "promises_more",
    "truncated_rf64",
    "truncated_flac",
    "truncated_ogg",
    "less_than_a_sample",
    "text",
    "no_bytes",
    "no_samples",
    "rate_zero",
    "no_channels",
    "33_channels",
    "missing",
    "nan",
    "inf",
]


@pytest.mark.parametrize("kind", KINDS)
def test_refuses_by_name(tmp_path, kind):
    path, message = broken(tmp_path, kind)
    with pytest.raises(UserError, match=message) as caught:
        read_mono(path, 16_000)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_streamed_wav_of_unknown_length_is_whole(tmp_path):
    soundfile.write(tmp_path / "a.wav", sine(16_000), 16_000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4
    (tmp_path / "a.wav").write_bytes(content)
    assert len(read_mono(tmp_path / "a.wav", 16_000)) == 8000


@pytest.mark.parametrize("channels", [1, 3])
def test_a_whole_rf64_is_read(tmp_path, channels):
    soundfile.write(tmp_path / "a.wav", np.stack([sine(16_000)] * channels, axis=1), 16_000, format="RF64")
    assert len(read_mono(tmp_path / "a.wav", 16_000)) == 8000
