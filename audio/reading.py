"""Recordings of any rate and channel count as mono at one rate, refused where they are not whole."""

import re
from pathlib import Path

import numpy as np
import soundfile
import soxr

from errors import UserError

MAX_CHANNELS = 32
BLOCK_FRAMES = 1 << 18
SUFFIXES = (".wav", ".flac", ".ogg")


def read_mono(path: Path, sample_rate: int) -> np.ndarray:
    """The whole recording, channels averaged, resampled to `sample_rate` (Hz): float32 (samples,).

    Raises:
        UserError: the file is missing, is not audio, is cut short, is empty, or holds NaN or infinite samples.
    """
    try:
        with soundfile.SoundFile(path) as file:
            _check_header(path, file)
            resampler = None
            if file.samplerate != sample_rate:
                resampler = soxr.ResampleStream(file.samplerate, sample_rate, 1, dtype="float32", quality="HQ")
            pieces, frames = [], 0
            for block in file.blocks(BLOCK_FRAMES, dtype="float32", always_2d=True):
                if not np.isfinite(block).all():
                    raise UserError(f"{path}: holds NaN or infinite samples, near sample {frames}; remove or repair the file")
                frames += len(block)
                mono = block.mean(axis=1, dtype=np.float32)
                pieces.append(mono if resampler is None else resampler.resample_chunk(mono))
            if resampler is not None:
                pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
            if frames < file.frames:
                raise UserError(f"{path}: is cut short: its header promises {file.frames} frames, {frames} are there")
    except soundfile.SoundFileError as error:
        raise UserError(f"{path}: cannot be read as audio: {_reason(error)}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be opened: {error.strerror or error}") from error
    return np.concatenate(pieces)


def _check_header(path: Path, file: soundfile.SoundFile) -> None:
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise UserError(f"{path}: has {file.channels} channels; 1 to {MAX_CHANNELS} can be read")
    # libsndfile shortens a WAV whose header promises more than the file holds, and says so only in its log.
    promised = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
    if promised and int(promised[1]) > int(promised[2]):
        raise UserError(f"{path}: is cut short: its header promises {promised[1]} bytes of samples, {promised[2]} are there")
    if file.frames == 0:
        raise UserError(f"{path}: holds no samples")


def _reason(error: Exception) -> str:
    return str(error).split(": ", 1)[-1]
