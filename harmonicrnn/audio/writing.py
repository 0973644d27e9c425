"""Writes audio files, at once or incrementally while samples are generated."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal
from wave import Wave_write

import numpy as np
import soundfile

from harmonicrnn.errors import UserError

Format = Literal["wav", "flac"]
LARGEST_WAV = (1 << 32) - 64  # bytes of samples that a WAV header can count


def pcm16(samples: np.ndarray) -> np.ndarray:
    """Converts samples in [-1, 1] to 16-bit little-endian integers."""
    # Rounded here: libsndfile truncates floats, which can change a class.
    return np.clip(np.rint(np.asarray(samples, dtype=np.float64) * 32768), -32768, 32767).astype("<i2")


def write_wav(path: Path, samples: np.ndarray, sample_rate: int) -> None:
    """Writes samples in [-1, 1] (float32, mono) as a 16-bit WAV."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, pcm16(samples), sample_rate, subtype="PCM_16")


class GrowingWav:
    """A growing mono 16-bit WAV that is valid after each write: its header is kept up to date.

    Args:
        path: Of the file; an existing one is overwritten.
        sample_rate: In Hz.
    """

    def __init__(self, path: Path, sample_rate: int) -> None:
        self.path = path
        with writing(path):
            self._file = path.open("wb")
            self._wave = Wave_write(self._file)
        self._wave.setparams((1, 2, sample_rate, 0, "NONE", "not compressed"))

    def write(self, samples: np.ndarray) -> None:
        """Appends samples (n,) in [-1, 1].

        Raises:
            UserError: the file cannot be written any further.
        """
        with writing(self.path):
            self._wave.writeframes(pcm16(samples).tobytes())
            self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        with writing(self.path), self._file:
            self._wave.close()


class GrowingFlac:
    """A growing mono 16-bit FLAC. Until closed, its header has no length and the last block of 4,096 samples may be missing.

    Args:
        path: Of the file; an existing one is overwritten.
        sample_rate: In Hz.
    """

    def __init__(self, path: Path, sample_rate: int) -> None:
        self.path = path
        with writing(path):
            self._file = soundfile.SoundFile(path, "w", sample_rate, 1, "PCM_16", format="FLAC")

    def write(self, samples: np.ndarray) -> None:
        with writing(self.path):
            self._file.write(pcm16(samples))

    def close(self) -> None:
        with writing(self.path):
            self._file.close()


class GrowingArray:
    """A one-dimensional .npy file that can be loaded at any time while it grows.

    Args:
        path: Of the file; an existing one is overwritten.
        dtype: Of its elements.
    """

    def __init__(self, path: Path, dtype: np.dtype) -> None:
        self.path, self.dtype, self._length = path, dtype, 0
        with writing(path):
            self._file = path.open("wb")
            self._write_header()

    def write(self, numbers: np.ndarray) -> None:
        """Appends numbers (n,).

        Raises:
            UserError: the file cannot be written any further.
        """
        with writing(self.path):
            self._file.write(numbers.astype(self.dtype).tobytes())
            self._file.flush()
            self._length += len(numbers)
            self._write_header()

    def close(self) -> None:
        """Closes the file."""
        with writing(self.path):
            self._file.close()

    def _write_header(self) -> None:
        # The format pads its header so that the length can grow.
        self._file.seek(0)
        header = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(self._file, header)
        self._file.flush()
        self._file.seek(0, os.SEEK_END)


Growing = GrowingWav | GrowingFlac
GROWING: dict[Format, type[Growing]] = {"wav": GrowingWav, "flac": GrowingFlac}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns write errors inside the context into UserError that names the file."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error
    except soundfile.SoundFileError as error:
        raise UserError(f"{path}: cannot be written: {str(error).split(': ', 1)[-1]}") from error
