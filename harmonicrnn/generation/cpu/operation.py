"""The operations of a worker's program, each with a record of numbers and addresses for its compiled step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from harmonicrnn.generation.cpu.addresses import Place, Room, address, aligned
from harmonicrnn.generation.cpu.llvm import LINE
from harmonicrnn.generation.cpu.products import Products
from harmonicrnn.models import ModelState

Find = Callable[[ModelState], Any]
"""Finds a layer's state in the model's state."""


class Team:
    """Buffers shared by the workers of a layer: the rooms for their parts of sums, and the logits."""

    def __init__(self, ranks: int, dtype: np.dtype, classes: int) -> None:
        self.ranks, self.logits = ranks, Room(dtype, classes)
        # A part is rewritten only after a barrier that follows its last read: a block has at least two barriers.
        self.parts = {name: [Room(dtype) for _ in range(ranks)] for name in ("projection", "mixer", "mlp")}
        self.flags = np.zeros(0)  # for the barriers, a cache line per worker

    def begin(self, lanes: int) -> None:
        self.flags = aligned(self.ranks * LINE // 8, np.dtype(np.int64))
        for room in (self.logits, *(room for rooms in self.parts.values() for room in rooms)):
            room.begin(lanes)


@dataclass
class Share:
    """One worker's share of a model, from which its operations are built.

    rank: the worker's index in its team.
    products: the matrices of all operations.
    rooms: private to this worker.
    """

    rank: int
    team: Team
    dtype: np.dtype
    products: Products
    rooms: list[Room] = field(default_factory=list)

    def room(self, width: int = 0) -> Room:
        self.rooms.append(Room(self.dtype, width))
        return self.rooms[-1]

    def part(self, size: int, unit: int = 1) -> range:
        """Returns this worker's part of range(size), in multiples of `unit`."""
        units = -(-size // unit)
        first, end = (min(size, units * rank // self.team.ranks * unit) for rank in (self.rank, self.rank + 1))
        return range(first, end)


class Operation:
    """A step of the program.

    Args:
        share: the worker's share.
        values: of the record's fields. A tensor is copied and its field holds the address. For a place the field holds the address, and the
            field of that name with `_stride` the stride of lanes; both are set by `begin`.
    """

    layout: ClassVar[np.dtype]
    step: Any
    """Compiled `step(tag, at, worker)`: `tag` is any number of the type of the activations, `at` the record's address, `worker` that of a
    WORKER. Returns how many of the following operations to skip."""

    def __init__(self, share: Share, **values: float | Tensor | Place) -> None:
        self.share, self.record = share, np.zeros(1, self.layout)
        self._places: dict[str, Place] = {}
        self._kept: list[np.ndarray] = []
        for name, value in values.items():
            if isinstance(value, Place):
                self._places[name] = value
            elif isinstance(value, Tensor):
                self.record[name] = self.array(tuple(value.shape))
                self._kept[-1][...] = value.detach().double().numpy()
            else:
                self.record[name] = value

    def array(self, shape: tuple[int, ...]) -> int:
        """Returns the address of zeros that live as long as the operation."""
        self._kept.append(aligned(shape, self.share.dtype))
        return address(self._kept[-1])

    def begin(self, lanes: int) -> None:
        """Allocates the state for `lanes` lanes; the rooms are allocated already."""
        for name, place in self._places.items():
            self.record[name], self.record[f"{name}_stride"] = place.address, place.room.width

    def load(self, state: ModelState) -> None:
        """Loads this operation's part of a state."""

    def store(self, state: ModelState) -> None:
        """Writes this operation's part of the state into the tensors of `state`."""
