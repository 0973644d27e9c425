"""Streams audio block by block as it is drawn."""

from collections.abc import Iterator
from threading import Lock

import numpy as np
from torch import Tensor

from harmonicrnn.audio import Quantiser
from harmonicrnn.generation.engine import Engine
from harmonicrnn.generation.sampler import draw, generator
from harmonicrnn.models import ModelState

ENDLESS = 1 << 62  # samples, practically unlimited


class Stream(Iterator[np.ndarray]):
    """Iterator over blocks (n,) of float32 samples in [-1, 1], drawn on demand. Nothing is drawn ahead or kept.

    Any thread may close it at any time; only one thread at a time may take blocks.

    Args:
        engine: used by this stream only.
        state: initial state of one lane.
        quantiser: decodes classes.
        block: samples per block, rounded up to whole periods of the engine.
        samples: in all; None for no end.
        seed, temperature, top_p: as for `harmonicrnn.generation.generate`; the stream equals its first clip.
    """

    def __init__(
        self,
        engine: Engine,
        state: ModelState,
        quantiser: Quantiser,
        block: int,
        samples: int | None,
        seed: int,
        temperature: float,
        top_p: float,
    ) -> None:
        engine.start(state)
        pieces = draw(engine, ENDLESS if samples is None else samples, [generator(seed, 0)], temperature, top_p, at_once=block)
        self._blocks: Iterator[tuple[Tensor, Tensor]] | None = pieces
        self._quantiser, self._lock, self._closed = quantiser, Lock(), False

    def __next__(self) -> np.ndarray:
        """Raises StopIteration after the last block or when closed; UserError if the model's logits are not finite."""
        with self._lock:
            if self._closed or self._blocks is None:
                self._blocks = None
                raise StopIteration
            classes, _ = next(self._blocks)
        samples: np.ndarray = self._quantiser.decode_centre(classes[0]).numpy()
        return samples

    def close(self) -> None:
        """Ends the stream after the block being drawn, and releases the engine and its threads."""
        self._closed = True
        with self._lock:
            self._blocks = None

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
