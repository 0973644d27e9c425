"""Layers that mix time, and what they know of a sequence that is split over ranks."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from harmonicrnn.models.state import State, all_fresh
from harmonicrnn.ops import Slices


class MixesTime(nn.Module):
    """Base of the layers whose output at one step depends on other steps.

    `slices` is None, or the place of this rank's slice in a longer sequence: then the layer has what comes before the slice from the rank
    before it, and a state given to it counts on the first rank alone.
    """

    slices: Slices | None = None

    @property
    def continues(self) -> bool:
        """Whether the input begins where another rank's ends."""
        return self.slices is not None and self.slices.rank > 0

    def fresh_lanes(self, x: Tensor, state: State | None) -> Tensor:
        """The flag `fresh` (B,) of the lanes of x (B, ...) before its first step."""
        fresh: Tensor = all_fresh(x) if state is None else state.fresh  # type: ignore[attr-defined]
        return torch.zeros_like(fresh) if self.continues else fresh


def set_slices(net: nn.Module, slices: Slices | None) -> None:
    """Tell all layers of a model that mix time which slice of its sequences it is given; None for whole ones."""
    for layer in net.modules():
        if isinstance(layer, MixesTime):
            layer.slices = slices


@contextmanager
def undivided(net: nn.Module) -> Iterator[None]:
    """For whole sequences on this rank alone, whatever slices the model is set to otherwise."""
    kept = [(layer, layer.slices) for layer in net.modules() if isinstance(layer, MixesTime)]
    set_slices(net, None)
    try:
        yield
    finally:
        for layer, slices in kept:
            layer.slices = slices
