"""Reads recordings of any rate and channel count as mono at one rate. Incomplete or damaged files raise or warn."""

import os
import re
import shlex
import stat
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import soundfile
import soxr

from harmonicrnn.audio.containers import UNKNOWN_SIZES, content_of
from harmonicrnn.errors import UserError

MAX_CHANNELS = 32
BLOCK_FRAMES = 1 << 18
FLAC_FRAMES = 4096  # one block, which a cut FLAC without a length may lose
UNKNOWN_FRAMES = 1 << 40  # a count this large or larger means unknown
LARGEST_FACTOR = 256
LARGEST_SAMPLE = 16.0  # 24 dB above full scale; larger values are integers stored as floats
READ = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".aifc", ".oga", ".wave", ".bwf", ".rf64", ".w64", ".caf", ".au", ".mp2")
UNREAD = (".m4a", ".aac", ".wma", ".wv", ".ape", ".amr", ".ac3", ".mka", ".spx", ".tta", ".dsf", ".dff", ".mpc", ".mp4", ".m4b", ".webm")
SUFFIXES = READ + UNREAD
"""Suffixes of recordings. Files of `UNREAD` formats raise with advice instead of being skipped."""


@dataclass(frozen=True)
class Source:
    """The header of a recording: rate in Hz, channels."""

    rate: int
    channels: int


class Forward(soundfile.SoundFile):
    """A file that is only read forward: soundfile seeks after each read if it can, and some codecs cannot seek."""

    def seekable(self) -> bool:
        return False


def stream_mono(path: Path, sample_rate: int, tell: Callable[[str], object] = warnings.warn) -> Iterator[np.ndarray]:
    """Yields the recording in pieces of bounded size, channels averaged, resampled to `sample_rate`: float32 (samples,).

    Args:
        path: the file.
        sample_rate: of the pieces, in Hz.
        tell: called with a line of warning, naming the file, if samples may be missing that its header does not promise.

    Raises:
        UserError: the file is missing, not audio, cut short or empty, has NaN, infinite or implausibly large samples, or an implausible
            rate.
    """
    made = 0
    for rate, blocks in groupby(_blocks(path, tell), key=lambda each: each[0]):
        if max(rate, sample_rate) > LARGEST_FACTOR * min(rate, sample_rate):
            raise UserError(f"{path}: claims a rate of {rate} Hz, over {LARGEST_FACTOR} times off from {sample_rate} Hz; repair the file")
        resampler = None if rate == sample_rate else soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")
        for _, mono in blocks:
            piece = mono if resampler is None else resampler.resample_chunk(mono)
            made += len(piece)
            yield piece
        if resampler is not None:
            piece = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            made += len(piece)
            yield piece
    if not made:
        raise UserError(f"{path}: is less than one sample at {sample_rate} Hz")


def read_mono(path: Path, sample_rate: int) -> np.ndarray:
    """Returns the whole recording as one array; otherwise as `stream_mono`."""
    return np.concatenate(list(stream_mono(path, sample_rate)))


def probe(path: Path) -> Source:
    """Reads the file's header; raises as `stream_mono`."""
    sounds = _sounds(path, tell=lambda line: None)
    sound = next(sounds)
    try:
        return Source(sound.samplerate, sound.channels)
    finally:
        sounds.close()


def _blocks(path: Path, tell: Callable[[str], object]) -> Iterator[tuple[int, np.ndarray]]:
    """Yields rates in Hz and mono samples, up to the true end."""
    total = 0
    for sound in _sounds(path, tell):
        first, known = total, sound.frames < UNKNOWN_FRAMES
        size = BLOCK_FRAMES if known or sound.format != "FLAC" else FLAC_FRAMES
        try:
            while len(block := sound.read(size, dtype="float32", always_2d=True)):
                _check_samples(path, block, total)
                total += len(block)
                yield sound.samplerate, block.mean(axis=1, dtype=np.float32)
        except soundfile.SoundFileError as error:
            if known or total == first:
                raise UserError(f"{path}: is cut short or damaged after {total} frames: {_reason(error)}") from error
            tell(f"{path}: is cut short or damaged after {total} frames, which are read, as its header promises no more")
        if known and total - first < sound.frames:
            raise UserError(f"{path}: is cut short: its header promises {sound.frames} frames, {total - first} are there")
    if not total:
        raise UserError(f"{path}: holds no samples")


def _check_samples(path: Path, block: np.ndarray, frame: int) -> None:
    if not np.isfinite(block).all():
        raise UserError(f"{path}: holds NaN or infinite samples, near sample {frame}; remove or repair the file")
    if (peak := float(np.abs(block).max())) > LARGEST_SAMPLE:
        raise UserError(
            f"{path}: holds a sample of {peak:g} near sample {frame}, where full scale is 1: integers as floats; scale them, 16-bit ones "
            f"by ffmpeg -i {shlex.quote(str(path))} -af volume=1/32768 SCALED.wav"
        )


def _sounds(path: Path, tell: Callable[[str], object]) -> Generator[Forward, None, None]:
    """Yields the opened file, or one file per part of a chained file."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path}: cannot be read as audio: it is no file")
        with path.open("rb") as file:
            content = content_of(file, status.st_size)
            if content.fault:
                raise UserError(f"{path}: {content.fault}")
            if content.note:
                tell(f"{path}: {content.note.replace('FILE', shlex.quote(str(path)))}")
            # As bytes: soundfile cannot encode names that are not UTF-8.
            files: Sequence[object] = content.windows or [os.fsencode(path)]
            for each in files:
                with _opened(path, each) as sound:
                    yield sound
    except OSError as error:
        raise UserError(f"{path}: cannot be opened: {error.strerror or error}") from error


def _opened(path: Path, file: object) -> Forward:
    try:
        sound = Forward(file)
    except (soundfile.SoundFileError, TypeError) as error:  # TypeError for names that end with .raw
        raise UserError(
            f"{path}: cannot be read as audio: {_reason(error)}; where other programs play it: "
            f"ffmpeg -i {shlex.quote(str(path))} {shlex.quote(path.stem + '.flac')}"
        ) from error
    if not 1 <= sound.channels <= MAX_CHANNELS:
        raise UserError(f"{path}: has {sound.channels} channels; 1 to {MAX_CHANNELS} can be read")
    # If a header promises more than the file holds, libsndfile shortens it and notes it only in its log.
    for promised, there in re.findall(r": (\d+) \(should be (\d+)\)", sound.extra_info):
        if sound.format not in ("WAV", "WAVEX", "RF64") and int(promised) > int(there) and int(promised) not in UNKNOWN_SIZES:
            raise UserError(f"{path}: is cut short: its header promises {promised} bytes, {there} are there")
    return sound


def _reason(error: Exception) -> str:
    return str(error).split(": ", 1)[-1].rstrip(".")
