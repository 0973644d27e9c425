"""Recordings held in memory, as 16-bit samples at one rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from audio import read_mono

FULL_SCALE = 32768


@dataclass(frozen=True)
class Recordings:
    """samples (n,) int16, one recording after the other; recording i is samples[offsets[i] : offsets[i + 1]]."""

    samples: np.ndarray
    offsets: np.ndarray
    overshoots: int
    """Samples that did not fit into 16 bits and were clipped."""

    @property
    def lengths(self) -> list[int]:
        """Samples in each recording."""
        return np.diff(self.offsets).tolist()

    def read(self, recording: int, start: int, stop: int) -> np.ndarray:
        """int16 (stop - start,), a view."""
        return self.samples[self.offsets[recording] + start : self.offsets[recording] + stop]


def load_recordings(paths: Sequence[Path], sample_rate: int, description: str) -> Recordings:
    """Read, mix and resample the files, showing progress where there are many.

    Raises:
        UserError: the first file that cannot be read whole.
    """
    pieces, overshoots = [], 0
    for path in track(paths, description, transient=True, disable=len(paths) < 100):
        levels = np.rint(read_mono(path, sample_rate) * FULL_SCALE)
        overshoots += int(np.count_nonzero((levels < -FULL_SCALE) | (levels > FULL_SCALE - 1)))
        pieces.append(np.clip(levels, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16))
    offsets = np.cumsum([0] + [len(piece) for piece in pieces])
    return Recordings(np.concatenate(pieces), offsets, overshoots)
