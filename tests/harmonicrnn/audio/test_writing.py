"""Tests of audio and array files that are written in pieces."""

import shutil

import numpy as np
import pytest
import soundfile

from harmonicrnn.audio.writing import GrowingArray, GrowingFlac, GrowingWav, pcm16
from harmonicrnn.errors import UserError

SAMPLES = np.random.default_rng(0).uniform(-1, 1, 10_000).astype(np.float32)


def write_in_pieces(file, numbers, check=lambda written: None, size=700):
    for start in range(0, len(numbers), size):
        file.write(numbers[start : start + size])
        check(min(start + size, len(numbers)))


def test_samples_are_rounded_and_end_where_16_bits_do():
    given = np.array([0, 0.6 / 32768, -0.6 / 32768, 1, -1, 2, -2])
    assert pcm16(given).tolist() == [0, 1, -1, 32767, -32768, 32767, -32768]
    assert pcm16(given).dtype == "<i2"


def test_a_wav_is_whole_after_each_write(tmp_path):
    path = tmp_path / "a.wav"
    file = GrowingWav(path, 8000)

    def check(written):
        samples, rate = soundfile.read(path, dtype="int16")
        assert rate == 8000
        assert np.array_equal(samples, pcm16(SAMPLES)[:written])

    write_in_pieces(file, SAMPLES, check)
    file.close()
    check(len(SAMPLES))
    assert path.stat().st_size == 44 + 2 * len(SAMPLES)


def test_a_flac_can_be_played_while_it_grows(tmp_path):
    path = tmp_path / "a.flac"
    file = GrowingFlac(path, 8000)
    write_in_pieces(file, SAMPLES)
    shutil.copy(path, tmp_path / "killed.flac")
    file.close()
    whole, _ = soundfile.read(path, dtype="int16")
    assert np.array_equal(whole, pcm16(SAMPLES))
    # The length is unknown, so a reader has to ask for a number of samples.
    there, _ = soundfile.read(tmp_path / "killed.flac", 4096, dtype="int16")
    assert np.array_equal(there, whole[:4096])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_array_can_be_loaded_after_each_write(tmp_path, dtype):
    numbers = np.random.default_rng(0).integers(0, 255, 5000)
    file = GrowingArray(tmp_path / "a.npy", np.dtype(dtype))

    def check(written):
        loaded = np.load(tmp_path / "a.npy")
        assert loaded.dtype == dtype
        assert np.array_equal(loaded, numbers[:written])

    check(0)
    write_in_pieces(file, numbers, check)
    file.close()
    check(len(numbers))


@pytest.mark.parametrize("make", [lambda p: GrowingWav(p, 8000), lambda p: GrowingFlac(p, 8000), lambda p: GrowingArray(p, np.dtype("u1"))])
def test_what_cannot_be_written_is_named(tmp_path, make):
    path = tmp_path / "nowhere" / "a"
    with pytest.raises(UserError, match=rf"{path}: cannot be written: "):
        make(path)
