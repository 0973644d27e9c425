"""What a worker's program consists of: operations on rooms, each with a record of numbers and addresses that its compiled step reads."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from harmonicrnn.generation.cpu.addresses import Place, Room, address, aligned, layout
from harmonicrnn.generation.cpu.llvm import LINE
from harmonicrnn.generation.cpu.products import Products
from harmonicrnn.models import ModelState

Find = Callable[[ModelState], Any]
"""Where in the model's state that of a layer is."""

WORKER = layout("lanes", "rank", "ranks", "epoch", "flags", "whole", "whole_stride", "whole_scales", "logits", "logits_stride", "classes")
"""What every step is told: the lanes; the worker's rank among those that share each layer, how often they have met, and the address of
their flags; room for int16; the logits."""


class Team:
    """What workers that share each layer hold in common: the rooms in which each writes its part of a sum, and the logits."""

    def __init__(self, ranks: int, dtype: np.dtype, classes: int) -> None:
        self.ranks, self.logits = ranks, Room(dtype, classes)
        # A part is written again only after a meeting that follows its last reading: a block meets at least twice.
        self.parts = {name: [Room(dtype) for _ in range(ranks)] for name in ("projection", "mixer", "mlp")}
        self.flags = np.zeros(0)  # by which workers wait for one another, a cache line each

    def begin(self, lanes: int) -> None:
        self.flags = aligned(self.ranks * LINE // 8, np.dtype(np.int64))
        for room in (self.logits, *(room for rooms in self.parts.values() for room in rooms)):
            room.begin(lanes)


@dataclass
class Share:
    """One worker's share of a model: what its operations are made with.

    rank: its place among those of its team.
    products: the matrices of all operations.
    rooms: those that only this worker uses.
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
        """This worker's part of `size` things, in whole units."""
        units = -(-size // unit)
        first, end = (min(size, units * rank // self.team.ranks * unit) for rank in (self.rank, self.rank + 1))
        return range(first, end)


class Operation:
    """A step of the program.

    Args:
        share: that it is part of.
        values: of the record's fields. Tensors are copied, and their field holds the address; of a place, the field holds the address and
            the field of that name with `_stride` the distance of lanes, as soon as there are lanes.
    """

    layout: ClassVar[np.dtype]
    step: ClassVar[Any]
    """Compiled `step(tag, address, me)`: `tag` is any number of the type of the activations, `address` the record's, `me` a WORKER.
    Returns how many operations after it are left out."""

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
        """The address of zeros that live as long as the operation."""
        self._kept.append(aligned(shape, self.share.dtype))
        return address(self._kept[-1])

    def begin(self, lanes: int) -> None:
        """Make the states of so many lanes; the rooms are there."""
        for name, place in self._places.items():
            self.record[name], self.record[f"{name}_stride"] = place.address, place.room.width

    def load(self, state: ModelState) -> None:
        """Take up this operation's part of a state."""

    def store(self, state: ModelState) -> None:
        """Write this operation's part of its state into the tensors of `state`."""
