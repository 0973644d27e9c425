"""Dropout as a layer, and functions that set the positions in clips on which its masks depend."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from harmonicrnn.ops import combined_key, dropout, key_words


@dataclass(frozen=True)
class DropoutPlace:
    """The inputs of dropout masks, beside the channel.

    keys: (dropout layers, 2) int64, the key of each layer, from `harmonicrnn.ops.key_words`.
    clips: (B,) int64, the index of each lane's clip.
    start: (B,) int64, samples of the clip before the input.
    """

    keys: Tensor
    clips: Tensor
    start: Tensor

    @classmethod
    def of(cls, net: nn.Module, seed: int, step: int, clips: Tensor, start: Tensor) -> Self:
        """Returns the place for a training step of a model with a seed."""
        keys = (combined_key(seed, step, layer) for layer in range(sum(isinstance(m, Dropout) for m in net.modules())))
        return cls(key_words(keys, clips.device), clips, start)


class Dropout(nn.Module):
    """`harmonicrnn.ops.dropout` in training, nothing in evaluation.

    Args:
        rate: fraction of elements set to 0, in [0, 1).
        pooled: samples per step of the input.
    """

    point_wise_in_time = True
    place: DropoutPlace | None = None
    layer = 0
    """Index among the model's dropout layers."""

    def __init__(self, rate: float, pooled: int = 1) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {rate}")
        self.rate, self.pooled = rate, pooled

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) to y (B, T, D)."""
        if not self.training or not self.rate:
            return x
        if self.place is None:
            raise RuntimeError("dropout does not know the place of its input: call set_dropout_place, or eval()")
        place = self.place
        return dropout(x, self.rate, place.keys[self.layer], place.clips, place.start // self.pooled)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def number_dropouts(net: nn.Module) -> None:
    """Numbers the dropout layers of a model."""
    for number, layer in enumerate(m for m in net.modules() if isinstance(m, Dropout)):
        layer.layer = number


def set_dropout_place(net: nn.Module, place: DropoutPlace | None) -> None:
    """Sets the place of the next input for all dropout layers; None lets HarmonicRNN draw one at random."""
    for layer in net.modules():
        if isinstance(layer, Dropout):
            layer.place = place


def any_place(net: nn.Module, x: Tensor) -> DropoutPlace | None:
    """Returns a random place for an input (B, ...); None if the layers have one, or need none."""
    layers = [m for m in net.modules() if isinstance(m, Dropout)]
    if not net.training or not any(layer.rate for layer in layers) or layers[0].place is not None:
        return None
    lanes = torch.arange(x.shape[0], device=x.device)
    return DropoutPlace(torch.randint(2**32, (len(layers), 2), device=x.device), lanes, torch.zeros_like(lanes))


@contextmanager
def at_place(net: nn.Module, place: DropoutPlace | None) -> Iterator[None]:
    """Sets the place inside the context; None leaves it unchanged."""
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
