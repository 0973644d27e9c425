"""Draws clips into files, measures them while they grow, and redraws faulty ones."""

import math
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.audio import Quantiser
from harmonicrnn.audio.writing import GROWING, LARGEST_WAV, Format, Growing, GrowingArray
from harmonicrnn.errors import UserError, check_choice, check_whole
from harmonicrnn.generation.detectors import Detects, Finding, Watch
from harmonicrnn.generation.engine import Engine
from harmonicrnn.generation.sampler import check_arguments, draw, generator
from harmonicrnn.models import ModelState

SPARE_FILES = 64  # open files of the process beside the clips


@dataclass(frozen=True)
class Settings:
    """Settings of a drawing.

    Args:
        seconds: Length of each clip.
        clips: How many.
        batch: Clips drawn at a time.
        seed: Clip i depends on (seed, i).
        temperature: Divides the logits: below 1 favours likely classes, above 1 unlikely ones, 0 takes the most likely. Null for
            the voice's own, 1 by default.
        top_p: Draws only from the most likely classes, up to this cumulative probability.
        reject: Number of times to redraw a clip with runaway noise or a collapse to silence.
        format: Of the audio files, 16 bits: wav or flac.
    """

    seconds: float = 10.0
    clips: int = 1
    batch: int = 16
    seed: int = 0
    temperature: float | None = None
    top_p: float = 1.0
    reject: int = 0
    format: Format = "wav"

    def __post_init__(self) -> None:
        check_arguments(self.clips, self.seed, self.drawn_at, self.top_p, self.seconds, option="--")
        check_whole("--batch", self.batch, 1)
        check_whole("--reject", self.reject, 0)
        check_choice("--format", self.format, get_args(Format))
        if self.reject and self.temperature == 0:
            raise UserError("--reject has no use at --temperature 0, where each draw is the same")
        open_files = _open_files()
        if 2 * min(self.batch, self.clips) + SPARE_FILES > open_files:
            most = int(open_files - SPARE_FILES) // 2
            raise UserError(
                f"--batch ({self.batch}): each clip drawn needs two open files, and this shell allows {open_files:.0f}: at most {most}"
            )

    @property
    def drawn_at(self) -> float:
        """The temperature, 1 if not set."""
        return 1.0 if self.temperature is None else self.temperature

    def samples(self, sample_rate: int, to_file: bool = True) -> int:
        """Returns the number of samples in each clip.

        Raises:
            UserError: less than one sample, or more than a WAV file can hold.
        """
        samples = round(self.seconds * sample_rate)
        if not samples:
            raise UserError(f"--seconds ({self.seconds}) is less than one sample at {sample_rate} Hz")
        if to_file and self.format == "wav" and 2 * samples > LARGEST_WAV:
            raise UserError(f"--seconds ({self.seconds}) is more than a WAV can hold at {sample_rate} Hz; use --format flac")
        return samples


@dataclass(frozen=True)
class Clip:
    """A finished clip: number, samples, sum of -ln p of its classes under the model, faults found, and how often it was redrawn for
    faults."""

    number: int
    samples: int
    nats: float
    findings: list[Finding]
    redraws: int

    @property
    def bits_per_sample(self) -> float:
        """The negative log-likelihood in bits per sample."""
        return self.nats / self.samples / math.log(2)

    @property
    def stem(self) -> str:
        """The name of its files, without suffix."""
        return f"clip_{self.number:04d}"


