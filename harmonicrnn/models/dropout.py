"""Dropout as a layer, and how it is told where in which clip its input stands."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from harmonicrnn.ops import combined_key, dropout, key_words


@dataclass(frozen=True)
class DropoutPlace:
    """What masks are a function of, beside the channel.

    keys: (dropout layers, 2) int64, the key of each layer of the model, as `harmonicrnn.ops.key_words` makes them.
    clips: (B,) int64, the number of each lane's clip.
    start: (B,) int64, samples of the clip before the first one of the input.
    """

    keys: Tensor
    clips: Tensor
    start: Tensor

    @classmethod
    def of(cls, net: nn.Module, seed: int, step: int, clips: Tensor, start: Tensor) -> Self:
        """Of a step of a training of the model with that seed."""
        keys = (combined_key(seed, step, layer) for layer in range(sum(isinstance(m, Dropout) for m in net.modules())))
        return cls(key_words(keys, clips.device), clips, start)


class Dropout(nn.Module):
    """`harmonicrnn.ops.dropout` in training, nothing in evaluation.

    Args:
        rate: share of numbers that are set to 0, in [0, 1).
        pooled: samples that make one step of the input.
    """

    point_wise_in_time = True
    place: DropoutPlace | None = None
    layer = 0
    """Number among the model's layers of this kind."""

    def __init__(self, rate: float, pooled: int = 1) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {rate}")
        self.rate, self.pooled = rate, pooled

    def forward(self, x: Tensor) -> Tensor:
        """x and y (B, T, D)."""
        if not self.training or not self.rate:
            return x
        if self.place is None:
            raise RuntimeError("dropout has not been told where its input stands: see set_dropout_place, or call eval()")
        place = self.place
        return dropout(x, self.rate, place.keys[self.layer], place.clips, place.start // self.pooled)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def number_dropouts(net: nn.Module) -> None:
    """Give each dropout layer of a model a number of its own."""
    for number, layer in enumerate(m for m in net.modules() if isinstance(m, Dropout)):
        layer.layer = number


def set_dropout_place(net: nn.Module, place: DropoutPlace | None) -> None:
    """Tell all dropout layers of a model where the next input stands; None lets HarmonicRNN draw one at random."""
    for layer in net.modules():
        if isinstance(layer, Dropout):
            layer.place = place


def any_place(net: nn.Module, x: Tensor) -> DropoutPlace | None:
    """A place drawn at random for an input (B, ...) of a model that was told none; None where its layers have one, or need none."""
    layers = [m for m in net.modules() if isinstance(m, Dropout)]
    if not net.training or not any(layer.rate for layer in layers) or layers[0].place is not None:
        return None
    lanes = torch.arange(x.shape[0], device=x.device)
    return DropoutPlace(torch.randint(2**32, (len(layers), 2), device=x.device), lanes, torch.zeros_like(lanes))


@contextmanager
def at_place(net: nn.Module, place: DropoutPlace | None) -> Iterator[None]:
    """For what is computed inside; None leaves the places as they are."""
    if place is None:
        yield
        return
    layers = [(m, m.place) for m in net.modules() if isinstance(m, Dropout)]
    set_dropout_place(net, place)
    try:
        yield
    finally:
        for layer, before in layers:
            layer.place = before
