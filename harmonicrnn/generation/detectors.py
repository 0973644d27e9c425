"""Detects noise, rumble, whistles and collapse to silence in generated clips, by comparison with training data.

Each frame of 0.25 s has four measures: level (dB under full scale, without the mean), spectral flatness (dB: 0 for white noise, far lower
for tones), entropy of its classes (bits), and frequency of a partial above 1.5 kHz with more than 40 % of its power (Hz; 0 for none).
Thresholds follow from frames of the training data.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.audio import Quantiser
from harmonicrnn.files import side_product, write_json

FRAME_SECONDS = 0.25
LEAST_SECONDS = 1.5  # shorter stretches can be music or pauses
LONGER = 1.5  # factor over the longest stretches in the training data
TINY = 1e-12  # power counted as zero: -120 dB
SMOOTH = 6  # frames in a median of flatness, which separates rumble from single flat frames of music
WHISTLE_HZ, WHISTLE_SHARE, WHISTLE_SECONDS, WHISTLE_DRIFT = 1500, 0.4, 1.0, 0.03
LEVEL, FLATNESS, ENTROPY, WHISTLE = range(4)
KEPT = "detector_reference.json"


@dataclass(frozen=True)
class Finding:
    """A fault of a clip: "noise", "whistle" or "silence", from `start` (s) for `seconds`."""

    kind: str
    start: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.kind} from {self.start:.2f} s for {self.seconds:.2f} s"


class Detects(Protocol):
    """The interface of a fault detector: a `Reference`, or a lazy one."""

    def findings(self, frames: np.ndarray) -> list[Finding]:
        """Returns the faults of a clip from its frames (F, 4)."""


@dataclass(frozen=True)
class Reference:
    """Statistics of training clips: 1st, 50th and 99th percentile of each measure over frames, 99th percentile of smoothed flatness, and
    the longest stretches in seconds that are silent, noisy or whistle by the thresholds below.

    The defaults, used without training data, are near those of piano recordings in 8-bit mu-law, with a margin for quieter ones.
    """

    source: str = "defaults"
    level: tuple[float, float, float] = (-45.0, -25.0, -10.0)
    flatness: tuple[float, float, float] = (-30.0, -16.0, -11.0)
    entropy: tuple[float, float, float] = (4.0, 6.5, 7.5)
    smooth_flatness: float = -12.0
    silence_seconds: float = 0.0
    noise_seconds: float = 0.0
    whistle_seconds: float = 0.0

    def silent(self, frames: np.ndarray) -> np.ndarray:
        """Returns which frames (F, 4) are silent: 20 dB under the median level and under nearly all of the training data, or 40 dB under
        the median; or with very few classes in use."""
        low, usual, _ = self.level
        quiet = frames[:, LEVEL] < min(usual - 20, max(low - 6, usual - 40))
        return quiet | (frames[:, ENTROPY] < self.entropy[0] / 2)

    def noisy(self, frames: np.ndarray) -> np.ndarray:
        """Returns which frames (F, 4) are noise: flatter than nearly all of the training data, singly or in a stretch, and not just
        background; or much louder than the training data."""
        flat = frames[:, FLATNESS] > min(self.flatness[2] + 3, -2)
        if len(frames):
            smooth = _smooth(frames[:, FLATNESS]) > min(self.smooth_flatness + 2, -2)
            in_stretch = np.convolve(smooth, np.ones(len(frames) - len(smooth) + 1)) > 0
            flat |= in_stretch & (frames[:, FLATNESS] > min(self.smooth_flatness, -2))
        present = (frames[:, LEVEL] > self.level[1] - 10) & (frames[:, ENTROPY] > self.entropy[1] - 1)
        return (flat & present) | (frames[:, LEVEL] > self.level[2] + 6)

    def findings(self, frames: np.ndarray) -> list[Finding]:
        """Returns the faults of a clip from its frames (F, 4), sorted by start."""
        found = []
        for kind, stretches, usual, shortest in (
            ("silence", _stretches(self.silent(frames)), self.silence_seconds, LEAST_SECONDS),
            ("noise", _stretches(self.noisy(frames)), self.noise_seconds, LEAST_SECONDS),
            ("whistle", whistles(frames[:, WHISTLE]), self.whistle_seconds, WHISTLE_SECONDS),
        ):
            least = min(max(shortest, LONGER * usual), len(frames) * FRAME_SECONDS)
            seconds = [(start * FRAME_SECONDS, length * FRAME_SECONDS) for start, length in stretches]
            found += [Finding(kind, start, length) for start, length in seconds if length >= least]
        return sorted(found, key=lambda finding: finding.start)

    @classmethod
    def defaults(cls, quantiser: Quantiser) -> "Reference":
        """Returns the defaults, with entropies for the quantiser's bits."""
        low, usual, high = (bits * quantiser.bits / 8 for bits in cls.entropy)
        return cls(entropy=(low, usual, high))

    @classmethod
    def of(cls, clips: Iterable[Tensor], quantiser: Quantiser, sample_rate: int, source: str) -> "Reference":
        """Computes the statistics of training clips, each (T,) classes, named by `source`. Defaults if none fills a frame."""
        measured = []
        for clip in clips:
            watch = Watch(quantiser, sample_rate)
            watch.feed(clip)
            measured.append(watch.frames)
        frames = np.concatenate([np.empty((0, 4)), *measured])
        if not len(frames):
            return cls.defaults(quantiser)
        # Silence is as flat as noise, and left out.
        sounding = frames[:, LEVEL] > 10 * np.log10(TINY) + 1
        measures = (frames[:, LEVEL], frames[sounding, FLATNESS] if sounding.any() else np.zeros(1), frames[:, ENTROPY])
        level, flatness, entropy = map(_usual, measures)
        usual = cls(source, level, flatness, entropy)
        smooth = np.concatenate([_smooth(clip[~usual.silent(clip), FLATNESS]) for clip in measured])
        usual = cls(source, level, flatness, entropy, float(np.percentile(smooth, 99)) if len(smooth) else flatness[2])
        longest = [
            float(np.percentile([max((length for _, length in found(clip)), default=0) for clip in measured], 99)) * FRAME_SECONDS
            for found in (
                lambda clip: _stretches(usual.silent(clip)),
                lambda clip: _stretches(usual.noisy(clip)),
                lambda clip: whistles(clip[:, WHISTLE]),
            )
        ]
        return cls(source, level, flatness, entropy, usual.smooth_flatness, *longest)

    @classmethod
    def read(cls, folder: Path) -> "Reference | None":
        """Reads what `keep` wrote into a run's folder; None if it is missing or damaged."""
        try:
            values = json.loads((folder / KEPT).read_text())
            if values.keys() != {field.name for field in fields(cls)}:
                return None  # written before a measure was added
            made: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
            return cls(**made)
        except (OSError, ValueError, TypeError, AttributeError):
            return None

    def keep(self, folder: Path) -> None:
        """Writes the statistics into a run's folder; warns if it cannot."""
        with side_product(folder / KEPT):
            write_json(folder / KEPT, asdict(self))


