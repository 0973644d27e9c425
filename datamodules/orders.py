"""Orders: sequences of batches of pieces of recordings.

A piece is a range of samples of one recording. An order yields the pieces of an epoch as global batches, a function of (seed, epoch);
each rank takes its share of each batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count, islice, repeat, zip_longest
from typing import NamedTuple

import numpy as np


class Piece(NamedTuple):
    """Samples [start, stop) of a recording; `clip` is its number in the split, -1 for an empty lane.

    `context` is the number of samples of the recording before `start` that the carried state has seen; None if no state is carried.
    """

    recording: int
    start: int
    stop: int
    clip: int
    context: int | None = None


RESTING = Piece(0, 0, 0, -1, 0)


def clip_table(lengths: Sequence[int], clip_samples: int, keep_tails: bool) -> list[Piece]:
    """Cut recordings into consecutive clips; a shorter remainder is kept as a clip if `keep_tails`, else dropped."""
    table: list[Piece] = []
    for recording, length in enumerate(lengths):
        for start in range(0, length, clip_samples):
            stop = min(start + clip_samples, length)
            if keep_tails or stop - start == clip_samples:
                table.append(Piece(recording, start, stop, len(table)))
    return table


@dataclass(frozen=True)
class Clips:
    """Clips at fixed positions: shuffled in each epoch, in full batches only; or in order, including a smaller last batch."""

    table: Sequence[Piece]
    batch_size: int
    seed: int
    shuffle: bool

    def __len__(self) -> int:
        return len(self.table) // self.batch_size if self.shuffle else -(-len(self.table) // self.batch_size)

    def batches(self, epoch: int) -> Iterator[list[Piece]]:
        n = len(self.table)
        order = np.random.default_rng([self.seed, epoch]).permutation(n) if self.shuffle else np.arange(n)
        for i in range(len(self)):
            yield [self.table[j] for j in order[i * self.batch_size : (i + 1) * self.batch_size]]


@dataclass(frozen=True)
class Crops:
    """Clips at random positions, uniform over all recordings; crop i of an epoch is a function of (seed, epoch, i).

    An epoch has `clips` crops, in full batches only. Recordings shorter than a clip are kept whole if `keep_short`, else ignored.
    """

    lengths: Sequence[int]
    clip_samples: int
    clips: int
    batch_size: int
    seed: int
    keep_short: bool

    def __len__(self) -> int:
        return self.clips // self.batch_size

    def batches(self, epoch: int) -> Iterator[list[Piece]]:
        places = np.asarray(self.lengths) - self.clip_samples + 1
        ends = np.cumsum(np.maximum(places, 1 if self.keep_short else 0))
        for i in range(len(self)):
            yield [self._crop(epoch, j, ends) for j in range(i * self.batch_size, (i + 1) * self.batch_size)]

    def _crop(self, epoch: int, index: int, ends: np.ndarray) -> Piece:
        place = int(np.random.default_rng([self.seed, epoch, index]).integers(ends[-1]))
        recording = int(np.searchsorted(ends, place, side="right"))
        start = place - (int(ends[recording - 1]) if recording else 0)
        return Piece(recording, start, min(start + self.clip_samples, self.lengths[recording]), index)


@dataclass(frozen=True)
class Sequential:
    """Consecutive chunks of whole recordings in each lane of the batch; a lane that reaches the end takes the next recording.

    If `repeat`, recordings are shuffled in each pass, and lanes continue across epochs; the length of an epoch is the number of chunks
    divided by the lanes. Otherwise, each recording is read once, and lanes without a recording are empty.
    """

    lengths: Sequence[int]
    clip_samples: int
    batch_size: int
    seed: int
    repeat: bool

    def __len__(self) -> int:
        return self._batches

    def batches(self, epoch: int) -> Iterator[list[Piece]]:
        first_clip = np.cumsum([0, *self._chunks]).tolist()
        walk = islice(self._walk(), epoch * len(self), (epoch + 1) * len(self)) if self.repeat else self._walk()
        for places in walk:
            batch = []
            for recording, chunk in places:
                start = chunk * self.clip_samples
                stop = min(start + self.clip_samples, self.lengths[recording])
                batch.append(RESTING if chunk < 0 else Piece(recording, start, stop, first_clip[recording] + chunk, start))
            yield batch

    @cached_property
    def _batches(self) -> int:
        return sum(self._chunks) // self.batch_size if self.repeat else sum(1 for _ in self._walk())

    @cached_property
    def _chunks(self) -> list[int]:
        """Number of chunks of each recording."""
        return [-(-length // self.clip_samples) for length in self.lengths]

    def _walk(self) -> Iterator[tuple[tuple[int, int], ...]]:
        """Yield batches of (recording, number of its chunk); the number is -1 for an empty lane."""
        n = len(self.lengths)
        turns = (np.random.default_rng([self.seed, turn]).permutation(n).tolist() for turn in count()) if self.repeat else [range(n)]
        chunks = (zip(repeat(recording), range(self._chunks[recording])) for recording in chain.from_iterable(turns))
        # The lanes share one iterator, from which each takes its next recording.
        return zip_longest(*(chain.from_iterable(chunks) for _ in range(self.batch_size)), fillvalue=(0, -1))
