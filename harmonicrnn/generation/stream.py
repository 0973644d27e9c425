"""Audio as it is drawn, block by block."""

from collections.abc import Iterator
from threading import Lock

import numpy as np
from torch import Tensor

from harmonicrnn.audio import Quantiser
from harmonicrnn.generation.engine import Engine
from harmonicrnn.generation.sampler import draw, generator
from harmonicrnn.models import ModelState

ENDLESS = 1 << 62  # samples, which no one will hear the end of


class Stream(Iterator[np.ndarray]):
    """Blocks (n,) of float32 samples in [-1, 1], each drawn when it is asked for. Nothing is drawn ahead, and nothing is kept.

    It may be closed by any thread and at any time; blocks are asked for by one thread after the other.

    Args:
        engine: of this stream alone.
        state: of one lane, to start from.
        quantiser: what classes sound like.
        block: samples in each, rounded up to whole periods of the engine.
        samples: in all; None for no end.
        seed, temperature, top_p: as for `harmonicrnn.generation.generate`, whose first clip it is.
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
        """Raises StopIteration after the last block or when it was closed; UserError where the model's logits are not finite."""
        with self._lock:
            if self._closed or self._blocks is None:
                self._blocks = None
                raise StopIteration
            classes, _ = next(self._blocks)
        samples: np.ndarray = self._quantiser.decode_centre(classes[0]).numpy()
        return samples

    def close(self) -> None:
        """No block follows. One that is being drawn is finished first; then the engine and its threads are let go."""
        self._closed = True
        with self._lock:
            self._blocks = None

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
