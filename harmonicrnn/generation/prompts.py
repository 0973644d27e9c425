"""Converts a user's audio to the classes of a model."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soxr
import torch
from torch import Tensor

from harmonicrnn.audio import Quantiser, Scaling, scale, span_of, stream_mono
from harmonicrnn.audio.quantise import Span
from harmonicrnn.audio.reading import probe
from harmonicrnn.errors import UserError

MOST_CHANNELS = 32  # of arrays; more suggest that the axes are swapped
Audio = Path | str | np.ndarray | Tensor


def classes_of(
    audio: Audio, sample_rate: int | None, quantiser: Quantiser, rate: int, scaling: Scaling, seconds: float | None = None
) -> Tensor:
    """Returns the classes (T,) int16 of a recording, or of its beginning.

    Unless scaling is "none", the extremes of the whole recording are used, also for its beginning.

    Args:
        audio: a file, or floating-point samples in [-1, 1], (T,) or (channels, T).
        sample_rate: of samples, in Hz; None for the model's. Must be None for a file, which has its own.
        quantiser, rate, scaling: of the model's training; rate in Hz.
        seconds: length of the beginning; None for the whole.

    Raises:
        UserError: the audio cannot be read, is empty, not finite, not floating-point, or shorter than `seconds`; or a number is out of
            range.
    """
    if seconds is not None and not (0 < seconds < math.inf and round(seconds * rate) >= 1):
        raise UserError(f"seconds must be above 0, a sample at {rate} Hz at least, and finite, got {seconds}")
    if sample_rate is not None and isinstance(audio, Path | str):
        raise UserError(f"the sample rate ({sample_rate}) is for samples: {audio} is a file with a rate of its own")
    pieces = _reader(audio, rate if sample_rate is None else sample_rate, rate)
    name = str(audio) if isinstance(audio, Path | str) else "the audio"
    span: Span = None
    if scaling != "none":
        ends = [(piece.min(), piece.max()) for piece in pieces() if len(piece)]
        span = span_of(scaling, float(min(low for low, _ in ends)), float(max(high for _, high in ends)))
    wanted = None if seconds is None else round(seconds * rate)
    encoded, length = [torch.empty(0, dtype=torch.int16)], 0
    for piece in pieces():
        encoded.append(quantiser.encode(scale(torch.from_numpy(piece), span)))
        length += len(piece)
        if wanted is not None and length >= wanted:
            break
    if wanted is not None and length < wanted:
        raise UserError(f"{name}: holds {length / rate:g} s, fewer than the {seconds:g} s that are asked for")
    return torch.cat(encoded)[:wanted]


def conversion(path: Path, rate: int) -> str | None:
    """Returns a line on the conversion of a file for a model of this rate (Hz), or None. Raises as `classes_of`."""
    source = probe(path)
    steps = [f"its {source.channels} channels are mixed to mono"] if source.channels > 1 else []
    if source.rate != rate:
        steps.append(f"its {source.rate} Hz are resampled to {rate} Hz")
    return f"{path}: {' and '.join(steps)}" if steps else None


def _reader(audio: Audio, own_rate: int, rate: int) -> Callable[[], Iterator[np.ndarray]]:
    """Returns a function that reads the audio from its beginning on each call: float32 (n,) at the model's rate."""
    if isinstance(audio, Path | str):
        return lambda: stream_mono(Path(audio), rate)
    samples = np.asarray(audio.detach().cpu().float() if isinstance(audio, Tensor) and audio.is_floating_point() else audio)
    if not np.issubdtype(samples.dtype, np.floating):
        raise UserError(f"the audio holds {samples.dtype} numbers: give floating-point samples in [-1, 1] (of int16, divided by 32768)")
    samples = np.atleast_2d(samples.astype(np.float32, copy=False))
    if samples.ndim > 2 or len(samples) > MOST_CHANNELS:
        raise UserError(f"the audio has the shape {samples.shape}, not (T,) or (channels, T) with at most {MOST_CHANNELS} channels")
    samples = samples.mean(axis=0, dtype=np.float32)
    if not 1 <= own_rate < math.inf:
        raise UserError(f"the sample rate must be at least 1 Hz and finite, got {own_rate}")
    if not samples.size:
        raise UserError("the audio holds no samples")
    if not np.isfinite(samples).all():
        raise UserError("the audio holds NaN or infinite samples")
    if own_rate != rate:
        frames = len(samples)
        samples = soxr.resample(samples, own_rate, rate, quality="HQ")
        if not len(samples):
            raise UserError(f"the audio's {frames} samples at {own_rate} Hz are less than one sample at {rate} Hz")
    return lambda: iter([samples])