class ClipWriter:
    """Draws clips and detects faults in them. Memory does not grow with their length.

    Args:
        engine: steps the model.
        state: returns the initial state for clips of these numbers, one lane each.
        quantiser, sample_rate: of the model; rate in Hz.
        reference: detects faults.
        progress: called with numbers of drawn samples, over all clips.
        hear: called with the classes (n,) of each batch's first clip as they are written; None for no one.
    """

    def __init__(
        self,
        engine: Engine,
        state: Callable[[Sequence[int]], ModelState],
        quantiser: Quantiser,
        sample_rate: int,
        reference: Detects,
        progress: Callable[[int], None] = lambda samples: None,
        hear: Callable[[Tensor], None] | None = None,
    ) -> None:
        self.engine, self.state, self.quantiser, self.sample_rate = engine, state, quantiser, sample_rate
        self.reference, self.progress, self.hear = reference, progress, hear

    def write(self, folder: Path, settings: Settings, finished: Container[int] = ()) -> Iterator[Clip]:
        """Draws clips into a folder, batch by batch: `clip_0000.wav` (or .flac) and its classes, `clip_0000.npy`, both readable while they
        grow. Yields finished clips; clips with numbers in `finished` are skipped.

        Raises:
            UserError: a file cannot be written, or the model's logits are not finite.
        """
        waiting = [(number, 0) for number in range(settings.clips) if number not in finished]
        while waiting:
            batch, waiting = waiting[: settings.batch], waiting[settings.batch :]
            for clip in self._batch(folder, settings, batch, self.hear):
                if clip.findings and clip.redraws < settings.reject:
                    waiting.append((clip.number, clip.redraws + 1))
                else:
                    yield clip

    def play(self, settings: Settings, hear: Callable[[Tensor], None]) -> Clip:
        """Draws the first clip without files; `hear` is called with its classes (n,) as they are drawn."""
        (clip,) = self._batch(None, settings, [(0, 0)], hear)
        return clip

    def _batch(
        self, folder: Path | None, settings: Settings, batch: Sequence[tuple[int, int]], hear: Callable[[Tensor], None] | None
    ) -> list[Clip]:
        numbers = [number for number, _ in batch]
        watches = [Watch(self.quantiser, self.sample_rate) for _ in batch]
        nats = torch.zeros(len(batch), dtype=torch.float64)
        samples = settings.samples(self.sample_rate, to_file=folder is not None)
        self.engine.start(self.state(numbers))
        with ExitStack() as stack:
            stems = [] if folder is None else [folder / f"clip_{number:04d}" for number in numbers]
            files = [stack.enter_context(closing(ClipFiles(stem, self.quantiser, self.sample_rate, settings.format))) for stem in stems]
            generators = [generator(settings.seed, *clip) for clip in batch]
            for classes, of_each in draw(self.engine, samples, generators, settings.drawn_at, settings.top_p, numbers):
                nats += of_each.sum(dim=1)
                for lane, file in zip(classes, files, strict=False):  # none without a folder
                    file.write(lane)
                for lane, watch in zip(classes, watches, strict=True):
                    watch.feed(lane)
                if hear is not None:
                    hear(classes[0])
                self.progress(classes.numel())
        findings = [self.reference.findings(watch.frames) for watch in watches]
        return [Clip(number, samples, nats[i].item(), findings[i], redraws) for i, (number, redraws) in enumerate(batch)]


class ClipFiles:
    """The two files of a clip: audio and classes.

    Args:
        stem: their path, without suffix.
        quantiser, sample_rate: decode classes; rate in Hz.
        format: of the audio file.
    """

    def __init__(self, stem: Path, quantiser: Quantiser, sample_rate: int, format: Format) -> None:
        self.quantiser = quantiser
        with ExitStack() as opened:
            self._audio: Growing = opened.enter_context(closing(GROWING[format](stem.with_suffix(f".{format}"), sample_rate)))
            self._classes = GrowingArray(stem.with_suffix(".npy"), np.dtype(np.uint8 if quantiser.bits <= 8 else np.uint16))
            opened.pop_all()

    def write(self, classes: Tensor) -> None:
        """Appends classes (n,)."""
        self._audio.write(self.quantiser.decode_centre(classes).numpy())
        self._classes.write(classes.numpy())

    def close(self) -> None:
        """Closes both files."""
        with closing(self._classes):
            self._audio.close()


def bytes_needed(settings: Settings, sample_rate: int, bits: int) -> int:
    """Returns the most bytes of disk that the clips need."""
    return settings.clips * settings.samples(sample_rate) * (2 + (1 if bits <= 8 else 2))


def _open_files() -> float:
    """Returns the limit on open files of this process; infinity if there is none or it is unknown."""
    try:
        import resource  # not on every system
    except ImportError:
        return math.inf
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return math.inf if limit == resource.RLIM_INFINITY else limit
