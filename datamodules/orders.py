"""Which piece of which recording comes when.

A piece is a chunk of one recording. An order gives the pieces of an epoch as global batches, a function of (seed, epoch) alone; ranks take
their share of each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heapreplace
from itertools import chain, count, islice
from typing import NamedTuple

import numpy as np


class Piece(NamedTuple):
    """Samples start .. stop of a recording, number `clip` of its split; -1 is a lane that rests.

    `context` is how many samples of the recording the lane has already seen and carries in its state, 0 where it begins anew; None where no
    state is carried.
    """

    recording: int
    start: int
    stop: int
    clip: int
    context: int | None = None


RESTING = Piece(0, 0, 0, -1, 0)


def clip_table(lengths: Sequence[int], clip_samples: int, keep_tails: bool) -> list[Piece]:
    """Clips in order: each recording cut from its start; a shorter rest is kept as a clip of its own or dropped."""
    table: list[Piece] = []
    for recording, length in enumerate(lengths):
        for start in range(0, length, clip_samples):
            stop = min(start + clip_samples, length)
            if keep_tails or stop - start == clip_samples:
                table.append(Piece(recording, start, stop, len(table)))
    return table


@dataclass(frozen=True)
class Clips:
    """Clips at fixed positions; shuffled anew each epoch and in full batches, or in order and all of them."""

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
    """Clips at random positions, each position of all recordings equally likely: crop i of an epoch is a function of (seed, epoch, i).

    As many crops make an epoch as there are clips at fixed positions. Recordings shorter than a clip are kept whole or left out.
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
    """Each lane of the batch walks through whole recordings, chunk after chunk; a lane that is through takes the next recording.

    Repeating, the recordings come in a new random order each time and the lanes walk on over the borders of epochs, of which each is as
    long as all chunks divided by the lanes. Not repeating, every recording comes once, and lanes that find none left rest.
    """

    lengths: Sequence[int]
    clip_samples: int
    batch_size: int
    seed: int
    repeat: bool

    def __len__(self) -> int:
        return self._batches

    def batches(self, epoch: int) -> Iterator[list[Piece]]:
        if self.repeat:
            yield from islice(self._walk(self._forever(), epoch * len(self)), len(self))
        else:
            yield from self._walk(iter(range(len(self.lengths))), 0)

    @cached_property
    def _batches(self) -> int:
        if self.repeat:
            return sum(self._chunks) // self.batch_size
        return sum(1 for _ in self._walk(iter(range(len(self.lengths))), 0))

    @cached_property
    def _chunks(self) -> list[int]:
        """Of each recording."""
        return [-(-length // self.clip_samples) for length in self.lengths]

    def _forever(self) -> Iterator[int]:
        n = len(self.lengths)
        return chain.from_iterable(np.random.default_rng([self.seed, turn]).permutation(n).tolist() for turn in count())

    def _walk(self, recordings: Iterator[int], first: int) -> Iterator[list[Piece]]:
        """Batches from number `first` on; those before it are passed by whole recordings."""
        first_clip = np.cumsum([0, *self._chunks]).tolist()
        lanes: list[tuple[int, int] | None] = [None] * self.batch_size  # recording, and the batch that it began in
        free = [(0, lane) for lane in range(self.batch_size)]  # a heap: when a lane is through, and the lane
        for number in count(first):
            while free and free[0][0] <= number:
                began, lane = free[0]
                recording = next(recordings, None)
                if recording is None:
                    heappop(free)
                    lanes[lane] = None
                else:
                    heapreplace(free, (began + self._chunks[recording], lane))
                    lanes[lane] = recording, began
            if not free:
                return
            batch = []
            for place in lanes:
                if place is None:
                    batch.append(RESTING)
                    continue
                recording, began = place
                start = (number - began) * self.clip_samples
                stop = min(start + self.clip_samples, self.lengths[recording])
                batch.append(Piece(recording, start, stop, first_clip[recording] + number - began, start))
            yield batch
