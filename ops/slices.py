"""A sequence split along time: each rank holds one contiguous slice, in order, and has what lies before it told by the others.

What a slice does to a state is its summary: the product of its a, and its last state from zero. With the summaries of all slices before
it a rank knows the state that its own begins with; with those of the adjoint recurrence of all slices after it, the gradient that comes
back to its last state. The product serves as a number alone: nothing differentiates it, since it underflows.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from torch import Tensor


class Slices(Protocol):
    """The place of one rank along time, and its exchanges with the others. Every rank makes the same exchanges in the same order.

    rank: 0 for the slice that begins the sequence.
    size: number of ranks along time.
    """

    rank: int
    size: int

    def gather(self, x: Tensor) -> Tensor:
        """x of all ranks, (size, *x.shape); without gradients."""

    def begin_halo(self, tail: Tensor) -> Callable[[Tensor], Tensor]:
        """As `halo` of a slice that ends with `tail` (B, steps, D), under way while other work goes on: a function of `first`."""

    def halo(self, x: Tensor, first: Tensor) -> Tensor:
        """The steps that precede the slice x (B, T, D), as many as `first` (B, steps, D) has; with gradients for both.

        `first` precedes the whole sequence: rank 0's counts, the others' is only a shape.
        """


def fold(start: Tensor, products: Iterable[Tensor], lasts: Iterable[Tensor]) -> Tensor:
    """The state (B, N) after some slices, from the one before them and their summaries."""
    for product, last in zip(products, lasts, strict=True):
        start = product * start + last
    return start
