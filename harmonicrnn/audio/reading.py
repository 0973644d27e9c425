"""Recordings of any rate and channel count as mono at one rate, refused where they are not whole."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from harmonicrnn.errors import UserError

MAX_CHANNELS = 32
BLOCK_FRAMES = 1 << 18
UNKNOWN_SIZE = 0xFFFFFFFF  # what a program writes that streams a WAV, not knowing its length
LARGEST_OGG_PAGE = 65_307
SUFFIXES = (".wav", ".flac", ".ogg")


@dataclass(frozen=True)
class Source:
    """A recording as its file describes it: rate in Hz, channels, frames."""

    rate: int
    channels: int
    frames: int


def stream_mono(path: Path, sample_rate: int) -> Iterator[np.ndarray]:
    """The recording in pieces of bounded size, channels averaged, resampled to `sample_rate` (Hz) as a whole: float32 (samples,).

    Raises:
        UserError: the file is missing, is not audio, is cut short, is empty, or holds NaN or infinite samples.
    """
    with _opened(path) as file:
        resampler = None
        if file.samplerate != sample_rate:
            resampler = soxr.ResampleStream(file.samplerate, sample_rate, 1, dtype="float32", quality="HQ")
        frames, made = 0, 0
        for block in file.blocks(BLOCK_FRAMES, dtype="float32", always_2d=True):
            if not np.isfinite(block).all():
                raise UserError(f"{path}: holds NaN or infinite samples, near sample {frames}; remove or repair the file")
            frames += len(block)
            mono = block.mean(axis=1, dtype=np.float32)
            piece = mono if resampler is None else resampler.resample_chunk(mono)
            made += len(piece)
            yield piece
        if frames < file.frames:
            raise UserError(f"{path}: is cut short: its header promises {file.frames} frames, {frames} are there")
        if resampler is not None:
            piece = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            made += len(piece)
            yield piece
        if not made:
            raise UserError(f"{path}: its {frames} frames at {file.samplerate} Hz are less than one sample at {sample_rate} Hz")


def read_mono(path: Path, sample_rate: int) -> np.ndarray:
    """The whole recording as one array, else as `stream_mono`."""
    return np.concatenate(list(stream_mono(path, sample_rate)))


def probe(path: Path) -> Source:
    """What the file's header says; raises as `stream_mono` does."""
    with _opened(path) as file:
        return Source(file.samplerate, file.channels, file.frames)


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    try:
        # As bytes, for soundfile itself cannot encode names that are not UTF-8.
        with soundfile.SoundFile(os.fsencode(path)) as file:
            _check_header(path, file)
            yield file
    except soundfile.SoundFileError as error:
        raise UserError(f"{path}: cannot be read as audio: {_reason(error)}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be opened: {error.strerror or error}") from error


def _check_header(path: Path, file: soundfile.SoundFile) -> None:
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise UserError(f"{path}: has {file.channels} channels; 1 to {MAX_CHANNELS} can be read")
    # libsndfile shortens a WAV whose header promises more than the file holds, and says so only in its log.
    promised = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if promised and UNKNOWN_SIZE > int(promised[1]) > int(promised[2]):
        raise UserError(_cut_short(path, int(promised[1]), int(promised[2])))
    if file.format == "RF64":
        # Nor does it compare the 64-bit size of an RF64 (EBU Tech 3306).
        sizes = dict(re.findall(r"^  (Data size|Block Align) +: (\d+)$", file.extra_info, re.MULTILINE))
        large, align = int(sizes.get("Data size", 0)), int(sizes.get("Block Align", 1))
        if large - file.frames * align >= align:
            raise UserError(_cut_short(path, large, file.frames * align))
    if file.format == "OGG" and not _has_last_page(path):
        raise UserError(f"{path}: is cut short: the last page of its stream is missing")
    if file.frames == 0:
        raise UserError(f"{path}: holds no samples")


def _cut_short(path: Path, promised: int, there: int) -> str:
    return f"{path}: is cut short: its header promises {promised} bytes of samples, {there} are there"


def _has_last_page(path: Path) -> bool:
    """Whether the file's last Ogg page is marked as the end of its stream (RFC 3533, section 6)."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LARGEST_OGG_PAGE))
        tail = file.read()
    last = tail.rfind(b"OggS")
    return last >= 0 and len(tail) > last + 5 and bool(tail[last + 5] & 4)


def _reason(error: Exception) -> str:
    return str(error).split(": ", 1)[-1]
