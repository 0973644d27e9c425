"""MixesTime, the base class of layers that mix time, with the slices of a sequence split over ranks."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harmonicrnn.models.state import State, all_fresh
from harmonicrnn.ops import Slices


class MixesTime(nn.Module):
    """Base class of layers with outputs that depend on other steps than their own.

    `slices` is None, or this rank's slice of a longer sequence: then the layer gets the preceding steps from the previous rank, and a state
    passed to it is used on the first rank only.
    """

    slices: Slices | None = None

    @property
    def continues(self) -> bool:
        """Whether the input continues another rank's slice."""
        return self.slices is not None and self.slices.rank > 0

    def fresh_lanes(self, x: Tensor, state: State | None) -> Tensor:
        """Returns the flag `fresh` (B,) of the lanes of x (B, ...) before its first step."""
        fresh: Tensor = all_fresh(x) if state is None else state.fresh  # type: ignore[attr-defined]
        return torch.zeros_like(fresh) if self.continues else fresh


def set_slices(net: nn.Module, slices: Slices | None) -> None:
    """Sets the slice of the sequence for all layers of a model that mix time; None for whole sequences."""
    for layer in net.modules():
        if isinstance(layer, MixesTime):
            layer.slices = slices


@contextmanager
def undivided(net: nn.Module) -> Iterator[None]:
    """Makes the model process whole sequences on this rank inside the context, whatever its slices."""
    kept = [(layer, layer.slices) for layer in net.modules() if isinstance(layer, MixesTime)]
    set_slices(net, None)
    try:
        yield
    finally:
        for layer, slices in kept:
            layer.slices = slices
