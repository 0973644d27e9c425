"""A sequence split along time: each rank holds one contiguous slice, in order, and has what lies before it told by the others.

What a slice does to a state is its summary: the product of its a, and its last state from zero. With the summaries of all slices before
it a rank knows the state that its own begins with; with those of the adjoint recurrence of all slices after it, the gradient that comes
back to its last state. The product serves as a number alone: nothing differentiates it, since it underflows.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import torch
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

    def from_last(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """The last rank's tensors on every rank, without gradients, in one exchange."""


def fold(start: Tensor, products: Iterable[Tensor], lasts: Iterable[Tensor]) -> Tensor:
    """The state (B, N) after some slices, from the one before them and their summaries."""
    for product, last in zip(products, lasts, strict=True):
        start = product * start + last
    return start


def state_before(slices: Slices, product: Tensor, last: Tensor, h0: Tensor) -> Tensor:
    """The state (B, N) that this rank's slice begins with: one exchange.

    product and last are the slice's summary; rank 0's last counts from h0, the state that precedes the sequence, so that the others need
    not know it; theirs from zero.
    """
    products, lasts = slices.gather(torch.stack([product, last])).unbind(1)
    return fold(lasts[0], products[1 : slices.rank], lasts[1 : slices.rank]) if slices.rank else h0


def gradient_after(slices: Slices, product: Tensor, carry: Tensor, grad_last: Tensor) -> Tensor:
    """The gradient (B, N) that comes back to this slice's last state, from the later slices as well: one exchange.

    product is the slice's, carry what it sends to the state before it, grad_last the gradient of its last state from elsewhere.
    """
    products, carries = slices.gather(torch.stack([product.conj(), carry]))[slices.rank + 1 :].flip(0).unbind(1)
    return grad_last + fold(torch.zeros_like(grad_last), products, carries)