class Watch:
    """Measures a clip while it is drawn.

    Args:
        quantiser: decodes its classes.
        sample_rate: in Hz.
    """

    def __init__(self, quantiser: Quantiser, sample_rate: int) -> None:
        self.quantiser, self.sample_rate = quantiser, sample_rate
        self._length = max(16, round(FRAME_SECONDS * sample_rate))
        self._rest = torch.empty(0, dtype=torch.long)
        self._frames: list[tuple[float, float, float, float]] = []

    @property
    def frames(self) -> np.ndarray:
        """Returns the measures of each full frame so far, (F, 4)."""
        return np.array(self._frames).reshape(-1, 4)

    def feed(self, classes: Tensor) -> None:
        """Adds the next classes (n,) of the clip."""
        held = torch.cat([self._rest, classes.long()])
        whole = len(held) // self._length * self._length
        self._rest = held[whole:]
        self._frames += [self._measure(frame) for frame in held[:whole].view(-1, self._length)]

    def _measure(self, classes: Tensor) -> tuple[float, float, float, float]:
        from scipy.signal import welch  # here, since its slow import would delay the first samples

        samples = self.quantiser.decode_centre(classes).double().numpy()
        frequencies, power = welch(samples, self.sample_rate, nperseg=min(256, len(samples)))
        power = power[1:] * self.sample_rate + TINY  # without the inaudible mean
        flatness = np.exp(np.log(power).mean()) / power.mean()
        shares = np.bincount(classes.numpy()) / len(classes)
        shares = shares[shares > 0]
        strongest = int(power.argmax())
        partial = power[max(0, strongest - 1) : strongest + 2].sum() / power.sum()
        frequency = frequencies[1 + strongest] if partial > WHISTLE_SHARE and frequencies[1 + strongest] > WHISTLE_HZ else 0.0
        return 10 * np.log10(samples.var() + TINY), 10 * np.log10(flatness), float(-(shares * np.log2(shares)).sum()), float(frequency)


def _usual(values: np.ndarray) -> tuple[float, float, float]:
    """Returns the 1st, 50th and 99th percentile."""
    low, middle, high = np.percentile(values, (1, 50, 99)).tolist()
    return low, middle, high


def _stretches(marked: np.ndarray) -> list[tuple[int, int]]:
    """Returns start and length of each run of True in (F,)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    return [(int(start), int(stop - start)) for start, stop in edges.reshape(-1, 2)]


def _smooth(flatness: np.ndarray) -> np.ndarray:
    """Returns moving medians over SMOOTH frames, (F - SMOOTH + 1,); one median if there are fewer frames."""
    frames = min(SMOOTH, len(flatness))
    return np.median(np.lib.stride_tricks.sliding_window_view(flatness, frames), axis=1) if frames else np.empty(0)


def whistles(frequency: np.ndarray) -> list[tuple[int, int]]:
    """Returns start and length, in frames, of each run with a steady partial; frequency (F,) in Hz, 0 for none."""
    steady = (frequency[1:] > 0) & (np.abs(np.diff(frequency)) <= WHISTLE_DRIFT * frequency[1:])
    return [(start, length + 1) for start, length in _stretches(steady)]
